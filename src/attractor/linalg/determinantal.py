"""Points for weighted least squares: independent, by volume, and by projection determinantal point processes.

A measure is given by points and their masses $\\mu_i$, such as the nodes and weights of a quadrature; features are a
matrix with a row for each point.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from attractor.checks import in_range
from attractor.linalg.matrices import require_finite
from attractor.registry import part

Features = Float[np.ndarray, "points m"]
Masses = Float[np.ndarray, " points"]


class Fit(NamedTuple):
    """Coefficients of a weighted least-squares fit, and how well its points determine them."""

    coefficients: Float[np.ndarray, " m"]
    stability: float  # smallest eigenvalue of the weighted Gram matrix, 1 at best on average


def orthonormal(features: Features, masses: Masses) -> Features:
    r"""Features of the same span with $\sum_i \mu_i \varphi(x_i) \varphi(x_i)^\top = I$.

    Arguments:
        features: $\varphi(x_i)$, of full column rank.
        masses: $\mu_i$, positive.

    Raises:
        ValueError: for entries that are not finite, masses that are not positive, or features that depend on others.
    """
    require_finite("features", features, 2)
    in_range("masses", masses, 0.0, open_low=True)
    roots = np.sqrt(masses)[:, None]
    if np.linalg.matrix_rank(roots * features) < features.shape[1]:
        raise ValueError("features: expected linearly independent columns; drop some, or take more points")
    return np.linalg.qr(roots * features)[0] / roots


def christoffel(features: Features, masses: Masses) -> Masses:
    r"""The probabilities $\mu_i \lVert \varphi(x_i) \rVert^2 / m$ of the best independent points.

    Arguments:
        features: Orthonormal ones.
        masses: $\mu_i$.
    """
    leverage = masses * (features**2).sum(1)
    return leverage / leverage.sum()


def independent_points(
    features: Features, masses: Masses, n: int, random: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """n independent points with the probabilities of `christoffel`, as indices.

    Arguments:
        features: Orthonormal ones.
        masses: Of the points.
        n: How many, at least 1.
        random: What draws.

    Raises:
        ValueError: for ``n`` below 1.
    """
    in_range("n", n, 1)
    return random.choice(len(masses), n, p=christoffel(features, masses))


def projection_dpp(features: Features, masses: Masses, random: np.random.Generator) -> Int[np.ndarray, " m"]:
    r"""m points of the projection determinantal point process with kernel $\varphi(x) \cdot \varphi(y)$, as indices.

    Point after point is drawn with a probability proportional to $\mu_i$ times the squared length of what is left of
    $\varphi(x_i)$ once the directions of the points before it are taken away, so that no two are alike.

    Arguments:
        features: m orthonormal ones.
        masses: Of the points.
        random: What draws.

    Paper: Weighted least-squares approximation with determinantal point processes and generalized volume sampling
    (Nouy, Michel, 2023).
    """
    left, chosen = features.copy(), []
    for _ in range(features.shape[1]):
        weights = masses * (left**2).sum(1)
        weights[chosen] = 0.0
        chosen.append(int(np.searchsorted(np.cumsum(weights), random.random() * weights.sum(), side="right")))
        direction = left[chosen[-1]] / np.linalg.norm(left[chosen[-1]])
        left = left - np.outer(left @ direction, direction)
    return np.array(chosen)


def volume_points(features: Features, masses: Masses, n: int, random: np.random.Generator) -> Int[np.ndarray, " n"]:
    """n points by volume-rescaled sampling: a projection determinantal process, and independent points beside it.

    Their joint law is that of independent points, weighted by the determinant of the weighted Gram matrix.

    Arguments:
        features: m orthonormal ones.
        masses: Of the points.
        n: How many, at least m.
        random: What draws.

    Raises:
        ValueError: for fewer points than features.

    Paper: Weighted least-squares approximation with determinantal point processes and generalized volume sampling
    (Nouy, Michel, 2023).
    """
    m = features.shape[1]
    in_range("n", n, m)
    first = projection_dpp(features, masses, random)
    return first if n == m else np.concatenate([first, independent_points(features, masses, n - m, random)])


def repeated_dpp(
    features: Features, masses: Masses, repeats: int, random: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """The points of several independent projection determinantal processes.

    Arguments:
        features: m orthonormal ones.
        masses: Of the points.
        repeats: How many, at least 1.
        random: What draws.

    Raises:
        ValueError: for ``repeats`` below 1.
    """
    in_range("repeats", repeats, 1)
    return np.concatenate([projection_dpp(features, masses, random) for _ in range(repeats)])


def weighted_least_squares(features: Features, points: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> Fit:
    r"""The fit with weights $w = m / \lVert \varphi(x) \rVert^2$ over the points, which evens their lengths out.

    Arguments:
        features: m orthonormal ones, of all points.
        points: Indices of those where the function is known.
        values: What it is there.

    Raises:
        ValueError: for fewer points than features, or values that are not finite.
    """
    require_finite("values", values, 1)
    in_range("points.size", points.size, features.shape[1])
    here = features[points]
    weights = features.shape[1] / (here**2).sum(1)
    gram = (here * weights[:, None]).T @ here / points.size
    right = (here * weights[:, None]).T @ values / points.size
    stability = float(np.linalg.eigvalsh(gram)[0])
    return Fit(np.linalg.lstsq(gram, right, rcond=None)[0], stability)


def legendre(m: int, points: int = 400) -> tuple[Float[np.ndarray, " points"], Features, Masses]:
    """``(x, features, masses)``: the first m Legendre polynomials on a quadrature's nodes in [-1, 1], mass 1 in all.

    Arguments:
        m: How many, at least 1.
        points: Nodes, at least m.

    Raises:
        ValueError: for numbers out of range.
    """
    in_range("m", m, 1, points)
    x, weights = np.polynomial.legendre.leggauss(points)
    return x, np.polynomial.legendre.legvander(x, m - 1) * np.sqrt(2 * np.arange(m) + 1), weights / 2


def _example() -> tuple[float, float]:
    x, features, masses = legendre(4, 50)
    points = volume_points(features, masses, 8, np.random.default_rng(0))
    fit = weighted_least_squares(features, points, x[points] ** 3)
    return float(np.abs(features @ fit.coefficients - x**3).max()), 1e-10


part("solver", "determinantal-least-squares", example=lambda: _example)(weighted_least_squares)
