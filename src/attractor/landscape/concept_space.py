"""Concept space: how strongly data show a concept, where a generator's samples lie, and how to ask for more of one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attractor.checks import Scalar, in_range


def concept_signal(
    render: Callable[[Float[Array, " k"]], Float[Array, " d"]], concepts: Float[Array, " k"]
) -> Float[Array, " k"]:
    r"""How much data change per unit of each concept, $\sigma_i = \lVert \partial G / \partial z_i \rVert$.

    Arguments:
        render: G, from concepts to data; differentiable.
        concepts: z, where.

    Paper: Emergence of Hidden Capabilities: Exploring Learning Dynamics in Concept Space.
    """
    return jnp.linalg.norm(jax.jacfwd(render)(concepts), axis=0)


def concept_coordinates(samples: Float[Array, "n d"], corners: Float[Array, "*two d"]) -> Float[Array, "n k"]:
    r"""Which corner of concept space each sample is nearest to, as k zeros and ones.

    Their mean over samples is where a generator stands in $[0, 1]^k$; over training it is a path.

    Arguments:
        samples: Data, one a row.
        corners: Data of all 2^k combinations of k binary concepts, indices (concept 1, …, concept k, data).

    Raises:
        ValueError: if an index of a concept does not have two values.

    Paper: Emergence of Hidden Capabilities: Exploring Learning Dynamics in Concept Space.
    """
    shape = corners.shape[:-1]
    if not shape or set(shape) != {2}:
        raise ValueError(f"corners: expected a shape (2, …, 2, d), got {corners.shape}")
    flat = corners.reshape(-1, corners.shape[-1])
    nearest = jnp.argmin(jnp.sum((samples[:, None] - flat) ** 2, -1), 1)
    return jnp.stack(jnp.unravel_index(nearest, shape), 1).astype(samples.dtype)


def composed_embedding(
    base: Float[Array, " e"], others: Float[Array, "k e"], strength: Scalar = 1.0
) -> Float[Array, " e"]:
    r"""A linear intervention in a latent space, $e_0 + s \sum_i (e_i - e_0)$.

    Arguments:
        base: $e_0$, of a condition without any of the concepts.
        others: $e_i$, of conditions with one concept each.
        strength: s; at 1 the directions are added as they are.

    Paper: Emergence of Hidden Capabilities: Exploring Learning Dynamics in Concept Space.
    """
    return base + strength * jnp.sum(others - base, 0)


def overprompt(condition: Float[Array, " k"], concept: int, strength: Scalar) -> Float[Array, " k"]:
    """A condition with one entry times ``strength``, beyond what occurs in training.

    Arguments:
        condition: Concepts asked for.
        concept: Which, 0 … k - 1.
        strength: Above 1 asks for more.

    Raises:
        ValueError: if there is no such concept.

    Paper: Emergence of Hidden Capabilities: Exploring Learning Dynamics in Concept Space.
    """
    in_range("concept", concept, 0, condition.shape[0] - 1)
    return condition.at[concept].multiply(strength)
