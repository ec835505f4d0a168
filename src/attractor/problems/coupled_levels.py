"""Problems of two levels whose lower one has constraints that hold x and y together."""

from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import LinearConstraint, minimize

from attractor.bilevel import Bilevel
from attractor.checks import in_range
from attractor.problems.bilevel import feature_penalties, two_level_quadratic
from attractor.registry import problem

Weights = Float[Array, " d"]


@problem("feature-bounds", metric="value", steps=1_000)
def feature_bounds(*, noise: int = 0, seed: int = 0) -> Bilevel:
    r"""Choose a bound for the weight of every feature of diabetes by the loss on validation rows.

    $$ \min_x\; F(y), \qquad y \in \arg\min_y\; g(y) \;\text{ where }\; |y_i| \le x_i $$

    with half the mean squared error of validation and of training rows, x from 0 to 1. The rows are split as in
    `feature_penalties`, which has penalties in place of the bounds; ``test_loss`` is at y.

    Arguments:
        noise: Features of pure noise to add, at least 0.
        seed: Of the split and the noise.

    Raises:
        ValueError: for a negative ``noise``.
    """
    base = feature_penalties(noise=noise, seed=seed)
    (rows, targets), d = base.full[1], len(base.init(jax.random.key(0))[0])
    return Bilevel(
        base.upper,
        base.upper,
        (jnp.full(d, 0.05), jnp.zeros(d)),
        base.full,
        constraint=_beyond,
        project=_to_unit,
        solve=eqx.Partial(_within, rows.T @ rows / len(targets), rows.T @ targets / len(targets)),
        probes={"test_loss": base.probes["test_loss"]},
    )


def _beyond(x: Weights, y: Weights) -> Float[Array, " 2*d"]:
    return jnp.concatenate([y - x, -y - x])


def _to_unit(x: Weights, y: Weights) -> tuple[Weights, Weights]:
    return jnp.clip(x, 0.0, 1.0), y


def _within(gram: Float[Array, "d d"], moments: Weights, x: Weights) -> Weights:
    """Least squares within bounds, weight after weight."""

    def settle(i: Array, y: Weights) -> Weights:
        at = i % len(y)
        best = y[at] + (moments[at] - gram[at] @ y) / gram[at, at]
        return y.at[at].set(jnp.clip(best, -x[at], x[at]))

    return jax.lax.fori_loop(0, 200 * len(x), settle, jnp.zeros_like(x))


def coupled_quadratic(n: int = 4, m: int = 6, rank: int = 5, constraints: int = 3, seed: int = 0) -> Bilevel:
    r"""The quadratics of `two_level_quadratic` with linear constraints $A y + D x \le -1$ below.

    All rows of A but the first are in the range of H, where they can bind; the first one cuts its kernel, too. Where
    the solution is comes from `best_of_pieces`.

    Arguments:
        n: Numbers in x, at least 1.
        m: Numbers in y, at least 1.
        rank: Of H, in [1, m].
        constraints: How many, at least 1.
        seed: Of all the matrices.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("constraints", constraints, 1)
    base, rng = two_level_quadratic(n, m, rank, seed), np.random.default_rng([seed, 1])
    h, a, d = (
        np.asarray(base.lower.args[0]),
        rng.standard_normal((constraints, m)),
        rng.standard_normal((constraints, n)),
    )
    a[1:] = a[1:] @ np.linalg.pinv(h, rcond=1e-5) @ h
    parts = jnp.asarray(a, float), jnp.asarray(d, float)
    return Bilevel(base.upper, base.lower, base.init(jax.random.key(0)), constraint=eqx.Partial(_above, *parts))


def _above(a: Float[Array, "k m"], d: Float[Array, "k n"], x: Float[Array, " n"], y: Float[Array, " m"]) -> Array:
    return a @ y + d @ x + 1


_rule: Any = LinearConstraint  # its bounds are annotated as single numbers


def best_of_pieces(problem: Bilevel) -> tuple[Float[np.ndarray, " n"], float]:
    """The exact solution (x, F) of a `coupled_quadratic`: of the best of the pieces, one for every set that binds.

    On a piece the lower level's conditions are linear, and F is minimized over x, y and the multipliers by SLSQP.

    Arguments:
        problem: A `coupled_quadratic` with few constraints k, as there are 2ᵏ pieces.
    """
    levels: Any = problem.upper, problem.lower, problem.constraint
    (q, target, c, rho), (h, b, offset), (a, d) = ([np.asarray(part, np.float64) for part in f.args] for f in levels)
    (n, m), k = c.shape, len(a)
    curvature = np.zeros((n + m + k, n + m + k))
    curvature[:n, :n], curvature[:n, n : n + m], curvature[n : n + m, :n] = rho * np.eye(n), c, c.T
    curvature[n : n + m, n : n + m] = q
    linear = np.concatenate([np.zeros(n), -q @ target, np.zeros(k)])
    stationary, above = np.hstack([-b, h, a.T]), np.hstack([d, a, np.zeros((k, k))])
    multipliers, best = np.eye(n + m + k)[n + m :], (np.full(n, np.nan), np.inf)
    for piece in product([False, True], repeat=k):
        binds = np.array(piece)
        equal = np.vstack([stationary, above[binds], multipliers[~binds]])
        right = np.concatenate([offset, -np.ones(binds.sum()), np.zeros((~binds).sum())])
        most, limit = np.vstack([above[~binds], -multipliers[binds]]), np.zeros(k)
        limit[: (~binds).sum()] = -1
        rules = _rule(equal, right, right), _rule(most, -np.inf, limit)
        found = minimize(
            lambda w: w @ curvature @ w / 2 + linear @ w + target @ q @ target / 2,
            np.linalg.lstsq(equal, right, rcond=None)[0],
            jac=lambda w: curvature @ w + linear,
            method="SLSQP",
            constraints=rules,
            options={"maxiter": 500, "ftol": 1e-12},
        )
        missed = max(np.abs(equal @ found.x - right).max(), (most @ found.x - limit).max())
        if missed < 1e-7 and found.fun < best[1]:
            best = found.x[:n], float(found.fun)
    return best
