"""Fixed-point iterations without a fixed point: the infimal displacement vector, and what it certifies."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, ArrayLike, Float

from attractor.checks import in_range
from attractor.linalg.matrices import require_finite
from attractor.registry import part

Operator = Callable[[Float[Array, " n"]], Float[Array, " n"]]


class Displacement(NamedTuple):
    """Two estimates of the infimal displacement vector, at each record."""

    residual: Float[Array, "records n"]  # x_k - T x_k
    normalized: Float[Array, "records n"]  # (x_0 - x_k) / k, or twice that where anchored
    x: Float[Array, "records n"]


def infimal_displacement(
    T: Operator, x0: Float[Array, " n"], steps: int = 1_000, *, anchored: bool = True, every: int | None = None
) -> Displacement:
    r"""Estimate v, the shortest vector in the closure of the range of $I - T$, by iterating a nonexpansive T.

    T has a fixed point only if $v = 0$. Plain: $x_{k+1} = T x_k$, whose $(x_0 - x_k) / k$ tends to v with a squared
    error of at most $4 D^2 / k^2$, and, if T is averaged, $x_k - T x_k$ at $O(1/k)$. Anchored, as Halpern does:
    $x_{k+1} = \frac{1}{k+2} x_0 + \frac{k+1}{k+2} T x_k$, with $2 (x_0 - x_k) / k$ at $16 D^2 / k^2$ and
    $x_k - T x_k$ at $O(\log^2 k / k^2)$. D is the distance of $x_0$ from the points with $x - T x = v$, where there are
    any.

    Arguments:
        T: A nonexpansive operator; firmly nonexpansive ones such as Douglas-Rachford's are averaged.
        x0: The start, and the anchor.
        steps: k, at least 1.
        anchored: Whether the iteration is Halpern's.
        every: Records after so many steps, a divisor of ``steps``; `None`: one record, at the end.

    Raises:
        ValueError: for a start that is not a finite vector, or numbers out of range.

    Paper: Accelerated Infeasibility Detection of Constrained Optimization and Fixed-Point Iterations (Park, Ryu, 2023).
    """
    in_range("steps", steps, 1)
    every = steps if every is None else every
    if every < 1 or steps % every:
        raise ValueError(f"every: expected a divisor of steps ({steps}), got {every}")
    require_finite("x0", x0, 1)

    def step(k: Array, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return (x0 + (k + 1) * T(x)) / (k + 2) if anchored else T(x)

    def record(x: Float[Array, " n"], first: Array) -> tuple[Float[Array, " n"], Displacement]:
        x = lax.fori_loop(first, first + every, step, x)
        return x, Displacement(x - T(x), (2 if anchored else 1) * (x0 - x) / (first + every), x)

    return lax.scan(record, x0, jnp.arange(0, steps, every))[1]


def douglas_rachford(prox_f: Operator, prox_g: Operator) -> Operator:
    r"""The operator $T z = z + \mathrm{prox}_g(2 \mathrm{prox}_f(z) - z) - \mathrm{prox}_f(z)$ of $\min f + g$.

    It is firmly nonexpansive for convex f and g, and $\mathrm{prox}_f$ of a fixed point is a minimizer. Where f and g
    are indicators of two sets, v is the shortest $a - b$ for a in the first and b in the second.

    Arguments:
        prox_f: The proximal map of f, with its step size.
        prox_g: That of g, with the same step size.
    """

    def T(z: Float[Array, " n"]) -> Float[Array, " n"]:
        x = prox_f(z)
        return z + prox_g(2 * x - z) - x

    return T


def linear_program_operator(A: Float[Array, "m n"], b: Float[Array, " m"], c: Float[Array, " n"]) -> Operator:
    r"""Douglas-Rachford's operator of $\min c^\top x$ subject to $A x = b$ and $x \ge 0$.

    $f(x) = c^\top x$ on $A x = b$, with $\mathrm{prox}_f(z) = P(z - c)$ for the projection P onto that set; g is the
    indicator of $x \ge 0$.

    Arguments:
        A: Of full row rank.
        b: The right-hand side.
        c: The cost.

    Raises:
        ValueError: for shapes that do not fit, entries that are not finite, or an A without full row rank.
    """
    require_finite("A", A, 2)
    require_finite("b", b, 1)
    require_finite("c", c, 1)
    if (b.size, c.size) != A.shape:
        raise ValueError(f"b, c: expected sizes {A.shape} for an A of that shape, got {(b.size, c.size)}")
    if not isinstance(A, Tracer) and np.linalg.matrix_rank(np.asarray(A)) < A.shape[0]:
        raise ValueError("A: expected full row rank; drop rows that depend on others")
    basis, r = jnp.linalg.qr(A.T)
    at = solve_triangular(r, b, trans=1)

    def onto(z: Float[Array, " n"]) -> Float[Array, " n"]:
        return z - basis @ (basis.T @ z - at)

    return douglas_rachford(lambda z: onto(z - c), lambda z: jnp.maximum(z, jnp.zeros_like(z)))


class Certificate(NamedTuple):
    """A proof about a linear program, checked."""

    kind: Literal["infeasible", "unbounded", "none"]
    vector: Float[np.ndarray, " size"]  # y with A'y <= 0, b'y = 1; or d >= 0 with Ad = 0, c'd = -1
    violation: float  # by how much the inequalities and equations are missed, largest entry; infinite for "none"


def certificate(
    A: Float[ArrayLike, "m n"],
    b: Float[ArrayLike, " m"],
    c: Float[ArrayLike, " n"],
    v: Float[ArrayLike, " n"],
    tol: float = 1e-3,
) -> Certificate:
    r"""What a displacement vector of `linear_program_operator` proves: that there is no feasible point, or no minimum.

    $v = A^\top y + d$ has a part in the range of $A^\top$ and one in the kernel of A. If the problem is infeasible,
    $A^\top y \le 0$ and $b^\top y > 0$: no $x \ge 0$ has $A x = b$. If it is unbounded, $-d \ge 0$, $A d = 0$ and
    $c^\top d > 0$: costs fall without end along $-d$ from any feasible point.

    Arguments:
        A: As in `linear_program_operator`.
        b: The right-hand side.
        c: The cost.
        v: An estimate of the displacement, such as the ``residual`` of `infimal_displacement`.
        tol: How far a certificate may miss, after it was scaled to $b^\top y = 1$ or $c^\top d = 1$; positive.

    Raises:
        ValueError: for a v that is not a finite vector, or ``tol`` out of range.
    """
    in_range("tol", tol, 0.0, open_low=True)
    require_finite("v", v, 1)
    matrix, right, cost, shift = (np.asarray(x, float) for x in (A, b, c, v))
    largest = lambda x: max(float(x.max()), 0.0)  # noqa: E731
    y = np.linalg.lstsq(matrix.T, shift, rcond=None)[0]
    d = matrix.T @ y - shift
    best = Certificate("none", np.zeros(0), np.inf)
    if (gain := right @ y) > 0:
        best = Certificate("infeasible", y / gain, largest(matrix.T @ y) / float(gain))
    if (fall := -cost @ d) > 0 and (missed := largest(-d) / float(fall)) < best.violation:
        best = Certificate("unbounded", d / fall, missed)
    return best if best.violation <= tol else Certificate("none", np.zeros(0), np.inf)


def _example() -> tuple[float, float]:
    interval, ray = (lambda z: jnp.clip(z, -1.0, 1.0)), (lambda z: jnp.maximum(z, 3.0))
    found = infimal_displacement(douglas_rachford(interval, ray), jnp.array([0.5]), 2_000)
    return float(jnp.abs(found.normalized + 2.0).max()), 1e-2


part("solver", "infimal-displacement", example=lambda: _example)(infimal_displacement)
