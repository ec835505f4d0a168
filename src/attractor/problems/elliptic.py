"""Elliptic equations on the unit square as sparse symmetric systems: Poisson, Darcy flow with random coefficients."""

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sparse
from jaxtyping import Array, Float

from attractor.checks import in_range


def poisson_matrix(side: int) -> sparse.csr_array:
    r"""The five-point Laplacian $-h^2 \Delta$ on ``side``² inner points, zero outside: 4 on the diagonal, -1 beside it.

    Arguments:
        side: Points per direction, at least 1.
    """
    in_range("side", side, 1)
    return darcy_matrix(np.zeros((side, side)))


def poisson_product(u: Float[Array, "height width"]) -> Float[Array, "height width"]:
    """The five-point Laplacian of `poisson_matrix` times a grid of values, without the matrix, and compiled.

    Arguments:
        u: Values at the inner points.
    """
    around = jnp.pad(u, 1)
    return 4 * u - around[2:, 1:-1] - around[:-2, 1:-1] - around[1:-1, 2:] - around[1:-1, :-2]


def darcy_matrix(log_coefficients: Float[np.ndarray, "side side"]) -> sparse.csr_array:
    r"""$-h^2 \nabla \cdot (k \nabla u)$ by finite volumes, k between two cells their harmonic mean, u zero outside.

    Arguments:
        log_coefficients: $\log k$ at the points.

    Raises:
        ValueError: for a field that is not square or not finite.
    """
    field = np.asarray(log_coefficients, float)
    if field.ndim != 2 or field.shape[0] != field.shape[1] or field.size == 0 or not np.isfinite(field).all():
        raise ValueError(f"log_coefficients: expected a finite square array, got shape {field.shape}")
    side, k = len(field), np.exp(field)
    index = np.arange(side * side).reshape(side, side)
    padded = np.pad(k, 1, mode="edge")
    diagonal, entries = np.zeros((side, side)), []
    for axis, step in ((0, -1), (0, 1), (1, -1), (1, 1)):
        beside = np.roll(padded, -step, axis)[1:-1, 1:-1]
        between = 2 * k * beside / (k + beside)
        diagonal += between
        inside = np.roll(np.pad(np.ones((side, side), bool), 1), -step, axis)[1:-1, 1:-1]
        entries.append((-between[inside], index[inside], np.roll(index, -step, axis)[inside]))
    values, rows, columns = (np.concatenate(x) for x in zip(*entries, strict=True))
    return sparse.csr_array(
        sparse.coo_array((values, (rows, columns)), (side * side,) * 2) + sparse.diags_array(diagonal.ravel())
    )


def gaussian_field(seed: int, side: int, length: float = 0.2) -> Float[np.ndarray, "side side"]:
    r"""A random smooth field of mean 0 and variance near 1: cosines with amplitudes $(\pi^2 |m|^2 + \ell^{-2})^{-1}$.

    Arguments:
        seed: Of its coefficients.
        side: Points per direction.
        length: $\ell$, the distance over which values are alike; positive.
    """
    in_range("length", length, 0.0, open_low=True)
    modes = np.arange(16)
    spectrum = (np.pi**2 * (modes[:, None] ** 2 + modes**2) + length**-2.0) ** -1.0
    waves = np.cos(np.pi * modes[:, None] * (np.arange(side) + 0.5) / side) * np.where(modes[:, None] > 0, 2**0.5, 1.0)
    coefficients = np.random.default_rng(seed).standard_normal((16, 16)) * spectrum / np.linalg.norm(spectrum)
    return waves.T @ coefficients @ waves
