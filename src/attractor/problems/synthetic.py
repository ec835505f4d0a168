"""Drawn regressions and classifications, whose truth or minimum is known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.problem import Minimization

Batch = tuple[Float[Array, "n d"], Float[Array, " n"]]


def linear_scores(x: Float[Array, " d"], batch: Batch) -> Float[Array, " n"]:
    """Scores of a linear model: rows times ``x``."""
    return batch[0] @ x


def logistic_of_scores(scores: Float[Array, " n"], batch: Batch) -> Float[Array, ""]:
    """Mean logistic loss of scores, for labels of 1 and -1."""
    return jnp.mean(jax.nn.softplus(-batch[1] * scores))


def noisy_logistic(
    scales: ArrayLike, seed: int = 0, batch_size: int | None = None, samples: int = 500
) -> tuple[Composite, float]:
    r"""Logistic regression with noisy labels, so that the minimum is finite, and features of unequal scale.

    Rows are normal times the scales; a label is 1 with probability $1 / (1 + e^{-3 \langle x, w \rangle})$, with w
    standard normal. The start is 0.

    Arguments:
        scales: Of the features, ``(d,)``.
        seed: Of the data.
        batch_size: Samples per step; `None`: all.
        samples: n, at least 1.

    Returns:
        The problem, and its minimum, by BFGS.

    Raises:
        ValueError: for too few samples.
    """
    in_range("samples", samples, 1)
    rng, widths = np.random.default_rng(seed), np.asarray(scales, float)
    n, d = samples, len(widths)
    rows = rng.standard_normal((n, d)) * widths
    labels = np.where(rng.random(n) < 1 / (1 + np.exp(-rows @ rng.standard_normal(d) * 3)), 1.0, -1.0)

    def value_and_slope(x: np.ndarray) -> tuple[float, np.ndarray]:
        margins = labels * (rows @ x)
        return float(np.mean(np.logaddexp(0, -margins))), -(labels / (1 + np.exp(margins))) @ rows / n

    found = minimize(value_and_slope, np.zeros(d), jac=True, method="BFGS", options={"gtol": 1e-9})
    data = rows, labels
    return Composite(linear_scores, logistic_of_scores, jnp.zeros(d), data, batch_size=batch_size), found.fun


def logistic_population(
    n: int, dim: int = 10, seed: int = 0
) -> tuple[Float[Array, "n d"], Float[Array, " n"], Float[np.ndarray, " n"]]:
    r"""Rows on the unit sphere, the chances of a label of 1 in a logistic model, and labels of 1 and -1.

    The chances are $1 / (1 + e^{-3 \sum_j x_j / \sqrt d})$.

    Arguments:
        n: Rows, at least 1.
        dim: d, at least 1.
        seed: Of the draw.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("n", n, 1)
    in_range("dim", dim, 1)
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    chances = 1 / (1 + np.exp(-3 * rows.sum(1) / dim**0.5))
    return jnp.asarray(rows, float), jnp.asarray(chances, float), np.where(rng.random(n) < chances, 1.0, -1.0)


def margin_loss(hinge: float | Float[Array, ""], margins: Float[Array, " n"]) -> Float[Array, " n"]:
    r"""$(1 - h) \log(1 + e^{-m}) + h \max(0, 1 - m)^{3/2}$: its second part has a slope Hölder continuous with 1/2.

    Arguments:
        hinge: h, the share of the second part, in [0, 1].
        margins: m, scores times labels.
    """
    return (1 - hinge) * jax.nn.softplus(-margins) + hinge * jax.nn.relu(1 - margins) ** 1.5


def mean_margin_loss(hinge: float | Float[Array, ""], x: Float[Array, " d"], batch: Batch) -> Float[Array, ""]:
    """The mean `margin_loss` of a linear model over rows and labels."""
    return jnp.mean(margin_loss(hinge, batch[1] * (batch[0] @ x)))


def expected_margin_loss(
    x: Float[Array, " d"], hinge: float | Float[Array, ""], rows: Float[Array, "n d"], chances: Float[Array, " n"]
) -> Float[Array, ""]:
    """The expectation of `mean_margin_loss` over labels, which are 1 with these chances."""
    return jnp.mean(chances * margin_loss(hinge, rows @ x) + (1 - chances) * margin_loss(hinge, -(rows @ x)))


def sparse_system(
    equations: int, unknowns: int, nonzero: int, seed: int = 0
) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, " m"], Float[np.ndarray, " n"]]:
    """Normal equations with a sparse solution: rows, values, and that solution.

    Its entries are 0.5 to 1.5 large, of either sign.

    Arguments:
        equations: m, at least 1.
        unknowns: n, at least ``nonzero``.
        nonzero: Entries of the solution that are not 0, at least 1.
        seed: Of the draw.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("equations", equations, 1)
    in_range("nonzero", nonzero, 1)
    in_range("unknowns", unknowns, nonzero)
    rng = np.random.default_rng(seed)
    truth = np.zeros(unknowns)
    entries = rng.choice([-1.0, 1.0], nonzero) * rng.uniform(0.5, 1.5, nonzero)
    truth[rng.choice(unknowns, nonzero, replace=False)] = entries
    rows = rng.standard_normal((equations, unknowns))
    return rows, rows @ truth, truth


def overparametrized_regression(rows: int = 20, unknowns: int = 60, seed: int = 0) -> Minimization:
    """Least squares with more unknowns than normal rows, so that many points have a loss of 0; the start is normal.

    Arguments:
        rows: At least 1.
        unknowns: At least ``rows`` + 1.
        seed: Of the data.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("rows", rows, 1)
    in_range("unknowns", unknowns, rows + 1)
    rng = np.random.default_rng(seed)
    matrix = jnp.asarray(rng.standard_normal((rows, unknowns)), dtype=float)
    targets = matrix @ jnp.asarray(rng.standard_normal(unknowns), dtype=float)
    return Minimization(lambda x: jnp.mean((matrix @ x - targets) ** 2), eqx.Partial(_normal, unknowns))


def _normal(dim: int, key: PRNGKeyArray) -> Float[Array, " d"]:
    return jr.normal(key, (dim,))


def quadratic_from_zero(dim: int = 20, condition: float = 10.0, seed: int = 0) -> Minimization:
    """A quadratic in a random basis, its minimizer standard normal and its start 0, where weight decay would hold it.

    Arguments:
        dim: At least 2.
        condition: Of the largest eigenvalue (1) over the smallest, at least 1.
        seed: Of basis and minimizer.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("dim", dim, 2)
    in_range("condition", condition, 1.0)
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    matrix = jnp.asarray(basis * np.geomspace(1 / condition, 1.0, dim) @ basis.T, dtype=float)
    solution = jnp.asarray(rng.standard_normal(dim), dtype=float)
    return Minimization(lambda x: (x - solution) @ matrix @ (x - solution) / 2, init=jnp.zeros(dim))
