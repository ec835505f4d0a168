"""What distributed methods share: a model a client, clients' gradients, disagreement, and what is sent in bits."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.distributed.aggregation import Aggregator
from attractor.gradients import grad
from attractor.problem import Federated
from attractor.trees import norm


def spread(x: PyTree, n: int) -> PyTree:
    """One copy of x per client, along a new first axis."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf[None], n, axis=0), x)


def center(models: PyTree) -> PyTree:
    """The mean over the first axis."""
    return jax.tree.map(lambda leaf: leaf.mean(0), models)


def combine(weights: Float[Array, "m n"], models: PyTree) -> PyTree:
    """Weighted sums over the first axis: leaves ``(n, …)`` to ``(m, …)``."""
    return jax.tree.map(lambda leaf: jnp.tensordot(weights.astype(leaf.dtype), leaf, 1), models)


def shift(models: PyTree, scale: Scalar, direction: PyTree) -> PyTree:
    """``models + scale · direction``, in the dtype of the models."""
    return jax.tree.map(lambda p, d: (p + scale * d).astype(p.dtype), models, direction)


def gradients_at(problem: Federated, models: PyTree, batches: PyTree) -> PyTree:
    """Every client's gradient at its own model; leaves ``(n_clients, …)``."""
    return jax.vmap(grad(problem.client_loss))(models, batches)


def sharp_gradients(problem: Federated, models: PyTree, batches: PyTree, radius: Scalar) -> PyTree:
    r"""Every client's gradient at $y + \rho \nabla f(y) / |\nabla f(y)|$, both on one batch."""
    slopes = gradients_at(problem, models, batches)
    if isinstance(radius, float | int) and radius == 0:
        return slopes
    length = jax.vmap(norm)(slopes)
    scale = radius / jnp.where(length > 0, length, 1)
    uphill = jax.tree.map(lambda g: g * jnp.expand_dims(scale, range(1, g.ndim)), slopes)
    return gradients_at(problem, shift(models, 1.0, uphill), batches)


def keys_of_local_steps(key: PRNGKeyArray, steps: int) -> Key[Array, " steps"]:
    """A key a local step; of one step, the very key that was given, so that all methods see the same minibatches."""
    return key[None] if steps == 1 else jr.split(key, steps)


def vectors(models: PyTree) -> Float[Array, "n d"]:
    """Every client's model as one vector."""
    return jax.vmap(lambda model: ravel_pytree(model)[0])(models)


def aggregate(rule: Aggregator, received: list[PyTree], own: PyTree) -> PyTree:
    """One model of many, by a rule for vectors: all arrays of a model together are one.

    Arguments:
        rule: ``(received, own) -> vector``.
        received: Models, at least one, each of the structure and shapes of ``own``.
        own: One's own model, in whose dtypes the result is.

    Raises:
        ValueError: for no model, for one that is not like ``own``, and where they are too few for the rule.
    """
    vector, restore = ravel_pytree(own)
    alike = [jax.tree.map(jnp.shape, model) for model in (own, *received)]
    if len(alike) < 2 or any(shapes != alike[0] for shapes in alike):
        raise ValueError(f"received: expected one or more models with the arrays {alike[0]}, got {alike[1:]}")
    rows = jnp.stack([ravel_pytree(model)[0].astype(vector.dtype) for model in received])
    return restore(rule(rows, vector).astype(vector.dtype))


def disagreement(problem: Any, x: PyTree, key: PRNGKeyArray, state: Any) -> Float[Array, ""]:
    r"""A probe: $\frac1n \sum_i |x_i - \bar x|^2$ of the ``models`` in a method's state."""
    apart = jax.tree.map(lambda leaf: leaf - leaf.mean(0), state.models)
    return norm(apart) ** 2 / jax.tree.leaves(apart)[0].shape[0]


def bits(message: PyTree) -> Int[Array, ""]:
    """What sending a message takes: all of its numbers, or those that are not 0 and where they are, if that is less.

    Arguments:
        message: A pytree of arrays; a position among d takes log2(d) bits, rounded up.
    """
    vector, _ = ravel_pytree(message)
    width = 8 * vector.dtype.itemsize
    return jnp.minimum(vector.size * width, jnp.count_nonzero(vector) * (width + (vector.size - 1).bit_length()))
