"""Convex quadratics with a known spectrum."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import brentq

from attractor.checks import in_range
from attractor.objectives import MultiObjective
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


def bilevel_quadratic(seed: int = 0, dim: int = 50, samples: int = 10_000) -> tuple[MultiObjective, float]:
    r"""A noisy main loss with a flat half, and an auxiliary loss to choose among its minimizers.

    $$ f(x) = \tfrac12 \sum_{i \le d/2} h_i x_i^2 + \langle \xi, x \rangle, \qquad
       g(x) = \tfrac12 \lVert x - c \rVert^2 $$

    with $h_i$ uniform in [0.5, 2], c standard normal, and noise $\xi$ of mean 0 and variance 1 in every coordinate, one
    sample a step. The minimum of ``main`` is 0; the start is standard normal.

    Arguments:
        seed: Of the data.
        dim: d, even.
        samples: Of the noise, at least 2.

    Returns:
        The problem, and the least ``auxiliary`` loss among the minimizers of ``main``.

    Raises:
        ValueError: for an odd ``dim``, or too few samples.
    """
    if dim % 2 or dim < 2:
        raise ValueError(f"dim: expected an even number >= 2, got {dim}")
    in_range("samples", samples, 2)
    rng, half = np.random.default_rng(seed), dim // 2
    curvature, c = jnp.asarray(rng.uniform(0.5, 2.0, half)), jnp.asarray(rng.standard_normal(dim))
    noise = rng.standard_normal((samples, dim))

    def losses(x: Float[Array, " d"], batch: Float[Array, "n d"]) -> Float[Array, "2"]:
        main = 0.5 * jnp.sum(curvature * x[:half] ** 2) + batch.mean(0) @ x
        return jnp.stack([main, 0.5 * jnp.sum((x - c) ** 2)])

    def init(key: PRNGKeyArray) -> Float[Array, " d"]:
        return jr.normal(key, (dim,))

    data = jnp.asarray(noise - noise.mean(0))
    problem = MultiObjective(losses, init, data, names=("main", "auxiliary"), batch_size=1)
    return problem, 0.5 * float(jnp.sum(c[:half] ** 2))


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


def similar_quadratics(
    seed: int = 0, dim: int = 20, mu: float = 1e-3, samples: int = 1_000
) -> tuple[Float[np.ndarray, "d d"], Float[np.ndarray, "d d"], Float[np.ndarray, " d"], Float[np.ndarray, "n d"]]:
    """The parts of a quadratic and of a proxy for it: the proxy's matrix is the first plus a multiple of the second.

    Arguments:
        seed: Of all of them.
        dim: Variables, at least 2.
        mu: The smallest eigenvalue of the first matrix, in (0, 1]; the largest is 1.
        samples: Of the noise, at least 2.

    Returns:
        The matrix, a symmetric one of norm 1, the proxy's minimizer (normal), and samples of noise with mean zero.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("dim", dim, 2)
    in_range("mu", mu, 0.0, 1.0, open_low=True)
    in_range("samples", samples, 2)
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    other, center, noise = (rng.standard_normal(shape) for shape in ((dim, dim), dim, (samples, dim)))
    other = (other + other.T) / np.linalg.norm(other + other.T, 2)
    return basis * np.geomspace(mu, 1.0, dim) @ basis.T, other, center, noise - noise.mean(0)


def minimizer_in_ball(
    matrix: Float[np.ndarray, "d d"], center: Float[np.ndarray, " d"], radius: float = 1.0
) -> Float[np.ndarray, " d"]:
    r"""Where $\tfrac12 (x - c)^\top A (x - c)$ is smallest in a ball around 0, by its multiplier.

    Arguments:
        matrix: A, positive definite.
        center: c.
        radius: In (0, inf).

    Raises:
        ValueError: if ``radius`` is out of range, or if the multiplier is above 100.
    """
    in_range("radius", radius, 0.0, open_low=True)
    if np.linalg.norm(center) <= radius:
        return center

    def minimizer(multiplier: float) -> np.ndarray:
        return np.linalg.solve(matrix + multiplier * np.eye(len(matrix)), matrix @ center)

    root: Any = brentq(lambda m: np.linalg.norm(minimizer(m)) - radius, 0.0, 100.0, xtol=1e-14)
    return minimizer(root)
