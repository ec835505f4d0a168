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


def test_solved_whole_it_is_newton_with_a_line_search():
    """With a sketch as large as the system, one of them solves it exactly; weights and step sizes by hand."""
    x, multipliers, weights, accuracy = np.array([0.5, 0.4, 0.7]), np.zeros(2), np.array([0.01, 0.1]), 1.0
    x0, adapted, shifts, sizes = x, 0, [], []

    def parts(x, multipliers):
        """Value and gradients of the Lagrangian, what the merit function penalizes, and its derivatives."""
        jacobian, c = np.array([2 * x, np.ones(3)]), np.array([x @ x - 1, x.sum()])
        slope, hessian = x**3 + np.array([1, 0, 0]) + multipliers @ jacobian, np.diag(3 * x**2 + 2 * multipliers[0])
        along = jacobian @ slope
        change = np.hstack([jacobian @ hessian + np.array([2 * slope, np.zeros(3)]), jacobian @ jacobian.T])
        slopes = np.stack([np.append(c @ jacobian, np.zeros(2)), along @ change])
        value = np.sum(x**4) / 4 + x[0] + multipliers @ c
        free = np.cross(*jacobian) / np.linalg.norm(np.cross(*jacobian))  # the only direction that they leave
        shifts.append(max(0.01 - free @ hessian @ free, 0))
        matrix = np.block([[hessian + shifts[-1] * np.eye(3), jacobian.T], [jacobian, np.zeros((2, 2))]])
        return value, np.append(slope, c), np.array([c @ c, along @ along]) / 2, slopes, matrix

    with jax.enable_x64(True):
        problem = _on_the_sphere(jnp.asarray(x0))
        method, key = SketchedNewton(sketch_size=5, violation_weight=0.01, gradient_weight=0.1), jr.key(0)
        at, state = jnp.asarray(x0), method.init(problem, jnp.asarray(x0), key)
        np.testing.assert_allclose(state[1:], [0.01, 0.1, 1, 1, 0])
        advance = jax.jit(lambda at, state: method.step(problem, at, state, key))
        for _ in range(4):
            value, gradient, penalties, slopes, matrix = parts(x, multipliers)
            step = -np.linalg.solve(matrix, gradient)
            while step @ (gradient + weights @ slopes) > -weights[1] / 2 * gradient @ gradient:
                weights, accuracy, adapted = weights * [4, 0.5], accuracy / 2, adapted + 1
            merit, slope, alpha = value + weights @ penalties, step @ (gradient + weights @ slopes), 1.0
            while True:
                new_value, _, new_penalties, *_ = parts(x + alpha * step[:3], multipliers + alpha * step[3:])
                decrease = merit - new_value - weights @ new_penalties
                if decrease >= -1e-4 * alpha * slope:
                    break
                alpha /= 2
            x, multipliers = x + alpha * step[:3], multipliers + alpha * step[3:]
            sizes.append(alpha)
            at, state = advance(at, state)
            np.testing.assert_allclose(at, x, atol=1e-8)
            np.testing.assert_allclose(state.multipliers, multipliers, atol=1e-8)
            expected = [*weights, accuracy, alpha, decrease]
            np.testing.assert_allclose(state[1:], expected, rtol=1e-6, atol=1e-12)
    assert adapted
    assert max(shifts) > 0
    assert min(sizes) < 1


def test_finds_a_minimizer_under_constraints():
    with jax.enable_x64(True):
        trace = run(_on_the_sphere(jnp.array([0.9, -0.5, 0.3])), SketchedNewton(), steps=30)
    assert trace.last("kkt").item() < 1e-9
    assert trace.final[0, 0][0] < 0


def test_refuses_bad_hyperparameters():
    for name, bad in {"accuracy": 1.0, "armijo": 0.5, "most": 0, "gradient_weight": 0.0}.items():
        with pytest.raises(ValueError, match=name):
            SketchedNewton(**{name: bad})
