"""Hypergradients against dense algebra, and steps of descent along them against NumPy's."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.games import (
    HypergradientDescent,
    implicit_hypergradient,
    neumann_hypergradient,
    truncated_hypergradient,
    unrolled_hypergradient,
)
from attractor.problems import feature_penalties, free_lower_level, two_level_quadratic

ETA = 0.3


def levels(problem):
    return (partial(problem.upper, batch=problem.full[0]), partial(problem.lower, batch=problem.full[1]))


def parts(problem):
    """The matrices of a quadratic, for NumPy: F's slope in x and y and g's as functions, H and B."""
    q, target, c, rho = map(np.asarray, problem.upper.args)
    h, b, offset = map(np.asarray, problem.lower.args)
    return (lambda x, y: c @ y + rho * x), (lambda x, y: q @ (y - target) + c.T @ x), h, b, offset


@pytest.mark.parametrize("rank", [6, 4])
def test_at_a_solution_all_agree_with_algebra(rank):
    with jax.enable_x64(True):
        problem = two_level_quadratic(4, 6, rank=rank, seed=3)
        upper, lower = levels(problem)

        @jax.jit
        def estimates(x):
            y = problem.solve(x)
            arguments = upper, lower, x, y
            return (
                y,
                jax.grad(problem.value)(x),
                implicit_hypergradient(*arguments, tolerance=1e-12).gradient,
                neumann_hypergradient(*arguments, step_size=ETA, terms=5).gradient,
                *truncated_hypergradient(*arguments, step_size=ETA, steps=9, backward=5),
            )

        x = np.random.default_rng(0).normal(size=4)
        y, *found, after = map(np.asarray, estimates(x))
    f_x, f_y, h, b, offset = parts(problem)
    np.testing.assert_allclose(h @ y, b @ x + offset, rtol=1e-9)
    exact = f_x(x, y) + b.T @ np.linalg.pinv(h) @ f_y(x, y)
    powers = sum(np.linalg.matrix_power(np.eye(6) - ETA * h, i) for i in range(5))
    series = f_x(x, y) + ETA * b.T @ powers @ f_y(x, y)
    for one, expected in zip(found, (exact, exact, series, series), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-8)
    np.testing.assert_allclose(after, y, rtol=1e-9)


def test_away_from_it_steps_are_differentiated_as_they_were_taken():
    """On a lower level whose Hessian changes along the way, with K and T unequal, against products in NumPy."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(3, 3)), rng.normal(size=(3, 2))

    def upper(x, y):
        return jnp.sum((y - x[0]) ** 2) + jnp.sin(x[1]) * y[0]

    def lower(x, y):
        return jnp.sum(jax.nn.softplus(a @ y)) + jnp.sum(jnp.exp(x[0]) * y**2) + y @ b @ jnp.tanh(x)

    with jax.enable_x64(True):
        x, start = jnp.array([0.3, -0.7]), jnp.array([0.5, -0.2, 1.0])
        of_x, of_y = jax.jit(jax.grad(upper, (0, 1)))(x, start), jax.jit(jax.grad(upper, (0, 1)))
        slope = jax.grad(lower, 1)
        at = jax.jit(lambda y: (slope(x, y), jax.jacfwd(slope, 1)(x, y), jax.jacfwd(slope, 0)(x, y)))
        two = jax.jit(lambda: truncated_hypergradient(upper, lower, x, start, step_size=0.1, steps=6, backward=2))()
        whole = jax.jit(lambda: unrolled_hypergradient(upper, lower, x, start, step_size=0.1, steps=6))()
        y, along = np.asarray(start), []
        for _ in range(6):
            along.append([np.asarray(part) for part in at(y)])
            y = y - 0.1 * along[-1][0]
        of_x, of_y = of_y(x, y)
    expected, carried, sums = np.asarray(of_x), np.asarray(of_y), []
    for _, hessian, mixed in reversed(along):
        expected, carried = expected - 0.1 * mixed.T @ carried, carried - 0.1 * hessian @ carried
        sums.append(expected)
    np.testing.assert_allclose(two.gradient, sums[1], rtol=1e-9)
    np.testing.assert_allclose(whole.gradient, sums[-1], rtol=1e-9)
    np.testing.assert_allclose(whole.y, y, rtol=1e-12)


@pytest.mark.parametrize("estimate", ["truncated", "implicit", "neumann"])
def test_two_steps_of_descent_are_numpys(estimate):
    with jax.enable_x64(True):
        problem, depth = two_level_quadratic(4, 6, seed=3), 6 if estimate == "implicit" else 2
        method = HypergradientDescent(0.2, ETA, inner_steps=3, depth=depth, estimate=estimate)
        start = problem.init(jr.key(0))
        step = jax.jit(lambda z: method.step(problem, z, None, jr.key(0))[0])
        found = step(step(start))
    x, y = map(np.asarray, start)
    f_x, f_y, h, b, offset = parts(problem)
    inverse = np.linalg.inv(h) if estimate == "implicit" else ETA * (2 * np.eye(6) - ETA * h)
    for _ in range(2):
        for _ in range(3):
            y = y - ETA * (h @ y - b @ x - offset)
        x = x - 0.2 * (f_x(x, y) + b.T @ inverse @ f_y(x, y))
    np.testing.assert_allclose(found[0], x, rtol=2e-6)
    np.testing.assert_allclose(found[1], y, rtol=2e-6)


@pytest.mark.parametrize(
    "make", [feature_penalties, partial(feature_penalties, "breast_cancer", noise=2), partial(free_lower_level, 3)]
)
def test_problems_know_their_solutions(make):
    with jax.enable_x64(True):
        problem = make()
        upper, lower = levels(problem)

        @jax.jit
        def look(x):
            y = problem.solve(x)
            exact = implicit_hypergradient(upper, lower, x, y, tolerance=1e-12).gradient
            return jax.grad(lower, 1)(x, y), jax.grad(problem.value)(x), exact

        slope, ours, exact = look(problem.init(jr.key(0))[0] + 0.3)
    np.testing.assert_allclose(slope, 0, atol=1e-8)
    np.testing.assert_allclose(ours, exact, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: HypergradientDescent(0.1, 0.1, inner_steps=0), "inner_steps"),
        (lambda f: HypergradientDescent(0.1, 0.1, estimate="dense"), "estimate"),
        (lambda f: truncated_hypergradient(f, f, 0.0, 0.0, step_size=0.1, steps=2, backward=3), "backward"),
        (lambda f: neumann_hypergradient(f, f, 0.0, 0.0, step_size=0.0, terms=3), "step_size"),
        (lambda f: implicit_hypergradient(f, f, 0.0, 0.0, iterations=0), "iterations"),
        (lambda f: feature_penalties("iris"), "data"),
        (lambda f: two_level_quadratic(rank=9), "rank"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(lambda x, y: x)
