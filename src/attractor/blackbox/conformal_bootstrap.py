r"""Conformal bootstrap on a line: crossing equations that are cut off, with a model of what was cut.

Four operators on the straight Maldacena-Wilson line of N = 4 super-Yang-Mills are told by one function of a cross-ratio

$$ f(x) = x + C_{BPS}^2\,(x - x\,{}_2F_1(1, 2; 4; x)) + \sum_n C_n^2 F_{\Delta_n}(x), \qquad
   F_\Delta(x) = \frac{x^{\Delta+1}}{1 - \Delta}\,{}_2F_1(\Delta+1, \Delta+2; 2\Delta+4; x) $$

with $(1-x)^2 f(x) + x^2 f(1-x) = 0$ for all x in (0, 1). Which dimensions Δ and squares C² solve that is the question.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog, minimize, nnls
from scipy.special import gamma, hyp2f1, ive

from attractor.checks import in_range

Points = Float[np.ndarray, " p"]
DIMENSION_LIMIT = 60.0  # up to which blocks are computed; the next ones are below rounding between 0.15 and 0.85


def _crossed(f: Callable[[Points], Points], x: Points) -> Points:
    return (1 - x) ** 2 * f(x) + x**2 * f(1 - x)


def crossed_block(dimension: float, x: Points) -> Points:
    r"""What an operator adds to the crossing equation: $(1-x)^2 F_\Delta(x) + x^2 F_\Delta(1-x)$.

    Arguments:
        dimension: Δ in (1, 60].
        x: Cross-ratios in (0, 1).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("dimension", dimension, 1.0, DIMENSION_LIMIT, open_low=True)
    in_range("x", x, 0.0, 1.0, open_low=True, open_high=True)
    d = dimension
    return _crossed(lambda x: x ** (d + 1) / (1 - d) * hyp2f1(d + 1, d + 2, 2 * d + 4, x), x)


def bps_square(coupling: float) -> float:
    """C² of the protected operator at a coupling g, the root of 't Hooft's over 4π: from 1 at 0 to 2 at infinity.

    Arguments:
        coupling: g in [0.001, 50].

    Raises:
        ValueError: for a ``coupling`` out of range.
    """
    in_range("coupling", coupling, 1e-3, 50.0)
    p = np.pi * coupling
    i0, i1, i2 = (ive(order, 4 * p) for order in range(3))  # a common factor cancels
    return float(3 * i1 * ((2 * p**2 + 1) * i1 - 2 * p * i0) / (2 * p**2 * i2**2) - 1)


def free_square(dimension: int) -> float:
    r"""C² of all of dimension J = 2, 3, … at coupling 0: $4^{-J-1} \sqrt\pi (J-1) \Gamma(J+3) / \Gamma(J+3/2)$.

    At infinite coupling the dimensions are 2, 4, 6 …, and their squares are twice that.

    Arguments:
        dimension: J, in [2, 60].

    Raises:
        ValueError: for a ``dimension`` out of range.
    """
    in_range("dimension", dimension, 2, DIMENSION_LIMIT)
    j = dimension
    return float(0.25 ** (j + 1) * np.sqrt(np.pi) * (j - 1) * gamma(j + 3.0) / gamma(j + 1.5))


class Crossing(NamedTuple):
    """The crossing equation at some cross-ratios: ``known + blocks @ squares = 0``.

    Attributes:
        x: Cross-ratios ``(p,)``; the equation is even about 1/2.
        known: What does not depend on the unknown, ``(p,)``.
    """

    x: Points
    known: Points

    def blocks(self, dimensions: Float[np.ndarray, " n"]) -> Float[np.ndarray, "p n"]:
        """A column for each operator."""
        return np.stack([crossed_block(d, self.x) for d in dimensions], 1)

    def residual(self, dimensions: Float[np.ndarray, " n"], squares: Float[np.ndarray, " n"]) -> Points:
        """By how much the equation is missed."""
        return self.known + self.blocks(dimensions) @ squares

    def squares(self, dimensions: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """C² >= 0 with which given dimensions come nearest, by least squares."""
        return nnls(self.blocks(dimensions), -self.known)[0]

    def bounds(self, dimensions: Float[np.ndarray, " n"], gap: float, directions: int = 12) -> tuple[float, float]:
        """Between what C² of the first operator must be, whatever the others from ``gap`` on are: linear programs.

        On a grid of dimensions, in the strongest directions of the equation; ``known`` must not hold a tail.

        Arguments:
            dimensions: Those below the gap, ``(n,)``.
            gap: From which dimension on anything is possible, in (1, 12).
            directions: Of the equation that are used, at least 1. Twelve are what double precision gives.

        Raises:
            ValueError: for an argument out of range.
            RuntimeError: if nothing solves the equation.
        """
        in_range("gap", gap, 1.0, 12.0, open_low=True, open_high=True)
        in_range("directions", directions, 1, len(self.x))
        grid = np.concatenate([np.arange(gap, 12, 0.01), np.arange(12, DIMENSION_LIMIT, 0.1)])
        table = self.blocks(np.concatenate([dimensions, grid]))
        size = np.abs(table).max(0)
        left, scale, _ = np.linalg.svd(table / size, full_matrices=False)
        weights = (left / scale).T[:directions]
        ends = []
        for sign in (1, -1):
            cost = np.zeros(len(size))
            cost[0] = sign
            tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
            found = linprog(cost, A_eq=weights @ (table / size), b_eq=-weights @ self.known, options=tight)
            if not found.success:
                raise RuntimeError(f"no such theory: {found.message}")
            ends.append(float(found.x[0] / size[0]))
        return ends[0], ends[1]


def truncated_crossing(bps: float, tail: int | None = None, points: int = 15) -> Crossing:
    """The crossing equation without its high operators, or with those of the theory at coupling 0 in their place.

    Arguments:
        bps: C² of the protected operator, such as from `bps_square`; in [0, 3].
        tail: The first dimension J of the free operators that stand for what was cut, in [2, 59]; `None`: nothing does.
        points: Cross-ratios between 0.5 and 0.85, at least 2.

    Raises:
        ValueError: for an argument out of range.

    Paper: Bootstrability in Line-Defect CFT with Improved Truncation Methods (Niarchos et al., 2023).
    """
    in_range("bps", bps, 0.0, 3.0)
    in_range("points", points, 2)
    x = 0.5 + 0.175 * (1 - np.cos(np.pi * np.arange(points) / (points - 1)))
    known = _crossed(lambda x: x + bps * (x - x * hyp2f1(1, 2, 4, x)), x)
    if tail is not None:
        in_range("tail", tail, 2, DIMENSION_LIMIT - 1)
        known = known + sum(free_square(j) * crossed_block(j, x) for j in range(tail, int(DIMENSION_LIMIT)))
    return Crossing(x, known)


def interior_point(
    misfit: Callable[[Float[np.ndarray, " n"]], float],
    bounds: list[tuple[float, float]],
    start: Float[np.ndarray, " n"],
    steps: int = 500,
) -> tuple[Float[np.ndarray, " n"], int]:
    """The smallest misfit within bounds by SciPy's interior-point method: where, and after how many calls.

    Arguments:
        misfit: What is to be small; its gradient is taken by differences, whose calls count.
        bounds: ``(low, high)`` of each unknown.
        start: Within them.
        steps: At most, at least 1.

    Raises:
        ValueError: for ``steps`` out of range.
    """
    in_range("steps", steps, 1)
    tight = {"maxiter": steps, "gtol": 1e-14, "xtol": 1e-14, "barrier_tol": 1e-14}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "delta_grad == 0.0")  # where it no longer moves
        found = minimize(misfit, start, method="trust-constr", bounds=bounds, options=tight)
    return found.x, int(found.nfev)
