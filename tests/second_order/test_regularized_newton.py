"""Newton's method with damping that follows the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor import Minimization, run
from attractor.problems import digits_logistic, logistic_regression
from attractor.second_order.regularized_newton import (
    DampedNewton,
    GradientRegularizedNewton,
    cubic_stepsize,
    empirical_fisher,
    exact_hessian,
    gauss_newton_hessian,
    root_stepsize,
)

CURVATURE = np.array([[3.0, 1.0], [1.0, 2.0]])
START = np.array([1.0, -2.0])


def _loss(x):
    return 0.5 * x @ jnp.asarray(CURVATURE) @ x + 0.25 * jnp.sum(x**4)


def _oracles(x):
    return 0.5 * x @ CURVATURE @ x + 0.25 * np.sum(x**4), CURVATURE @ x + x**3, CURVATURE + 3 * np.diag(x**2)


def _final(method, steps=10, loss=_loss, start=START):
    with jax.enable_x64(True):
        return np.asarray(run(Minimization(loss, jnp.asarray(start)), method, steps=steps).final)[0, 0]


def _kinked(seed):
    """A sum of bends, far from which Newton's steps are much too long: the loss, its oracles, and a start."""
    rng = np.random.default_rng(seed)
    rows, shift, start = 2 * rng.standard_normal((4, 3)), rng.standard_normal(4), 3 * rng.standard_normal(3)

    def oracles(x):
        r = rows @ x - shift
        s = np.sqrt(1 + r**2)
        return s.sum(), rows.T @ (r / s), rows.T @ np.diag(1 / s**3) @ rows

    return lambda x: jnp.sum(jnp.sqrt(1 + (jnp.asarray(rows) @ x - shift) ** 2)), oracles, start


def test_gradient_regularization_by_hand():
    loss, oracles, start = _kinked(4)
    x, gamma, halved = start, 100.0, []
    for _ in range(6):
        value, g, hessian = oracles(x)
        halved.append(0)
        while True:
            strength = np.linalg.norm(g) / gamma
            trial = x - np.linalg.solve(hessian + strength * np.eye(3), g)
            after, gradient, _ = oracles(trial)
            if value - after >= gradient @ gradient / (8 * strength):
                break
            gamma, halved[-1] = gamma / 2, halved[-1] + 1
        x, gamma = trial, 2 * gamma
    assert halved == [4, 2, 1, 2, 0, 0]  # with 4, 16 or 80 in place of 8 it is another path
    np.testing.assert_allclose(_final(GradientRegularizedNewton(100.0), 6, loss, start), x, rtol=1e-6)


def test_backtracking_by_hand():
    loss, oracles, start = _kinked(95)
    x, smoothness, doubled = start, 0.01, []
    for _ in range(6):
        _, g, hessian = oracles(x)
        inverse = np.linalg.inv(hessian)
        doubled.append(0)
        while True:
            alpha = 1 / (1 + (smoothness * (g @ inverse @ g)) ** (1 / 3))
            trial = x - alpha * inverse @ g
            gradient = oracles(trial)[1]
            if 2 * (1 / alpha - 1) * gradient @ (x - trial) >= gradient @ inverse @ gradient:
                break
            smoothness, doubled[-1] = 2 * smoothness, doubled[-1] + 1
        x, smoothness = trial, smoothness / 2
    assert doubled == [13, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(_final(DampedNewton(0.01, backtracking=True), 6, loss, start), x, rtol=1e-6)


def test_damped_newton_by_hand():
    for stepsize, power in ((root_stepsize, None), (cubic_stepsize, 2)):
        x = START
        for _ in range(10):
            _, g, hessian = _oracles(x)
            decrement = np.sqrt(g @ np.linalg.solve(hessian, g))
            if power is None:
                alpha = 1 / (1 + 5 ** (1 / 3) * decrement ** (2 / 3))
            else:  # the largest root of L |g| a^2 / 2 + a - 1
                alpha = max(np.roots(np.array([2.5 * decrement, 1, -1])))
            x = x - alpha * np.linalg.solve(hessian, g)
        np.testing.assert_allclose(_final(DampedNewton(5.0, stepsize)), x, rtol=1e-6, atol=1e-12)


def test_backtracking_forgets_a_wrong_constant():
    for smoothness in (1e-4, 1e4):
        assert np.abs(_final(DampedNewton(smoothness, backtracking=True), 60)).max() < 1e-8


def test_is_affine_invariant():
    with jax.enable_x64(True):
        scales = jnp.array([1e3, 1e-2])
        problem = Minimization(lambda x: _loss(scales * x), jnp.asarray(START) / scales)
        found = scales * jnp.asarray(run(problem, DampedNewton(5.0), steps=10).final)[0, 0]
    np.testing.assert_allclose(found, _final(DampedNewton(5.0)), rtol=1e-6)


def test_curvatures():
    with jax.enable_x64(True):
        problem = logistic_regression()
        w = 0.1 * jnp.arange(31.0)
        exact = exact_hessian(problem, w, problem.full)
        np.testing.assert_allclose(gauss_newton_hessian(problem, w, problem.full), exact, atol=1e-12)
        x, y = (np.asarray(a) for a in problem.full)
        residual = -y / (1 + np.exp(y * (x @ np.asarray(w))))
        g = residual[:, None] * x + problem.constants["l2"] * np.asarray(w)
        np.testing.assert_allclose(empirical_fisher(problem, w, problem.full), g.T @ g / len(g), atol=1e-12)


def test_pytrees_and_minibatches():
    problem = digits_logistic(batch_size=32)
    x = problem.init(jax.random.key(0))
    assert empirical_fisher(problem, x, problem.sample(jax.random.key(1))).shape == (650, 650)


def test_stays_at_a_stationary_point():
    flat = Minimization(lambda x: jnp.sum(0.0 * x), jnp.ones(3))
    for method in (GradientRegularizedNewton(), DampedNewton(), DampedNewton(backtracking=True)):
        np.testing.assert_array_equal(run(flat, method, steps=3).final[0, 0], np.ones(3))


def test_refuses_bad_hyperparameters():
    with pytest.raises(ValueError, match="radius"):
        GradientRegularizedNewton(0.0)
    with pytest.raises(ValueError, match="smoothness"):
        DampedNewton(-1.0)
    with pytest.raises(ValueError, match="order"):
        root_stepsize(1.0, jnp.ones(()), 5.0)
