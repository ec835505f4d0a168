"""The proximal Lagrangian against NumPy: its derivatives, its steps, the projection, and the problems' solutions."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import lsq_linear, minimize

from attractor import Bilevel
from attractor.games import ProximalLagrangian, onto_constraint, proximal_value
from attractor.problems import best_of_pieces, coupled_quadratic, feature_bounds, shared_sum

GAMMAS = {"gamma": 0.7, "multiplier_gamma": 1.6}


def test_derivatives_of_the_value_are_differences_of_what_scipy_finds():
    """Of both ways of getting v, at a point where one constraint binds and another does not."""
    with jax.enable_x64(True):
        problem, rng = coupled_quadratic(3, 4, 3, 2, seed=1), np.random.default_rng(7)
        point = [rng.standard_normal(3), rng.standard_normal(4), np.abs(rng.standard_normal(2))]
        flat = jnp.asarray(np.concatenate(point))

        def ours(w):
            at, lower = (w[:3], w[3:7], w[7:]), partial(problem.lower, batch=None)
            return proximal_value(lower, problem.constraint, *at, step_size=0.1, steps=2_000, **GAMMAS)

        found, slope = jax.jit(jax.value_and_grad(ours))(flat)
        h, b, offset = map(np.asarray, problem.lower.args)
        a, d = map(np.asarray, problem.constraint.args)

        def value(w):
            """The largest over λ ≥ 0 of the smallest over θ, which is a linear system."""
            x, y, z = w[:3], w[3:7], w[7:]
            curved = h + np.eye(4) / 0.7

            def dual(multiplier):
                theta = np.linalg.solve(curved, b @ x + offset + y / 0.7 - a.T @ multiplier)
                least = theta @ h @ theta / 2 - theta @ (b @ x + offset) + np.sum((theta - y) ** 2) / 1.4
                above = a @ theta + d @ x + 1
                change = multiplier - z
                return -(least + multiplier @ above - change @ change / 3.2), -(above - change / 1.6)

            return -minimize(dual, z, jac=True, bounds=[(0, None)] * 2, tol=1e-14).fun

        at = np.asarray(flat)
        expected = [(value(at + 1e-4 * e) - value(at - 1e-4 * e)) / 2e-4 for e in np.eye(9)]
        np.testing.assert_allclose(found, value(at), rtol=1e-9)
        np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


def nearest(w, rows):
    """The point nearest to w where ``rows @ v + 0.4 <= 0``."""
    rule = {"type": "ineq", "fun": lambda v: -rows @ v - 0.4, "jac": lambda v: -rows}
    return minimize(
        lambda v: (np.sum((v - w) ** 2) / 2, v - w), w, jac=True, constraints=rule, method="SLSQP", tol=1e-15
    ).x


def test_steps_are_those_of_numpy():
    """Minibatches, two constraints that bind, simple sets and a bound on z that clips."""
    a, d = (np.random.default_rng(3).normal(size=(2, k)) for k in (3, 2))
    data = tuple(np.random.default_rng(i).normal(size=(9, 3)) for i in (0, 1))

    def upper(x, y, batch):
        return jnp.sum((y - batch.mean(0)) ** 2) / 2 + x @ x * batch.mean()

    def lower(x, y, batch):
        return (1 + batch.mean() ** 2) * y @ y / 2 + y[:2] @ x - batch.mean(0) @ y

    def clipped(x, y):
        return jnp.clip(x, -0.6, 0.6), jnp.clip(y, -0.9, 0.9)

    with jax.enable_x64(True):
        start = jnp.array([0.3, -0.5]), jnp.array([0.8, 0.2, -0.5])
        parts = tuple(jnp.asarray(part, float) for part in data)
        problem = Bilevel(
            upper, lower, start, parts, batch_size=4, constraint=lambda x, y: a @ y + d @ x + 0.4, project=clipped
        )
        method = ProximalLagrangian(0.2, 0.3, 0.5, 2.0, 0.4, 0.7, 1.6, bound=0.05, sweeps=60)
        carry = problem.init(jr.key(0))
        (x, y), carry = map(np.asarray, carry), (carry, method.init(problem, carry, jr.key(0)))
        theta, multiplier, z, step = y, np.zeros(2), np.zeros(2), jax.jit(lambda c, k: method.step(problem, *c, k))
        bound = 0
        for k in range(5):
            carry = step(carry, jr.key(k))
            f, g = map(np.asarray, problem.sample(jr.key(k)))
            scale, mean, pad = 1 + g.mean() ** 2, g.mean(0), np.append(x, 0.0)
            of_theta = scale * theta + pad - mean + a.T @ multiplier + (theta - y) / 0.7
            of_multiplier = a @ theta + d @ x + 0.4 - (multiplier - z) / 1.6
            theta = np.clip(theta - 0.3 * of_theta, -0.9, 0.9)
            multiplier = np.maximum(multiplier + 0.3 * of_multiplier, 0.0)
            kappa = 2.0 * (1 + k) ** 0.4
            of_x = 2 * x * f.mean() / kappa + y[:2] - theta[:2] - d.T @ multiplier
            of_y = (y - f.mean(0)) / kappa + scale * y + pad - mean - (y - theta) / 0.7
            z = np.clip(z - 0.5 * (z - multiplier) / 1.6, 0.0, 0.05)
            w, rows = np.concatenate([x - 0.2 * of_x, y - 0.2 * of_y]), np.hstack([d, a])
            near = nearest(w, rows)
            bound += np.abs(near - w).max() > 1e-3
            x, y = np.clip(near[:2], -0.6, 0.6), np.clip(near[2:], -0.9, 0.9)
            saddle = carry[1].saddle
            for ours, expected in zip(
                (*carry[0], *saddle, carry[1].multiplier), (x, y, theta, multiplier, z), strict=True
            ):
                np.testing.assert_allclose(ours, expected, atol=2e-7)
        assert (bound >= 2, z.max() == 0.05, multiplier.max() > 0.05) == (True,) * 3  # what is to be tested took place


def test_a_single_sweep_is_exact_for_rows_that_are_orthogonal():
    x, y = onto_constraint(lambda x, y: jnp.stack([y - x, -y - x]), jnp.array(0.3), jnp.array(-1.0), sweeps=1)
    np.testing.assert_allclose((x, y), (0.65, -0.65), rtol=1e-6)


def test_pieces_contain_the_solution():
    """No point of a fine grid of x has a better value, by the lower level's own solver."""
    problem = coupled_quadratic(1, 2, 2, 2, seed=4)
    q, target, c, rho = (np.asarray(part, float) for part in problem.upper.args)
    h, b, offset = (np.asarray(part, float) for part in problem.lower.args)
    a, d = (np.asarray(part, float) for part in problem.constraint.args)
    (x,), best = best_of_pieces(problem)

    def value(x):
        lower = minimize(
            lambda y: (y @ h @ y / 2 - y @ (b[:, 0] * x + offset), h @ y - b[:, 0] * x - offset),
            np.zeros(2),
            jac=True,
            constraints={"type": "ineq", "fun": lambda y: -(a @ y + d[:, 0] * x + 1), "jac": lambda y: -a},
            method="SLSQP",
            tol=1e-12,
        )
        y = lower.x
        return (y - target) @ q @ (y - target) / 2 + x * c[0] @ y + rho * x**2 / 2 if lower.success else np.inf

    grid = np.linspace(x - 2, x + 2, 41)
    values = np.array([value(one) for one in grid])
    np.testing.assert_allclose(value(x), best, rtol=1e-5)
    assert grid[values.argmin()] == pytest.approx(x, abs=0.11)
    assert values.min() >= best - 1e-6


@pytest.mark.parametrize("seed", [0, 3])
def test_no_other_x_near_the_best_of_pieces_is_better(seed):
    """By SciPy's own answer of the lower level, of whose minimizers the best for F is found along H's kernel."""
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        problem = coupled_quadratic(seed=seed)
        (h, b, offset), (a, d) = ([np.asarray(part) for part in f.args] for f in (problem.lower, problem.constraint))
        q, target, c, rho = (np.asarray(part) for part in problem.upper.args)
        solution, best = best_of_pieces(problem)
    free = np.linalg.svd(h)[2][-1]

    def value(x):
        above = lambda y: -(a @ y + d @ x + 1)  # noqa: E731
        lower = minimize(
            lambda y: (y @ h @ y / 2 - y @ (b @ x + offset), h @ y - b @ x - offset), np.zeros(len(h)), jac=True,
            constraints={"type": "ineq", "fun": above, "jac": lambda y: -a}, method="SLSQP", tol=1e-14,
        )  # fmt: skip
        # Along the kernel F is a parabola, and the constraints bound an interval.
        slope, room = a @ free, above(lower.x)
        low = max((r / s for r, s in zip(room, slope, strict=True) if s < 0), default=-np.inf)
        high = min((r / s for r, s in zip(room, slope, strict=True) if s > 0), default=np.inf)
        least = -free @ (q @ (lower.x - target) + c.T @ x) / (free @ q @ free)
        y = lower.x + np.clip(least, low, high) * free
        return (y - target) @ q @ (y - target) / 2 + x @ c @ y + rho * x @ x / 2

    assert value(solution) == pytest.approx(best, rel=1e-5)
    assert min(value(solution + size * rng.standard_normal(4)) for size in (0.02, 0.2) for _ in range(12)) > best - 1e-6


def test_weights_within_bounds_are_scipys():
    problem = feature_bounds(noise=2, seed=3)
    rows, targets = (np.asarray(part, float) for part in problem.full[1])
    x = np.linspace(0.02, 0.3, 12)
    expected = lsq_linear(rows, targets, (-x, x), tol=1e-12).x
    assert 2 < (np.abs(expected) > x - 1e-9).sum() < 12  # some bind
    np.testing.assert_allclose(problem.solve(jnp.asarray(x, jnp.float32)), expected, atol=1e-5)


@pytest.mark.parametrize("coupling", [1.0, (-2.5, 0.3, 0.9, -1.0)])
def test_solution_of_the_shared_sum_is_that_of_all_conditions_together(coupling):
    """Of F where the lower level's conditions hold, as one linear system: x, y1, y2, λ, and multipliers of those."""
    n, one, none = 4, np.eye(4), np.zeros((4, 4))
    a, ones = np.broadcast_to(coupling, n), np.ones((n, 1))
    curved = np.block([
        [one, none, -one, 0 * ones], [none, one, none, 0 * ones], [-one, none, one, 0 * ones],
        [0 * ones.T] * 3 + [np.zeros((1, 1))],
    ])  # fmt: skip
    linear = np.concatenate([np.zeros(n), np.ones(n), np.zeros(n + 1)])
    rules = np.block([
        [-one, one, none, -ones], [none, none, none, -ones], [a[None], ones.T, ones.T, np.zeros((1, 1))],
    ])  # fmt: skip
    right = np.concatenate([np.zeros(n), -np.ones(n), [0.0]])
    k = len(right)
    system = np.block([[curved, rules.T], [rules, np.zeros((k, k))]])
    found = np.linalg.lstsq(system, np.concatenate([linear, right]), rcond=None)[0]
    x, y = found[:n], found[n : 3 * n]
    with jax.enable_x64(True):
        problem = shared_sum(n, coupling if isinstance(coupling, float) else jnp.asarray(coupling))
        np.testing.assert_allclose(problem.solve(jnp.asarray(x)), y, atol=1e-9)
        np.testing.assert_allclose(jax.grad(problem.value)(jnp.asarray(x)), 0.0, atol=1e-9)
        np.testing.assert_allclose(problem.constraint(jnp.asarray(x), jnp.asarray(y)), 0.0, atol=1e-9)
        np.testing.assert_allclose(x, -n * (a + 2) / (n + np.sum((a + 2) ** 2)), atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProximalLagrangian(0.1, 0.1, decay=0.5), "decay"),
        (lambda: proximal_value(max, max, 0.0, 0.0, jnp.zeros(1), step_size=0.1, steps=1, gamma=0.0), "gamma"),
        (lambda: onto_constraint(max, 0.0, 0.0, sweeps=0), "sweeps"),
        (lambda: coupled_quadratic(constraints=0), "constraints"),
        (lambda: shared_sum(0), "n"),
        (lambda: shared_sum(3, jnp.ones(2)), "coupling"),
        (lambda: shared_sum(3, np.inf), "coupling"),
        (lambda: feature_bounds(noise=-1), "noise"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
