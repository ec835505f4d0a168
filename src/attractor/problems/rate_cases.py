"""Problems with all that a theorem on the speed of convergence asks for: objective, solution, constants."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attractor.checks import in_range
from attractor.problem import Minimization
from attractor.problems.convex import least_absolute_deviations, least_squares, ridge


class RateCase(NamedTuple):
    """What a bound on the error needs.

    Attributes:
        problem: What a method runs on: the smooth part, where there is a penalty for a proximal map.
        objective: What is minimized, of all data.
        solution: A minimizer.
        constants: By name, as `attractor.optim.convergence_bound` takes them: ``L``, ``mu``, ``noise`` ….
    """

    problem: Minimization
    objective: Callable[[Float[Array, " d"]], Float[Array, ""]]
    solution: Float[np.ndarray, " d"]
    constants: Mapping[str, float]


def penalized_least_squares(batch_size: int | None = None, l1: float = 0.0, l2: float = 0.0) -> RateCase:
    """Least squares on the diabetes data: ridge, lasso or elastic net; the L1 penalty is in the objective only.

    ``noise`` is the variance of one patient's gradient at the solution, which 20,000 proximal steps find.

    Arguments:
        batch_size: Patients per step; `None`: all.
        l1: Weight of the L1 norm, in [0, inf).
        l2: Weight of half the squared norm, in [0, inf).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("l1", l1, 0.0)
    problem = ridge(l2, batch_size)
    x, y = (np.asarray(a, float) for a in problem.full)
    hessian, linear, w = x.T @ x / len(y) + l2 * np.eye(10), x.T @ y / len(y), np.asarray(problem.solution)
    for _ in range(20_000 if l1 else 0):
        w = w - (hessian @ w - linear) / problem.constants["L"]
        w = np.sign(w) * np.maximum(np.abs(w) - l1 / problem.constants["L"], 0)
    noise = (x @ w - y)[:, None] * x + l2 * w
    constants = {**problem.constants, "noise": np.mean(np.sum((noise - noise.mean(0)) ** 2, 1))}
    return RateCase(problem, lambda w: problem.loss(w, problem.full) + l1 * jnp.sum(jnp.abs(w)), w, constants)


def interpolating_least_squares(seed: int = 0, batch_size: int | None = None) -> RateCase:
    """8 examples of 20 normal features: not strongly convex, but PL, and every example is fitted.

    Arguments:
        seed: Of the features.
        batch_size: Examples per step; `None`: all.
    """
    x, y = np.random.default_rng(seed).standard_normal((8, 20)), np.asarray(ridge().full[1])[:8]
    problem = least_squares(x, y, 0.0, batch_size)
    return _case(problem, {**problem.constants, "noise": 0.0, "misfit": 0.0})


def wave_in_a_bowl() -> RateCase:
    """x² + 3 sin² x from 5: not convex, but PL with 1/32; the gradient vanishes nowhere but at the minimum."""

    def loss(w: Float[Array, " 1"]) -> Float[Array, ""]:
        return jnp.sum(w**2 + 3 * jnp.sin(w) ** 2)

    return RateCase(Minimization(loss, jnp.array([5.0])), loss, np.zeros(1), {"L": 8.0, "mu": 1 / 32})


def absolute_deviations(batch_size: int | None = None, step: float = 0.02) -> RateCase:
    """`attractor.problems.least_absolute_deviations`, convex and not smooth; the step is part of the theorem.

    Arguments:
        batch_size: Patients per step; `None`: all.
        step: In (0, inf).

    Raises:
        ValueError: if ``step`` is out of range.
    """
    in_range("step", step, 0.0, open_low=True)
    problem = least_absolute_deviations(batch_size)
    return _case(problem, {**problem.constants, "step": step})


def _case(problem: Minimization, constants: Mapping[str, float]) -> RateCase:
    return RateCase(problem, lambda w: problem.loss(w, problem.full), np.asarray(problem.solution), constants)
