"""Problems of two levels whose lower one has constraints that hold x and y together."""

from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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


def shared_sum(n: int = 2, coupling: float | Weights = 1.0) -> Bilevel:
    r"""Numbers of both levels share a sum, and the lower one has many minimizers; the solution is known.

    $$ F = \tfrac12 \lVert x - y_2 \rVert^2 + \tfrac12 \lVert y_1 - 1 \rVert^2, \qquad
       g = \tfrac12 \lVert y_1 \rVert^2 - x^\top y_1 + 1^\top y_2, \qquad a^\top x + 1^\top (y_1 + y_2) \ge 0 $$

    The multiplier is 1, $y_1 = x + 1$, and of $y_2$ the lower level says no more than its sum. The best for F is

    $$ x = -\frac{n\,(a + 2)}{n + \lVert a + 2 \rVert^2}, \qquad y_2 = x - \frac{a^\top x + 2 \cdot 1^\top x + n}{n} $$

    which for a = 1 is -0.3, $y_1$ 0.7 and $y_2$ -0.4. Where the constraint's slope in x is not seen, x tends to
    -2/(1 + 2 m), with the mean m of a + 2: -2/7 for a = 1, which is hardly apart.

    Arguments:
        n: Numbers in each of x, $y_1$ and $y_2$, at least 1.
        coupling: a: one number for all, or (n,).

    Raises:
        ValueError: for ``n`` below 1, or a ``coupling`` of another shape or not finite.
    """
    in_range("n", n, 1)
    in_range("coupling", coupling)
    if jnp.shape(coupling) not in ((), (n,)):
        raise ValueError(f"coupling: expected one number or shape ({n},), got shape {jnp.shape(coupling)}")
    a = jnp.broadcast_to(jnp.asarray(coupling, float), (n,))
    return Bilevel(
        _nearest, _cheapest, (jnp.zeros(n), jnp.zeros(2 * n)),
        constraint=eqx.Partial(_missing, a), solve=eqx.Partial(_best_response, a),
    )  # fmt: skip


def _nearest(x: Weights, y: Float[Array, " 2*d"]) -> Float[Array, ""]:
    first, second = jnp.split(y, 2)
    return (jnp.sum((x - second) ** 2) + jnp.sum((first - 1) ** 2)) / 2


def _cheapest(x: Weights, y: Float[Array, " 2*d"]) -> Float[Array, ""]:
    first, second = jnp.split(y, 2)
    return first @ first / 2 - x @ first + jnp.sum(second)


def _missing(a: Weights, x: Weights, y: Float[Array, " 2*d"]) -> Float[Array, " 1"]:
    return -(a @ x + jnp.sum(y))[None]


def _best_response(a: Weights, x: Weights) -> Float[Array, " 2*d"]:
    """Of the lower level's minimizers the best for F: y₂ as near to x as its sum allows."""
    return jnp.concatenate([x + 1, x - (a @ x + 2 * jnp.sum(x) + len(x)) / len(x)])


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


def best_of_pieces(problem: Bilevel) -> tuple[Float[np.ndarray, " n"], float]:
    """The exact solution (x, F) of a `coupled_quadratic`: of the best of the pieces, one for every set that binds.

    On a piece the lower level's conditions are linear. What minimizes F over x, y and the multipliers there, F being
    convex, is one of the solutions of linear systems, one for every set of the piece's own inequalities that binds.

    Arguments:
        problem: A `coupled_quadratic` with few constraints k, as there are 2ᵏ pieces, and 4ᵏ systems.
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
        for also in product([False, True], repeat=k):
            held = np.vstack([equal, most[np.array(also)]])
            wanted = np.concatenate([-linear, right, limit[np.array(also)]])
            system = np.block([[curvature, held.T], [held, np.zeros((len(held), len(held)))]])
            w = np.linalg.lstsq(system, wanted, rcond=None)[0][: len(linear)]
            value = w @ curvature @ w / 2 + linear @ w + target @ q @ target / 2
            missed = max(np.abs(equal @ w - right).max(), (most @ w - limit).max())
            if missed < 1e-7 and value < best[1]:
                best = w[:n], float(value)
    return best
