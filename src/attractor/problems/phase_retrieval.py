"""Phase retrieval: a signal from measurements that have lost their signs."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.objectives import Composite


def robust_phase_retrieval(
    dim: int = 10,
    samples: int = 60,
    outliers: float = 0.0,
    spread: float = 0.3,
    batch_size: int | None = 1,
    seed: int = 0,
) -> Composite:
    r"""Recover a signal of length 1 from squared projections, some of them wrong, by their absolute errors.

    $$ f(x) = \frac1m \sum_i \bigl| \langle a_i, x \rangle^2 - b_i \bigr|, \qquad a_i \sim N(0, I) $$

    Weakly convex, with kinks. Without outliers the minimum is 0, at the signal and at its negative.

    Arguments:
        dim: Of the signal, whose entries are equal.
        samples: Measurements m; some three times ``dim`` are needed.
        outliers: Share of the $b_i$ replaced by exponential noise of mean 4, in [0, 1).
        spread: Standard deviation of each entry of the start around the signal, in [0, inf).
        batch_size: Measurements per step; `None`: all.
        seed: Of measurements and outliers.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("dim", dim, 1)
    in_range("samples", samples, 1)
    in_range("outliers", outliers, 0.0, 1.0, open_high=True)
    in_range("spread", spread, 0.0)
    rng, signal = np.random.default_rng(seed), np.ones(dim) / dim**0.5
    rows = rng.standard_normal((samples, dim))
    intensities = (rows @ signal) ** 2
    wrong = rng.permutation(samples)[: round(outliers * samples)]
    intensities[wrong] = rng.exponential(4.0, len(wrong))
    return Composite(
        phase_errors,
        _mean_size,
        eqx.Partial(_start, jnp.asarray(signal, float), jnp.asarray(spread, float)),
        (jnp.asarray(rows, float), jnp.asarray(intensities, float)),
        batch_size=batch_size,
        optimum=None if outliers else 0.0,
    )


def quartic_phase_retrieval(
    dim: int = 20,
    samples: int = 100,
    distance: float = 10.0,
    noise: float = 0.0,
    batch_size: int | None = None,
    seed: int = 0,
) -> Composite:
    r"""Recover a normal signal from squared projections by their squared errors: a quartic, steep far from its minima.

    $$ f(x) = \frac{1}{4m} \sum_i \bigl( \langle a_i, x \rangle^2 - b_i \bigr)^2, \qquad a_i \sim N(0, I) $$

    The curvature grows as the gradient to the power 2/3: not smooth, but generalized smooth. ``constants["L"]`` is the
    curvature at the signal.

    Arguments:
        dim: Of the signal, standard normal.
        samples: Measurements m; some three times ``dim`` are needed.
        distance: Standard deviation of each entry of the start, which is one point, in [0, inf).
        noise: Standard deviation of noise added to the $b_i$, in [0, inf).
        batch_size: Measurements per step; `None`: all.
        seed: Of measurements, signal, start and noise.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("dim", dim, 1)
    in_range("samples", samples, 1)
    in_range("distance", distance, 0.0)
    in_range("noise", noise, 0.0)
    rng = np.random.default_rng(seed)
    rows, signal, start = rng.standard_normal((samples, dim)), rng.standard_normal(dim), rng.standard_normal(dim)
    intensities = (rows @ signal) ** 2 + noise * rng.standard_normal(samples)
    slopes = (3 * (rows @ signal) ** 2 - intensities)[:, None] * rows
    return Composite(
        phase_errors,
        _quarter_mean_square,
        jnp.asarray(distance * start, float),
        (jnp.asarray(rows, float), jnp.asarray(intensities, float)),
        batch_size=batch_size,
        optimum=None if noise else 0.0,
        solution=None if noise else jnp.asarray(signal, float),
        constants={"L": float(np.linalg.eigvalsh(rows.T @ slopes / samples)[-1])},
    )


def phase_errors(x: Float[Array, " d"], batch: tuple[Float[Array, "m d"], Float[Array, " m"]]) -> Float[Array, " m"]:
    r"""$\langle a_i, x \rangle^2 - b_i$ for every measurement."""
    rows, intensities = batch
    return (rows @ x) ** 2 - intensities


def _mean_size(errors: Float[Array, " m"], batch: Any = None) -> Float[Array, ""]:
    return jnp.mean(jnp.abs(errors))


def _quarter_mean_square(errors: Float[Array, " m"], batch: Any = None) -> Float[Array, ""]:
    return jnp.mean(errors**2) / 4


def _start(signal: Float[Array, " d"], spread: Float[Array, ""], key: PRNGKeyArray) -> Float[Array, " d"]:
    return signal + spread * jr.normal(key, signal.shape)
