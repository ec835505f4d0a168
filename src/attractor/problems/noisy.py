"""Sums whose samples differ by a noise that is known."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.problem import Minimization


def noisy_wells(
    dim: int = 50,
    samples: int = 40_000,
    decay: float = 1.25,
    noise: float = 1.0,
    seed: int = 0,
    batch_size: int | None = None,
) -> Minimization:
    r"""A smooth nonconvex finite sum, whose gradients have the same noise everywhere.

    $$ f(x) = \sum_j j^{-\text{decay}} \frac{x_j^2}{1 + x_j^2} + \frac1n \sum_i \langle \xi_i, x \rangle $$

    with $\xi_i$ normal and $\sum_i \xi_i = 0$, so that the exact gradient is that of the wells. Starts are standard
    normal; the minimum is 0 at the origin.

    Arguments:
        dim: Length of x, at least 1.
        samples: n, at least 2.
        decay: How fast the depths of the wells fall, in [0, inf).
        noise: About $E \lVert \xi \rVert^2$, the trace of the covariance of a sample's gradient, in [0, inf).
        seed: Of the noise.
        batch_size: Samples per stochastic gradient; `None`: all.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("dim", dim, 1)
    in_range("samples", samples, 2)
    in_range("decay", decay, 0.0)
    in_range("noise", noise, 0.0)
    rows = np.random.default_rng(seed).standard_normal((samples, dim)) * (noise / dim) ** 0.5
    data = jnp.asarray(rows - rows.mean(0), dtype=jnp.float32)
    loss = eqx.Partial(_wells, jnp.arange(1.0, dim + 1) ** -decay)
    return Minimization(
        loss, eqx.Partial(_normal, dim), data, batch_size=batch_size, optimum=0.0, solution=jnp.zeros(dim)
    )


def _wells(depths: Float[Array, " d"], x: Float[Array, " d"], batch: Float[Array, "n d"]) -> Float[Array, ""]:
    return jnp.sum(depths * x**2 / (1 + x**2)) + jnp.mean(batch @ x)


def _normal(dim: int, key: PRNGKeyArray) -> Float[Array, " d"]:
    return jr.normal(key, (dim,))
