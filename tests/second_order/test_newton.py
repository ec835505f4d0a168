"""Regularized and cubic Newton steps, and the Hessians they share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from attractor import Minimization, run
from attractor.problems import logistic_regression
from attractor.second_order.newton import LazyNewton, cubic_step

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("lowest", [-2.0, 0.5])
def test_cubic_step_is_the_minimizer(lowest):
    values, g = np.array([lowest, 1.0, 3.0]), np.array([0.7, -1.0, 0.4])

    def model(s):
        return g @ s + 0.5 * values @ s**2 + 5.0 / 6 * np.linalg.norm(s) ** 3

    with jax.enable_x64(True):
        found = np.asarray(cubic_step(jnp.asarray(values), jnp.asarray(g), 5.0))
    best = min(minimize(model, RNG.standard_normal(3), tol=1e-14).fun for _ in range(10))
    assert model(found) == pytest.approx(best, abs=1e-9)


def test_regularized_steps_by_hand():
    curvature = np.array([[3.0, 1.0], [1.0, 2.0]])

    def loss(x):
        return 0.5 * x @ jnp.asarray(curvature) @ x + 0.25 * jnp.sum(x**4)

    with jax.enable_x64(True):
        trace = run(Minimization(loss, jnp.array([1.0, -2.0])), LazyNewton(2.0, every=3), steps=10)
        x, hessian = np.array([1.0, -2.0]), None
        for t in range(10):
            g = curvature @ x + x**3
            if t % 3 == 0:
                hessian = curvature + 3 * np.diag(x**2)
            x = x - np.linalg.solve(hessian + np.sqrt(2 * np.linalg.norm(g)) * np.eye(2), g)
        np.testing.assert_allclose(np.asarray(trace.final)[0, 0], x, rtol=1e-6, atol=1e-12)


def test_reaches_the_known_minimum():
    with jax.enable_x64(True):
        problem = logistic_regression()
        for method in (LazyNewton(0.1), LazyNewton(1.0, cubic=True), LazyNewton(1.0, every=31)):
            trace = run(problem, method, steps=150, every=150)
            assert float(trace.last("loss").item()) == pytest.approx(problem.optimum, abs=1e-9)


def test_refuses_bad_hyperparameters():
    for name in ("smoothness", "every"):
        with pytest.raises(ValueError, match=name):
            LazyNewton(**{name: 0})
