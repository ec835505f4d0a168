"""Linear stochastic approximation with a fixed step: its tails, its stationary covariance, its averaged iterate."""

import math
from collections.abc import Callable

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import ArrayLike
from scipy.linalg import solve_continuous_lyapunov
from scipy.optimize import brentq

from attractor.checks import in_range

Sampler = Callable[[PRNGKeyArray], tuple[Float[Array, "d d"], Float[Array, " d"]]]


def linear_stochastic_approximation(
    sample: Sampler, start: Float[Array, " d"], step_size: float | Float[Array, ""], steps: int, key: PRNGKeyArray
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    r"""Solve $E[A]\, \theta = E[b]$ from noisy pairs: $\theta \leftarrow \theta - \alpha (A_n \theta - b_n)$.

    Temporal-difference learning with linear features and least-mean-squares filters are of this form.

    Arguments:
        sample: ``key -> (A_n (d, d), b_n (d,))``, independent over keys.
        start: $\theta_0$.
        step_size: $\alpha$, in (0, inf).
        steps: Iterations, at least 1.
        key: Of the samples.

    Returns:
        The last iterate, and the mean of all of them (Polyak-Ruppert).

    Raises:
        ValueError: for an argument out of range.

    Paper: Tight High Probability Bounds for Linear Stochastic Approximation with Fixed Stepsize.
    """
    in_range("step_size", step_size, 0.0, open_low=True)
    in_range("steps", steps, 1)

    def step(carry: tuple[Array, Array], key: PRNGKeyArray) -> tuple[tuple[Array, Array], None]:
        theta, total = carry
        matrix, vector = sample(key)
        theta = theta - step_size * (matrix @ theta - vector)
        return (theta, total + theta), None

    (theta, total), _ = lax.scan(step, (start, jnp.zeros_like(start)), jr.split(key, steps))
    return theta, total / steps


def kesten_tail_index(factors: ArrayLike, weights: ArrayLike | None = None) -> float:
    r"""The power p of the stationary tail $P(|\theta| > t) \sim t^{-p}$ of $\theta \leftarrow f \theta + \text{noise}$.

    It is the positive root of $E\, |f|^p = 1$: moments of $\theta$ of order p and above are infinite. For linear
    stochastic approximation in one dimension the factor is $1 - \alpha A_n$.

    Arguments:
        factors: Draws of f, or nodes of a quadrature over its law.
        weights: Probabilities of the nodes; `None`: equal.

    Returns:
        p; infinite when no factor exceeds 1 in size, as then all moments exist.

    Raises:
        ValueError: where $E \log |f| \ge 0$, so that there is no stationary law.

    Paper: Tight High Probability Bounds for Linear Stochastic Approximation with Fixed Stepsize.
    """
    size = np.abs(np.asarray(factors, float))
    weight = np.full(size.shape, 1 / size.size) if weights is None else np.asarray(weights, float)
    logs = np.log(np.maximum(size, 1e-300))
    if weight @ logs >= 0:
        raise ValueError("factors: expected E log|f| < 0, as otherwise there is no stationary law; lower the step size")
    if size.max() <= 1:
        return math.inf

    def excess(p: float) -> float:
        return float(np.log(weight @ np.exp(p * (logs - logs.max()))) + p * logs.max())

    high = 1.0
    while excess(high) < 0:
        high *= 2
    return float(brentq(excess, 1e-9, high))  # pyright: ignore[reportArgumentType]


def hill_estimator(sample: ArrayLike, k: int) -> float:
    r"""Tail index from the k largest absolute values: $1 / \operatorname{mean}_{i \le k} \log(x_{(i)} / x_{(k+1)})$.

    Arguments:
        sample: n draws.
        k: How many of the largest count as the tail, 1 to n - 1.

    Raises:
        ValueError: for a ``k`` out of range.
    """
    values = np.sort(np.abs(np.asarray(sample, float).ravel()))
    in_range("k", k, 1, values.size - 1)
    return float(1 / np.mean(np.log(values[-k:] / values[-k - 1])))


def stationary_covariance(
    matrix: Float[np.ndarray, "d d"], noise: Float[np.ndarray, "d d"], step_size: float
) -> Float[np.ndarray, "d d"]:
    r"""Leading term of the iterate's stationary covariance: $\alpha X$ with $A X + X A^\top = \Sigma$.

    Arguments:
        matrix: $A = E[A_n]$, its eigenvalues with positive real parts.
        noise: $\Sigma$, the covariance of $A_n \theta^* - b_n$ at the solution.
        step_size: $\alpha$.
    """
    return step_size * np.asarray(solve_continuous_lyapunov(matrix, noise))


def averaged_covariance(
    matrix: Float[np.ndarray, "d d"], noise: Float[np.ndarray, "d d"], steps: int
) -> Float[np.ndarray, "d d"]:
    r"""Leading term of the averaged iterate's covariance: $A^{-1} \Sigma A^{-\top} / n$, whatever the step size.

    Arguments:
        matrix: $A = E[A_n]$.
        noise: $\Sigma$, the covariance of $A_n \theta^* - b_n$ at the solution.
        steps: n.
    """
    inverse = np.linalg.inv(matrix)
    return inverse @ noise @ inverse.T / steps
