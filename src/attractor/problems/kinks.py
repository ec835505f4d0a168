"""Losses with kinks, not convex."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.problem import Minimization


def kinked_maximum(pieces: int = 20, dim: int = 10, seed: int = 0) -> Minimization:
    r"""The maximum of kinked functions of random projections, half of them waves: neither smooth nor convex.

    $$ f(x) = \max_i \; |\sin 3 t_i| \text{ or } \max(t_i, 0), \qquad t_i = \langle a_i, x \rangle + b_i $$

    The $a_i$ are normal with mean square norm 1, the $b_i$ uniform in [-1, 1]; the start is standard normal. f >= 0.

    Arguments:
        pieces: An even number >= 2.
        dim: Variables, at least 1.
        seed: Of the pieces.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("dim", dim, 1)
    if pieces < 2 or pieces % 2:
        raise ValueError(f"pieces: expected an even number >= 2, got {pieces}")
    rng = np.random.default_rng(seed)
    rows, shifts = rng.standard_normal((pieces, dim)) / dim**0.5, rng.uniform(-1, 1, pieces)
    loss = eqx.Partial(_largest, jnp.asarray(rows, float), jnp.asarray(shifts, float))
    return Minimization(loss, eqx.Partial(_start, dim))


def _start(dim: int, key: PRNGKeyArray) -> Float[Array, " d"]:
    return jax.random.normal(key, (dim,))


def _largest(
    rows: Float[Array, "m d"], shifts: Float[Array, " m"], x: Float[Array, " d"], batch: None = None
) -> Float[Array, ""]:
    t = rows @ x + shifts
    half = len(t) // 2
    return jnp.max(jnp.concatenate([jnp.abs(jnp.sin(3 * t[:half])), jax.nn.relu(t[half:])]))


def kinked_waves(x: Float[Array, " d"]) -> Float[Array, ""]:
    r"""$\sum_i |\sin 3 x_i| - 0.3 |x_i - 1|$: kinks that point up and kinks that point down."""
    return jnp.sum(jnp.abs(jnp.sin(3 * x)) - 0.3 * jnp.abs(x - 1))


def relu_misfit(x: Float[Array, " 80"]) -> Float[Array, ""]:
    """How far a network of 16 ReLU units is from 1 on one example of 4 inputs; ``x`` are its 80 weights in turn."""
    hidden = jax.nn.relu(x[:64].reshape(16, 4) @ jnp.array([1.0, -0.5, 0.3, 2.0]))
    return jnp.abs(x[64:] @ hidden - 1.0)


def kinked_valley(x: Float[Array, " 2"], noise: Float[Array, "n 2"]) -> Float[Array, ""]:
    r"""A curved valley of kinks with its minimum, another kink, at (1, 1); noise tilts it.

    $$ f(x) = |x_1 - x_2^2| + \tfrac12 |x_2 - 1| + \operatorname{mean}_i \langle \xi_i, x \rangle $$
    """
    return jnp.abs(x[0] - x[1] ** 2) + 0.5 * jnp.abs(x[1] - 1) + jnp.mean(noise @ x)


def kinked_parabolas(x: Float[Array, " 2"]) -> Float[Array, " 2"]:
    r"""Two losses with a common kink, $10 |x_1| + x_2^2$ and $10 |x_1| + (x_2 - 1)^2$: optimal on {0} x [0, 1]."""
    kink = 10 * jnp.abs(x[0])
    return jnp.stack([kink + x[1] ** 2, kink + (x[1] - 1) ** 2])
