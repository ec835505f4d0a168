"""Convex quadratics with a known spectrum."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.problem import Minimization
from attractor.registry import problem


@problem("rotated-quadratic", metric="loss", steps=2_000, target=1e-3)
def rotated_quadratic(dim: int = 50, condition: float = 1e4, seed: int = 0) -> Minimization:
    """Quadratic with log-spaced eigenvalues in a random orthogonal basis, minimum 0; loss 1 on average at the start.

    The minimizer is a random point, standard normal; the start is another one around it. (At the origin, whatever
    shrinks weights would find it by itself.)

    Arguments:
        dim: Number of variables, at least 2.
        condition: Ratio of the largest (1) to the smallest eigenvalue, at least 1.
        seed: Of the basis and the minimizer.
    """
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    return _quadratic(dim, condition, basis, seed)


@problem("diagonal-quadratic", metric="loss", steps=2_000, target=1e-3)
def diagonal_quadratic(dim: int = 50, condition: float = 1e4, seed: int = 0) -> Minimization:
    """`rotated_quadratic` in its own eigenbasis, where coordinate-wise preconditioning is exact."""
    return _quadratic(dim, condition, np.eye(dim), seed)


def _quadratic(dim: int, condition: float, basis: np.ndarray, seed: int) -> Minimization:
    if dim < 2:
        raise ValueError(f"dim: expected a whole number >= 2, got {dim}")
    if condition < 1:
        raise ValueError(f"condition: expected a number >= 1, got {condition}")
    eigenvalues = np.geomspace(1.0, 1.0 / condition, dim)
    matrix = jnp.asarray(basis * eigenvalues @ basis.T, dtype=float)
    # E z'Hz = trace(H) for z ~ N(0, I); dividing makes targets relative to the start.
    scale = 1.0 / eigenvalues.sum()
    solution = jr.normal(jr.key(seed), (dim,))
    return Minimization(
        eqx.Partial(_value, matrix, jnp.asarray(scale, dtype=float), solution),
        eqx.Partial(_start, solution),
        optimum=0.0,
        solution=solution,
        constants={"L": 2 * scale, "mu": 2 * scale / condition},
    )


def _value(
    matrix: Float[Array, "d d"],
    scale: Float[Array, ""],
    solution: Float[Array, " d"],
    x: Float[Array, " d"],
    batch: None = None,
) -> Float[Array, ""]:
    return scale * ((x - solution) @ matrix @ (x - solution))


def _start(solution: Float[Array, " d"], key: PRNGKeyArray) -> Float[Array, " d"]:
    return solution + jr.normal(key, solution.shape)
