"""Sketch-and-project, and the Newton method for constrained problems whose steps it solves."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import run
from attractor.objectives import Constrained
from attractor.second_order import SketchedNewton, sketch_and_project
from attractor.second_order.sketching import _convexified

RNG = np.random.default_rng(0)


def test_projection_is_the_shortest_step():
    matrix, residual, sketch = RNG.standard_normal((6, 6)), RNG.standard_normal(6), RNG.standard_normal((6, 2))
    with jax.enable_x64(True):
        found = sketch_and_project(*map(jnp.asarray, (matrix, residual, sketch)))
    np.testing.assert_allclose(found, np.linalg.lstsq(sketch.T @ matrix, -sketch.T @ residual)[0], atol=1e-10)


def test_one_column_of_the_identity_is_kaczmarz():
    matrix, residual = RNG.standard_normal((4, 4)), RNG.standard_normal(4)
    with jax.enable_x64(True):
        found = sketch_and_project(jnp.asarray(matrix), jnp.asarray(residual), jnp.eye(4)[:, 1:2])
    np.testing.assert_allclose(found, -residual[1] * matrix[1] / (matrix[1] @ matrix[1]), rtol=1e-10)


def test_repeated_sketches_solve_the_system():
    matrix, right = RNG.standard_normal((6, 6)) + 4 * np.eye(6), RNG.standard_normal(6)
    with jax.enable_x64(True):
        k, b, z = jnp.asarray(matrix), jnp.asarray(right), jnp.zeros(6)
        for key in jr.split(jr.key(0), 200):
            z = z + sketch_and_project(k, k @ z - b, jr.normal(key, (6, 3)))
    np.testing.assert_allclose(z, np.linalg.solve(matrix, right), atol=1e-8)


def test_convexified_is_positive_on_the_null_space_only():
    jacobian = np.array([[1.0, 0, 0]])
    hessian = np.block([[np.diag([-5.0, 2.0, -1.0]), jacobian.T], [jacobian, np.zeros((1, 1))]])
    with jax.enable_x64(True):
        found = np.asarray(_convexified(jnp.asarray(hessian), 3))
        same = np.diag([-5.0, 2.0, 1.0])
        kept = np.block([[same, jacobian.T], [jacobian, np.zeros((1, 1))]])
        np.testing.assert_allclose(_convexified(jnp.asarray(kept), 3), kept)
    np.testing.assert_allclose(np.diag(found), [-5 + 1.01, 3.01, 0.01, 0], atol=1e-12)


def _on_the_sphere(start):
    return Constrained(lambda x: jnp.sum(x**4) / 4 + x[0], lambda x: jnp.array([x @ x - 1, x.sum()]), start)


def test_solved_whole_it_is_newton():
    """With a sketch as large as the system, one of them solves it exactly."""
    x, multipliers = np.array([-0.8, 0.1, 0.6]), np.zeros(2)
    with jax.enable_x64(True):
        problem = _on_the_sphere(jnp.asarray(x))
        method, key = SketchedNewton(sketch_size=5), jr.key(0)
        at, state = jnp.asarray(x), method.init(problem, jnp.asarray(x), key)
        advance = jax.jit(lambda at, state: method.step(problem, at, state, key))
        for _ in range(3):
            jacobian = np.array([2 * x, np.ones(3)])
            hessian = np.diag(3 * x**2) + 2 * multipliers[0] * np.eye(3)
            matrix = np.block([[hessian, jacobian.T], [jacobian, np.zeros((2, 2))]])
            gradient = x**3 + np.array([1, 0, 0]) + multipliers @ jacobian
            step = -np.linalg.solve(matrix, np.concatenate([gradient, [x @ x - 1, x.sum()]]))
            at, state = advance(at, state)
            alpha = float(state.stepsize)
            assert alpha > 0
            x, multipliers = x + alpha * step[:3], multipliers + alpha * step[3:]
            np.testing.assert_allclose(at, x, atol=1e-8)
            np.testing.assert_allclose(state.multipliers, multipliers, atol=1e-8)


def test_finds_a_minimizer_under_constraints():
    with jax.enable_x64(True):
        trace = run(_on_the_sphere(jnp.array([0.9, -0.5, 0.3])), SketchedNewton(), steps=30)
    assert trace.last("kkt").item() < 1e-9
    assert trace.final[0, 0][0] < 0


def test_refuses_bad_hyperparameters():
    for name, bad in {"accuracy": 1.0, "armijo": 0.5, "most": 0, "gradient_weight": 0.0}.items():
        with pytest.raises(ValueError, match=name):
            SketchedNewton(**{name: bad})
