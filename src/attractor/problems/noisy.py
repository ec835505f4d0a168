"""Sums whose samples differ by a noise that is known."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import ArrayLike

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


def linear_noise(
    loss: Callable[[Float[Array, " d"]], Float[Array, ""]],
    start: ArrayLike,
    rows: int = 4_096,
    heavy: bool = False,
    seed: int = 0,
    probes: Mapping[str, Any] | None = None,
) -> Minimization:
    r"""A loss whose samples are tilted, one sample a step: $f(x) + \langle \xi_i, x \rangle$.

    The $\xi_i$ have mean zero over all rows, so that the full loss is the loss itself.

    Arguments:
        loss: f.
        start: ``(d,)``.
        rows: Samples, at least 2.
        heavy: Whether the noise is Student's with 1.2 degrees of freedom, of infinite variance, and not normal; over
            the root of d.
        seed: Of the noise.
        probes: Of the problem, by name.

    Raises:
        ValueError: for too few rows.
    """
    in_range("rows", rows, 2)
    rng, d = np.random.default_rng(seed), len(np.asarray(start))
    noise = (rng.standard_t(1.2, (rows, d)) if heavy else rng.standard_normal((rows, d))) / d**0.5
    data = jnp.asarray(noise - noise.mean(0), float)
    tilted = eqx.Partial(_tilted, loss)
    return Minimization(tilted, jnp.asarray(start, float), data, batch_size=1, probes=dict(probes or {}))


def _tilted(loss: Callable[[Array], Array], x: Float[Array, " d"], noise: Float[Array, "n d"]) -> Float[Array, ""]:
    return loss(x) + jnp.mean(noise, 0) @ x
