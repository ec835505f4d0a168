"""Relaxation to the natural gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.linalg import expm

from attractor import Composite, run
from attractor.problems import ridge, rosenbrock
from attractor.second_order.thermodynamic import ThermodynamicNaturalGradient, ornstein_uhlenbeck

MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])
FORCING = np.array([1.0, -2.0])


def test_mean_of_the_relaxation():
    start = np.array([0.3, 0.7])
    rest = np.linalg.solve(MATRIX, FORCING)
    with jax.enable_x64(True):
        for time in (0.0, 0.1, 1.0, 50.0):
            found = ornstein_uhlenbeck(
                jnp.asarray(MATRIX), jnp.asarray(FORCING), jnp.asarray(start), time, 0.0, jr.key(0)
            )
            np.testing.assert_allclose(found, rest + expm(-MATRIX * time) @ (start - rest), atol=1e-12)


def test_covariance_on_the_way_and_in_equilibrium():
    @jax.jit
    def draw(time):
        def one(key):
            return ornstein_uhlenbeck(jnp.asarray(MATRIX), jnp.asarray(FORCING), jnp.zeros(2), time, 0.1, key)

        return jax.vmap(one)(jr.split(jr.key(0), 40_000))

    for time in (0.2, 50.0):
        expected = 0.1 * np.linalg.inv(MATRIX) @ (np.eye(2) - expm(-2 * MATRIX * time))
        np.testing.assert_allclose(np.cov(np.asarray(draw(time)).T), expected, atol=3e-3, rtol=0.03)


def test_steps_that_go_on_from_the_last_by_hand():
    weight, start = np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([1.0, -2.0])
    with jax.enable_x64(True):
        problem = Composite(lambda x: x**2, lambda y: y @ jnp.asarray(weight) @ y / 2, jnp.asarray(start))
        found = run(problem, ThermodynamicNaturalGradient(0.3, 0.05, damping=0.4), steps=3).final[0, 0]
    x, v = start, np.zeros(2)
    for _ in range(3):
        jacobian = np.diag(2 * x)
        matrix, gradient = jacobian @ weight @ jacobian + 0.4 * np.eye(2), jacobian @ weight @ x**2
        rest = np.linalg.solve(matrix, gradient)
        v = rest + expm(-0.05 * matrix) @ (v - rest)
        x = x - 0.3 * v
    np.testing.assert_allclose(found, x, rtol=1e-8)


def test_a_long_run_is_a_damped_gauss_newton_step():
    with jax.enable_x64(True):
        problem = rosenbrock()
        x = np.asarray(problem.init(jr.key(0)))
        found = run(problem, ThermodynamicNaturalGradient(0.5, 1e6, damping=0.2), steps=1).final[0, 0]
        matrix = np.asarray(jax.vmap(problem.ggn(jnp.asarray(x), None))(jnp.eye(2)))
        gradient = np.asarray(jax.grad(problem.loss)(jnp.asarray(x), None))
    np.testing.assert_allclose(found, x - 0.5 * np.linalg.solve(matrix + 0.2 * np.eye(2), gradient), rtol=1e-8)


def test_keeps_its_state_only_if_asked():
    problem = ridge()
    kept, dropped = (
        run(problem, ThermodynamicNaturalGradient(0.1, 0.1, warm_start=warm), steps=2).final for warm in (True, False)
    )
    assert np.abs(kept - dropped).max() > 1e-4


def test_refuses_bad_hyperparameters():
    bad: dict[str, Any] = {"learning_rate": 0.0, "time": 0.0, "damping": 0.0, "temperature": -1.0}
    for name, value in bad.items():
        with pytest.raises(ValueError, match=name):
            ThermodynamicNaturalGradient(**{name: value})
