"""Constrained Bayesian optimization: objective and constraints that are expensive, learned as Gaussian processes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from attractor.checks import Scalar, in_range


class Posterior(NamedTuple):
    """What is known of functions at n candidates."""

    mean: Float[Array, "*functions n"]
    std: Float[Array, "*functions n"]


# (objective, constraints, best) -> which candidate is next, and whether any can be feasible
Rule = Callable[[Posterior, Posterior, Float[Array, ""]], tuple[Int[Array, ""], Bool[Array, ""]]]


def squared_exponential(a: Float[Array, "n d"], b: Float[Array, "m d"], length: Scalar = 0.2) -> Float[Array, "n m"]:
    r"""The kernel $k(a, b) = e^{-\|a - b\|^2 / (2 \ell^2)}$.

    Arguments:
        a: Points.
        b: Points.
        length: ℓ > 0, in the units of the points.

    Raises:
        ValueError: if ``length`` is not positive.
    """
    in_range("length", length, 0.0, open_low=True)
    return jnp.exp(-((a[:, None] - b) ** 2).sum(-1) / (2 * length**2))


def gp_posterior(
    gram: Float[Array, "n n"],
    chosen: Int[Array, " t"],
    values: Float[Array, "functions t"],
    noise: Scalar = 1e-6,
    known: Bool[Array, " t"] | None = None,
) -> Posterior:
    r"""Mean and standard deviation at all candidates, after values at some.

    $\mu = K_{xo} (K_{oo} + s^2 I)^{-1} y$, $\sigma^2 = k_{xx} - K_{xo} (K_{oo} + s^2 I)^{-1} K_{ox}$, from a prior
    with mean 0.

    Arguments:
        gram: The kernel between all candidates.
        chosen: Which candidates were asked.
        values: What was said there, a row a function.
        noise: s² ≥ 0, the variance of the values' noise.
        known: Which of ``chosen`` count, default: all, so that a compiled loop may have arrays of one size.

    Raises:
        ValueError: if ``noise`` is negative.
    """
    in_range("noise", noise, 0.0)
    doubt = noise + (jnp.zeros(len(chosen)) if known is None else jnp.where(known, 0.0, 1e12))
    factor = jnp.linalg.cholesky(gram[chosen][:, chosen] + jnp.diag(doubt))
    half = solve_triangular(factor, gram[chosen], lower=True)
    variance = jnp.diagonal(gram) - (half**2).sum(0)
    mean = solve_triangular(factor, values.T, lower=True).T @ half
    return Posterior(mean, jnp.broadcast_to(jnp.sqrt(jnp.maximum(variance, 0.0)), mean.shape))


def optimistic(
    objective: Posterior, constraints: Posterior, best: Array, *, width: Scalar = 3.0
) -> tuple[Array, Array]:
    r"""CONFIG: the smallest lower bound of the objective where no constraint's lower bound is positive.

    $$ x_t = \arg\min_x \mu_f - b \sigma_f \quad \text{such that} \quad \mu_{g_i} - b \sigma_{g_i} \le 0 $$

    Where there is no such candidate, no point is feasible, up to the bounds' confidence.

    Arguments:
        objective: Of f, (n,).
        constraints: Of g, (m, n).
        best: Not used here: the smallest value at a feasible point so far.
        width: b ≥ 0; $\beta^{1/2}$ of the paper, whose theory lets it grow, and whose experiments do not.

    Raises:
        ValueError: if ``width`` is negative.

    Paper: Constrained Efficient Global Optimization of Expensive Black-box Functions (arXiv 2211.00162).
    """
    in_range("width", width, 0.0)
    allowed = (constraints.mean - width * constraints.std <= 0).all(0)
    return jnp.where(allowed, objective.mean - width * objective.std, jnp.inf).argmin(), allowed.any()


def constrained_improvement(objective: Posterior, constraints: Posterior, best: Scalar) -> Float[Array, " n"]:
    r"""Constrained expected improvement of each candidate, $E\,(best - f)_+ \prod_i P(g_i \le 0)$.

    Before any point is known to be feasible it is the probability of that alone.

    Arguments:
        objective: Of f, (n,).
        constraints: Of g, (m, n).
        best: The smallest value at a feasible point so far, infinite if there is none.
    """
    std = jnp.maximum(objective.std, 1e-9)
    z = (jnp.where(jnp.isfinite(best), best, 0.0) - objective.mean) / std
    gain = jnp.where(jnp.isfinite(best), std * (z * norm.cdf(z) + norm.pdf(z)), 1.0)
    chance = norm.cdf(-constraints.mean / jnp.maximum(constraints.std, 1e-9)).prod(0)
    return gain * chance


def expected_improvement(objective: Posterior, constraints: Posterior, best: Array) -> tuple[Array, Array]:
    """The candidate where `constrained_improvement` is largest; never says that no point is feasible.

    Arguments:
        objective: Of f, (n,).
        constraints: Of g, (m, n).
        best: The smallest value at a feasible point so far, infinite if there is none.
    """
    return constrained_improvement(objective, constraints, best).argmax(), jnp.asarray(True)


class ConstrainedResult(NamedTuple):
    """What `constrained_search` found.

    Attributes:
        x: The best feasible point that was asked, or `None`.
        value: f there; infinite if there is none.
        points: All that were asked, in order, (t, d).
        values: What f and its constraints said, (t, 1 + m).
        infeasible: Whether the search ended because no point can be feasible.
    """

    x: np.ndarray | None
    value: float
    points: np.ndarray
    values: np.ndarray
    infeasible: bool


def constrained_search(
    f: Callable[[np.ndarray], Sequence[float]],
    candidates: ArrayLike,
    *,
    budget: int = 50,
    kernel: Callable[[Array, Array], Array] = squared_exponential,
    rule: Rule = optimistic,
    noise: float = 1e-6,
) -> ConstrainedResult:
    """The smallest f(x) with g(x) ≤ 0 among candidates, where every call of f and g is expensive.

    Arguments:
        f: ``x -> (f(x), g_1(x), …)``: any Python, at least one constraint, scaled to mean 0 and size 1 as the prior.
        candidates: Points (n, d), such as a grid; all are looked at for every call, so some thousands.
        budget: Calls, at least 1.
        kernel: ``(a, b) -> gram``; its length is in the units of the candidates.
        rule: `optimistic` or `expected_improvement`.
        noise: Variance of what f and g say, at least 0.

    Raises:
        ValueError: for candidates that are no finite table, a budget or a noise out of range, or an f that does not
            give the same count of at least two finite numbers at every call.

    Paper: Constrained Efficient Global Optimization of Expensive Black-box Functions (arXiv 2211.00162).
    """
    in_range("budget", budget, 1)
    in_range("noise", noise, 0.0)
    table = np.asarray(candidates, float)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError(f"candidates: expected a table (n, d) of finite numbers, got shape {table.shape}")
    chosen: list[int] = []
    told: list[list[float]] = []
    infeasible = False
    with jax.enable_x64(True):
        gram = kernel(jnp.asarray(table), jnp.asarray(table))
        while len(chosen) < budget and not infeasible:
            padded = np.zeros((len(told[0]) if told else 2, budget))
            padded[:, : len(told)] = np.reshape(told, (-1, len(padded))).T
            order = np.pad(np.asarray(chosen, int), (0, budget - len(chosen)))
            given = jnp.asarray(order), jnp.asarray(padded), jnp.asarray(len(chosen))
            index, possible = _next(gram, *given, noise, rule)
            if infeasible := not bool(possible):
                break
            said = [float(v) for v in f(table[int(index)])]
            if len(said) < 2 or not np.isfinite(said).all() or (told and len(said) != len(told[0])):
                raise ValueError(f"f: expected the objective and its constraints, finite, at every call, got {said}")
            chosen.append(int(index))
            told.append(said)
    values = np.asarray(told).reshape(len(told), -1)
    feasible = np.flatnonzero((values[:, 1:] <= 0).all(1)) if len(values) else np.array([], int)
    best = feasible[values[feasible, 0].argmin()] if feasible.size else None
    points = table[chosen]
    at, value = (None, np.inf) if best is None else (points[best], float(values[best, 0]))
    return ConstrainedResult(at, value, points, values, infeasible)


@eqx.filter_jit
def _next(
    gram: Array, chosen: Array, told: Array, count: Array | int, noise: Scalar, rule: Rule
) -> tuple[Array, Array]:
    known = jnp.arange(len(chosen)) < count
    seen = gp_posterior(gram, chosen, jnp.where(known, told, 0.0), noise, known)
    best = jnp.where(known & (told[1:] <= 0).all(0), told[0], jnp.inf).min()
    return rule(Posterior(seen.mean[0], seen.std[0]), Posterior(seen.mean[1:], seen.std[1:]), best)


def search_table(
    gram: Float[Array, "n n"], table: Float[Array, "functions n"], steps: int, rule: Rule, noise: Scalar = 1e-6
) -> tuple[Int[Array, " steps"], Bool[Array, " steps"]]:
    """`constrained_search` where f and g are known at all candidates, as one program: for experiments.

    Arguments:
        gram: The kernel between the candidates.
        table: f in the first row, constraints in the others.
        steps: Calls.
        rule: As in `constrained_search`.
        noise: As in `constrained_search`; nothing is added to the values.

    Returns:
        What was chosen, and at each step whether a feasible point was thought possible.
    """

    def step(carry: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        chosen, told = carry
        index, possible = _next(gram, chosen, told, t, noise, rule)
        return (chosen.at[t].set(index), told.at[:, t].set(table[:, index])), (index, possible)

    start = jnp.zeros(steps, int), jnp.zeros((len(table), steps))
    return jax.lax.scan(step, start, jnp.arange(steps))[1]
