"""Fixed-point problems without a fixed point, and linear programs without a solution."""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import nnls

Program = tuple[Float[np.ndarray, "m n"], Float[np.ndarray, " m"], Float[np.ndarray, " n"]]


def slow_rotations(
    count: int = 60, slowest: float = -3.5, shift: float = 0.5
) -> tuple[Callable[[Float[Array, " n"]], Float[Array, " n"]], Float[Array, " n"]]:
    r"""``(T, v)``: $T x = \frac12 (I + R) x - v$ turns planes by angles $10^{-3.5} … 1$, and moves another one.

    A firmly nonexpansive operator without a fixed point. Its many slow modes make the residual of plain iteration fall
    as slowly as the theory allows. Points with $x - T x = v$ are those whose turned planes are at zero.

    Arguments:
        count: Planes that turn; n is two more than twice that.
        slowest: Common logarithm of the smallest angle.
        shift: Length of v.
    """
    angles = jnp.append(jnp.logspace(slowest, 0, count), 0.0)
    c, s = jnp.cos(angles), jnp.sin(angles)
    v = jnp.zeros((count + 1, 2)).at[count, 0].set(shift)

    def T(x: Float[Array, " n"]) -> Float[Array, " n"]:
        p = x.reshape(-1, 2)
        turned = jnp.stack([c * p[:, 0] - s * p[:, 1], s * p[:, 0] + c * p[:, 1]], 1)
        return ((p + turned) / 2 - v).ravel()

    return T, v.ravel()


def linear_program(kind: Literal["infeasible", "unbounded", "solvable"], seed: int, m: int = 6, n: int = 12) -> Program:
    r"""A random $\min c^\top x$ subject to $A x = b$, $x \ge 0$: ``A, b, c``, of a kind that is known.

    Arguments:
        kind: Infeasible with a feasible dual, feasible and unbounded, or with an optimum.
        seed: Of all numbers.
        m: Equations.
        n: Unknowns, more than m.
    """
    random = np.random.default_rng(seed)
    A, y, (x, d, slack) = random.standard_normal((m, n)), random.standard_normal(m), random.random((3, n))
    if kind == "infeasible":  # A'y < 0 and b'y > 0
        A = A - np.outer(y, y @ A + slack) / (y @ y)
        b = y + 0.1 * A @ x
        b = b * np.sign(b @ y)
    elif kind == "unbounded":  # A d = 0
        A = A - np.outer(A @ d, d) / (d @ d)
        b = A @ x
    else:
        b = A @ x
    return (
        A,
        b,
        A.T @ y + (-slack if kind == "unbounded" else slack),
    )  # c'd < 0 where unbounded, else y is dual feasible


def distance_to_feasibility(A: Float[np.ndarray, "m n"], b: Float[np.ndarray, " m"]) -> Float[np.ndarray, " n"]:
    r"""The shortest $l - x$ with $A l = b$ and $x \ge 0$, by an active-set method (`scipy.optimize.nnls`).

    Arguments:
        A: Of full row rank.
        b: The right-hand side.
    """
    q, r = np.linalg.qr(A.T)
    at = np.linalg.solve(r.T, b)
    return q @ (at - q.T @ nnls(q.T, at)[0])
