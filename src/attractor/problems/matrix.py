"""Low-rank matrices: recovered from linear measurements, or factored."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.probe import Probe
from attractor.registry import problem


@problem("matrix-sensing", metric="error", steps=1_000, target=1e-2)
def matrix_sensing(
    dim: int = 20,
    rank: int = 2,
    measurements: int = 400,
    search_rank: int | None = None,
    outliers: float = 0.0,
    outlier_size: float = 10.0,
    start: float = 1e-2,
    norm: str = "l2",
    seed: int = 0,
) -> Composite:
    r"""Recover a positive semidefinite matrix of low rank from random linear measurements of it.

    $$ f(U) = \frac{1}{2m} \sum_i (\langle A_i, U U^\top \rangle - y_i)^2 \quad\text{or}\quad
    \frac{1}{m} \sum_i |\langle A_i, U U^\top \rangle - y_i| $$

    The $A_i$ are Gaussian, the truth $X = V V^\top$ has spectral norm 1. Recorded besides the loss: ``error``,
    $\lVert U U^\top - X \rVert_F / \lVert X \rVert_F$. Without outliers the minimum is 0, at the truth.

    Arguments:
        dim: Rows of the matrix.
        rank: Of the truth.
        measurements: m; about 2 · dim · rank are needed.
        search_rank: Columns of U, at least ``rank``; default: ``rank``.
        outliers: Share of measurements with large noise added, in [0, 1).
        outlier_size: Standard deviation of that noise.
        start: U starts with independent normal entries of this size, over the root of ``dim``; > 0.
        norm: ``"l2"`` or ``"l1"``.
        seed: Of truth and measurements.

    Raises:
        ValueError: for an argument out of range.
    """
    search_rank = rank if search_rank is None else search_rank
    in_range("rank", rank, 1, dim)
    in_range("search_rank", search_rank, rank, dim)
    in_range("measurements", measurements, 1)
    in_range("outliers", outliers, 0.0, 1.0, open_high=True)
    in_range("start", start, 0.0, open_low=True)
    if norm not in _OUTER:
        raise ValueError(f"norm: expected 'l2' or 'l1', got {norm!r}")
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((dim, rank))
    truth = factor @ factor.T / np.linalg.norm(factor, 2) ** 2
    sensors = rng.standard_normal((measurements, dim, dim))
    values = np.einsum("kij,ij->k", sensors, truth)
    bad = rng.random(measurements) < outliers
    values = values + np.where(bad, outlier_size * rng.standard_normal(measurements), 0)
    return Composite(
        _sensed,
        _OUTER[norm],
        eqx.Partial(_start, dim, search_rank, start),
        (jnp.asarray(sensors, float), jnp.asarray(values, float)),
        optimum=None if outliers else 0.0,
        probes={"error": Probe(eqx.Partial(_recovery_error, jnp.asarray(truth, float)))},
    )


@problem("matrix-factorization", metric="loss", steps=1_000, target=1e-4)
def matrix_factorization(
    rows: int = 30, columns: int = 20, rank: int = 3, search_rank: int | None = None, start: float = 0.1, seed: int = 0
) -> Composite:
    r"""Factor a matrix of known rank into two, from a small start: no bad minima, minimum 0.

    $$ f(U, V) = \tfrac12 \lVert U V^\top - M \rVert_F^2 $$

    The largest singular value of M is 1. The iterate is the pair (U, V).

    Arguments:
        rows: Of M.
        columns: Of M.
        rank: Of M.
        search_rank: Columns of U and V, at least ``rank``; default: ``rank``.
        start: Size of the entries at the start, independent and normal; > 0.
        seed: Of M.

    Raises:
        ValueError: for an argument out of range.
    """
    search_rank = rank if search_rank is None else search_rank
    in_range("rank", rank, 1, min(rows, columns))
    in_range("search_rank", search_rank, rank)
    in_range("start", start, 0.0, open_low=True)
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))
    matrix = jnp.asarray(matrix / np.linalg.norm(matrix, 2), float)

    return Composite.least_squares(
        eqx.Partial(_misfit, matrix), eqx.Partial(_factors, rows, columns, search_rank, start), optimum=0.0
    )


def _misfit(matrix: Float[Array, "n m"], x: tuple[Array, Array], batch: None = None) -> Float[Array, "n m"]:
    return x[0] @ x[1].T - matrix


def _factors(rows: int, columns: int, rank: int, size: float, key: PRNGKeyArray) -> tuple[Array, Array]:
    left, right = jr.split(key)
    return size * jr.normal(left, (rows, rank)), size * jr.normal(right, (columns, rank))


def _sensed(u: Float[Array, "d r"], batch: tuple[Array, Array]) -> Float[Array, " m"]:
    sensors, values = batch
    return jnp.tensordot(sensors, u @ u.T, 2) - values


def _mean_half_square(residuals: Float[Array, " m"], batch: tuple[Array, Array]) -> Float[Array, ""]:
    return 0.5 * jnp.mean(residuals**2)


def _mean_absolute(residuals: Float[Array, " m"], batch: tuple[Array, Array]) -> Float[Array, ""]:
    return jnp.mean(jnp.abs(residuals))


_OUTER = {"l2": _mean_half_square, "l1": _mean_absolute}


def _start(dim: int, rank: int, size: float, key: PRNGKeyArray) -> Float[Array, "d r"]:
    return size * jr.normal(key, (dim, rank)) / dim**0.5


def _recovery_error(truth: Float[Array, "d d"], problem: Composite, u: Float[Array, "d r"], key: PRNGKeyArray) -> Array:
    return jnp.linalg.norm(u @ u.T - truth) / jnp.linalg.norm(truth)


def translated_bumps(
    seed: int, count: int = 12, side: int = 8, width: float = 0.1
) -> tuple[Float[Array, "n side side"], Float[Array, "cells cells"]]:
    """Histograms over the unit square of Gaussian bumps at random places, and the squared distances of its cells.

    Arguments:
        seed: Of the places, uniform in the middle 0.6 of the square.
        count: n, at least 1.
        side: Cells along an edge, at least 2.
        width: Standard deviation of a bump, in (0, inf).

    Returns:
        The histograms, each of sum 1 and nowhere 0, and the cost of moving mass, cells numbered row by row.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("count", count, 1)
    in_range("side", side, 2)
    in_range("width", width, 0.0, open_low=True)
    cells = np.linspace(0, 1, side)
    points = np.stack(np.meshgrid(cells, cells, indexing="ij"), -1).reshape(-1, 2)
    centers = np.random.default_rng(seed).uniform(0.2, 0.8, (count, 1, 2))
    histograms = np.exp(-((points - centers) ** 2).sum(-1) / (2 * width**2)) + 1e-6
    histograms /= histograms.sum(1, keepdims=True)
    return jnp.asarray(histograms.reshape(-1, side, side)), jnp.asarray(((points[:, None] - points) ** 2).sum(-1))
