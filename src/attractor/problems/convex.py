"""Convex problems on real data, with their constants and their solutions."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike
from scipy.optimize import linprog
from scipy.special import expit
from sklearn.datasets import load_breast_cancer, load_diabetes

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.problem import Minimization
from attractor.registry import problem

Examples = tuple[Float[Array, "n d"], Float[Array, " n"]]


@problem("ridge", metric="loss", steps=1_000, target=0.2415)
def ridge(l2: float = 1e-3, batch_size: int | None = None) -> Composite:
    r"""Ridge regression on the diabetes data: the minimum, the solution and the constants are known in closed form.

    $$ f(w) = \frac{1}{2n} \lVert Xw - y \rVert^2 + \frac{\lambda}{2} \lVert w \rVert^2 $$

    442 patients, 10 features, standardized with the target, so that there is no intercept. At the default the
    condition number L/mu is about 420, and the minimum about 0.2415.

    Arguments:
        l2: $\lambda$, in [0, inf).
        batch_size: Patients per step; `None`: all.

    Raises:
        ValueError: for an argument out of range.
    """
    x, y = _diabetes()
    return least_squares(x, y, l2, batch_size)


def least_squares(x: ArrayLike, y: ArrayLike, l2: float = 0.0, batch_size: int | None = None) -> Composite:
    r"""Half the mean squared residual of a linear model, penalized, with its solution and all constants of the rates.

    $$ f(w) = \frac{1}{2n} \lVert Xw - y \rVert^2 + \frac{\lambda}{2} \lVert w \rVert^2 $$

    Its constants: ``L`` and ``mu`` (the smallest curvature that is not 0, so that f is PL with it where examples are
    too few for strong convexity), ``L_max`` (of the worst single example), ``noise`` (the mean square of one
    example's gradient at the solution, which is the shortest), ``l2``.

    Arguments:
        x: One example per row, ``(n, d)``; finite.
        y: Targets ``(n,)``.
        l2: $\lambda$, in [0, inf).
        batch_size: Examples per step; `None`: all.

    Raises:
        ValueError: for an argument out of range, or data that are not finite.
    """
    in_range("l2", l2, 0.0)
    rows, targets = np.asarray(x, float), np.asarray(y, float)
    if not (np.isfinite(rows).all() and np.isfinite(targets).all()):
        raise ValueError("x, y: expected finite numbers, got inf or nan")
    n, d = rows.shape
    hessian = rows.T @ rows / n + l2 * np.eye(d)
    eigenvalues = np.linalg.eigvalsh(hessian)
    curved = eigenvalues[eigenvalues > 1e-12 * eigenvalues[-1]]
    solution = np.linalg.lstsq(hessian, rows.T @ targets / n, rcond=None)[0]
    gradients = (rows @ solution - targets)[:, None] * rows + l2 * solution
    optimum = 0.5 * np.mean((rows @ solution - targets) ** 2) + 0.5 * l2 * solution @ solution
    single = {"L_max": float(np.sum(rows**2, 1).max() + l2), "noise": float(np.mean(np.sum(gradients**2, 1)))}
    bounds = curved[[0, -1]]
    return _linear(_residuals, _half_mean_square, rows, targets, l2, batch_size, optimum, solution, bounds, single)


def least_absolute_deviations(batch_size: int | None = None) -> Minimization:
    r"""Mean absolute residual on the diabetes data: convex, not smooth; its solution is that of a linear program.

    $$ f(w) = \frac{1}{n} \sum_i | \langle x_i, w \rangle - y_i | $$

    Its constant ``G`` bounds every example's subgradients.

    Arguments:
        batch_size: Patients per step; `None`: all.
    """
    x, y = _diabetes()
    (n, d), eye = x.shape, np.eye(len(y))
    cost, rows = np.concatenate([np.zeros(d), np.ones(n) / n]), np.block([[x, -eye], [-x, -eye]])
    found = linprog(cost, rows, np.concatenate([y, -y]), bounds=[(None, None)] * d + [(0, None)] * n)
    return Minimization(
        _mean_absolute, jnp.zeros(d), (jnp.asarray(x), jnp.asarray(y)), batch_size=batch_size,
        optimum=float(found.fun), solution=jnp.asarray(found.x[:d]),
        constants={"G": float(np.linalg.norm(x, axis=1).max())},
    )  # fmt: skip


@problem("logistic-regression", metric="loss", steps=1_000, target=0.061)
def logistic_regression(l2: float = 1e-3, batch_size: int | None = None) -> Composite:
    r"""Logistic regression on the breast cancer data: strongly convex, smooth, its minimum known to 1e-10.

    $$ f(w) = \frac{1}{n} \sum_i \log(1 + e^{-y_i \langle x_i, w \rangle}) + \frac{\lambda}{2} \lVert w \rVert^2 $$

    569 patients, 30 standardized features and a constant, labels $\pm 1$. L is $\lambda_{\max}(X^\top X) / 4n +
    \lambda$ (about 3.3), mu is at least $\lambda$; the minimum at the default is about 0.0598.

    Arguments:
        l2: $\lambda$, in (0, inf); it acts on the intercept too.
        batch_size: Patients per step; `None`: all.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("l2", l2, 0.0, open_low=True)
    x, label = load_breast_cancer(return_X_y=True)
    x, y = _standardized(x, label)
    x, y = np.column_stack([x, np.ones(len(x))]), np.where(label == 1, 1.0, -1.0)
    solution, optimum = _newton(x.tobytes(), x.shape, y.tobytes(), l2)
    bounds = np.array([l2, np.linalg.eigvalsh(x.T @ x)[-1] / (4 * len(y)) + l2])
    return _linear(_margins, _logistic, x, y, l2, batch_size, optimum, solution, bounds, {})


def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    x, y = _standardized(*load_diabetes(return_X_y=True))
    return x, y / y.std()


def _mean_absolute(w: Float[Array, " d"], batch: Examples) -> Float[Array, ""]:
    return jnp.mean(jnp.abs(_residuals(w, batch)))


def _standardized(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    return (x - x.mean(0)) / x.std(0), y - y.mean()


def _linear(
    inner: Any,
    outer: Any,
    x: Any,
    y: Any,
    l2: float,
    batch_size: int | None,
    optimum: Any,
    solution: Any,
    bounds: Any,
    single: dict[str, float],
) -> Composite:
    """The outputs: one per sample, then the scaled weights, so that the penalty is part of the outer loss."""
    return Composite(
        eqx.Partial(_with_penalty, inner, jnp.asarray(l2**0.5)),
        outer,
        jnp.zeros(x.shape[1]),
        (jnp.asarray(x, float), jnp.asarray(y, float)),
        batch_size=batch_size,
        optimum=float(optimum),
        solution=jnp.asarray(solution, float),
        constants={"L": float(bounds[-1]), "mu": float(bounds[0]), "l2": l2, **single},
    )


def _with_penalty(inner: Any, root: Array, w: Float[Array, " d"], batch: Examples) -> Float[Array, " m"]:
    return jnp.concatenate([inner(w, batch), root * w])


def _residuals(w: Float[Array, " d"], batch: Examples) -> Float[Array, " n"]:
    return batch[0] @ w - batch[1]


def _margins(w: Float[Array, " d"], batch: Examples) -> Float[Array, " n"]:
    return batch[1] * (batch[0] @ w)


def _half_mean_square(outputs: Float[Array, " m"], batch: Examples) -> Float[Array, ""]:
    n = len(batch[1])
    return 0.5 * jnp.mean(outputs[:n] ** 2) + 0.5 * jnp.sum(outputs[n:] ** 2)


def _logistic(outputs: Float[Array, " m"], batch: Examples) -> Float[Array, ""]:
    n = len(batch[1])
    return jnp.mean(jax.nn.softplus(-outputs[:n])) + 0.5 * jnp.sum(outputs[n:] ** 2)


@functools.cache
def _newton(x_bytes: bytes, shape: tuple[int, int], y_bytes: bytes, l2: float) -> tuple[np.ndarray, float]:
    """Newton's method with halving, in float64: the solution and the smallest value."""
    x, y = np.frombuffer(x_bytes).reshape(shape), np.frombuffer(y_bytes)

    def value(w: np.ndarray) -> float:
        return float(np.mean(np.logaddexp(0, -y * (x @ w))) + 0.5 * l2 * w @ w)

    w = np.zeros(shape[1])
    for _ in range(100):
        p = expit(-y * (x @ w))
        gradient = -x.T @ (p * y) / len(y) + l2 * w
        if np.linalg.norm(gradient) < 1e-13:
            break
        step = np.linalg.solve((x.T * (p * (1 - p))) @ x / len(y) + l2 * np.eye(len(w)), gradient)
        size = 1.0
        while value(w - size * step) > value(w) - 0.25 * size * gradient @ step and size > 1e-6:
            size /= 2
        w = w - size * step
    return w, value(w)
