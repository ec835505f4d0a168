"""Games with a linear field: monotone ones, and those that are so up to a measured constant."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.problem import Game
from attractor.problems.minimax_quadratics import minimax_quadratic
from attractor.registry import problem

HALVINGS = 60


@problem("comonotone-rotation", metric="residual", steps=1_000)
def comonotone_rotation(lipschitz: float = 1.0, comonotonicity: float = 0.4) -> Game:
    """A plane turned by more than a right angle and scaled by L: the ρ-negatively comonotone field that turns farthest.

    It is min over x, max over y of -ρL²x²/2 + sxy + ρL²y²/2 with s² = L² - ρ²L⁴: each player alone would rather leave
    the equilibrium 0. The proximal point method converges for steps above 2ρ, extragradient with two step sizes for
    ρL < 1/2, descent-ascent never.

    Arguments:
        lipschitz: L > 0, the length of the field at distance 1.
        comonotonicity: ρ, in [0, 1/L).

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("lipschitz", lipschitz, 0.0, open_low=True)
    in_range("comonotonicity", comonotonicity, 0.0, 1 / lipschitz, open_high=True)
    away = comonotonicity * lipschitz**2
    return minimax_quadratic([[-away]], [[(lipschitz**2 - away**2) ** 0.5]], [[away]])


def linear_game(matrix: Any) -> Game:
    """The field is the matrix times all players' numbers; the first half of them is one player's. Equilibrium 0.

    Arguments:
        matrix: ``(d, d)``, d at least 2.

    Raises:
        ValueError: for another shape.
    """
    matrix = jnp.asarray(matrix, float)
    d = len(matrix)
    if matrix.shape != (d, d) or d < 2:
        raise ValueError(f"matrix: expected shape (d, d) with d >= 2, got {matrix.shape}")
    solution = tuple(jnp.split(jnp.zeros(d), [d // 2]))
    return Game(eqx.Partial(_linear, matrix), eqx.Partial(_start, d), solution=solution)


def turning_matrix(cosine: Any, length: Any = 1.0) -> Float[np.ndarray, "... 2 2"]:
    """The plane turned by an angle and scaled: ρ-negatively comonotone with ρ = -cosine / length.

    Arguments:
        cosine: Of the angle, in [-1, 1]; several at once give several matrices.
        length: The factor, of the same shape.

    Raises:
        ValueError: if a ``cosine`` is out of range.
    """
    in_range("cosine", cosine, -1.0, 1.0)
    along, across = length * np.asarray(cosine), length * np.sqrt(1 - np.asarray(cosine) ** 2)
    return np.stack([np.stack([along, -across], -1), np.stack([across, along], -1)], -2)


def comonotonicity(matrix: Float[Array, "d d"]) -> Float[Array, ""]:
    r"""The smallest ρ for which $\langle Az, z \rangle \ge -\rho \lVert Az \rVert^2$ for all z; negative: cocoercive.

    Arguments:
        matrix: A, ``(d, d)``, regular.
    """
    inverse = jnp.linalg.inv(matrix)
    return -jnp.linalg.eigvalsh((inverse + inverse.T) / 2)[0]


def comonotone_matrix(key: PRNGKeyArray, dim: int, comonotonicity: float) -> Float[Array, "d d"]:
    r"""A random matrix of norm 1 whose `comonotonicity` is the given one; it is not normal.

    $A = (t (K + S) - \rho I)^{-1}$ with K skew, S positive semidefinite of half the rank, and the t that makes it so.

    Arguments:
        key: What is drawn.
        dim: d, at least 2.
        comonotonicity: ρ, in [0, 1).

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("dim", dim, 2)
    in_range("comonotonicity", comonotonicity, 0.0, 1.0, open_high=True)
    for_skew, for_root = jr.split(key)
    skew, root = jr.normal(for_skew, (dim, dim)), jr.normal(for_root, (dim, dim // 2))
    monotone = (skew - skew.T + root @ root.T / 2) / dim**0.5

    def inverse(t: Array) -> Array:
        return t * monotone - comonotonicity * jnp.eye(dim)

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        short = jnp.linalg.svd(inverse(middle), compute_uv=False)[-1] < 1
        return jnp.where(short, middle, low), jnp.where(short, high, middle)

    largest = 4 / jnp.linalg.svd(monotone, compute_uv=False)[-1]
    t = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(largest), largest))[1]
    return jnp.linalg.inv(inverse(t))


def _linear(matrix: Float[Array, "d d"], z: tuple[Array, Array], batch: None = None) -> tuple[Array, Array]:
    first, second = jnp.split(matrix @ jnp.concatenate(z), [len(z[0])])
    return first, second


def _start(d: int, key: PRNGKeyArray) -> tuple[Array, Array]:
    first, second = jnp.split(jr.normal(key, (d,)), [d // 2])
    return first, second
