"""Exact Gauss-Newton: the dual solve, closed forms, the adaptive damping."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor import Composite, run
from attractor.problems import logistic_regression, ridge, rosenbrock
from attractor.second_order.gauss_newton import GaussNewton, dual_direction

RNG = np.random.default_rng(0)
J, R = RNG.standard_normal((6, 9)), RNG.standard_normal(6)
Q = np.eye(6) + 0.3 * np.ones((6, 6))


def test_dual_is_the_dense_solve():
    with jax.enable_x64(True):
        dense = np.linalg.solve(J.T @ Q @ J + 0.1 * np.eye(9), J.T @ R)
        np.testing.assert_allclose(dual_direction(*map(jnp.asarray, (J, Q, R)), 0.1), dense, rtol=1e-10)


def test_one_full_step_solves_ridge_regression():
    with jax.enable_x64(True):
        problem = ridge()
        trace = run(problem, GaussNewton(1.0, 1e-9), steps=1)
        np.testing.assert_allclose(np.asarray(trace.final)[0, 0], problem.solution, atol=1e-6)


def test_ten_steps_on_rosenbrock_by_hand():
    with jax.enable_x64(True):
        trace = run(rosenbrock(), GaussNewton(0.5, 0.1, momentum=0.3), steps=10)
        x, v, root = np.array([-1.2, 1.0]), np.zeros(2), 200**0.5
        for _ in range(10):
            r = np.array([root * (x[1] - x[0] ** 2), 2**0.5 * (1 - x[0])])
            j = np.array([[-2 * root * x[0], root], [-(2**0.5), 0.0]])
            v = 0.3 * v + np.linalg.solve(j.T @ j + 0.1 * np.eye(2), j.T @ r)
            x = x - 0.5 * v
        np.testing.assert_allclose(np.asarray(trace.final)[0, 0], x, rtol=1e-6)


def test_ten_adaptive_steps_by_hand():
    weight, root = np.array([[2.0, 0.7], [0.7, 1.0]]), 20**0.5  # outputs that the outer loss couples

    def outer(y):
        return 0.5 * y @ weight @ y + 0.25 * np.sum(y**4)

    def outputs(x):
        return np.array([root * (x[1] - x[0] ** 2), 1 - x[0]])

    x, v, damping, ratios = np.array([-1.0, 0.3]), np.zeros(2), 0.1, []
    for _ in range(10):
        y, j = outputs(x), np.array([[-2 * root * x[0], root], [-1.0, 0.0]])
        q, r = weight + 3 * np.diag(y**2), weight @ y + y**3
        v = 0.3 * v + np.linalg.solve(j.T @ q @ j + damping * np.eye(2), j.T @ r)
        change = -0.7 * j @ v
        ratios.append((outer(outputs(x - 0.7 * v)) - outer(y)) / (r @ change + change @ q @ change / 2))
        damping *= 0.5 if ratios[-1] > 0.75 else 2 if ratios[-1] < 0.25 else 1
        x = x - 0.7 * v
    assert np.histogram(ratios, [-9, 0.25, 0.75, 9])[0].min() >= 2

    with jax.enable_x64(True):
        problem = Composite(
            lambda x: jnp.array([root * (x[1] - x[0] ** 2), 1 - x[0]]),
            lambda y: 0.5 * y @ jnp.asarray(weight) @ y + 0.25 * jnp.sum(y**4),
            jnp.array([-1.0, 0.3]),
        )
        trace = run(problem, GaussNewton(0.7, 0.1, momentum=0.3, adaptive=True), steps=10)
    np.testing.assert_allclose(np.asarray(trace.final)[0, 0], x, rtol=1e-6)


def test_is_newton_where_the_outputs_are_linear():
    with jax.enable_x64(True):
        problem = logistic_regression(l2=0.1)
        trace = run(problem, GaussNewton(1.0, 1e-6), steps=15)
        np.testing.assert_allclose(np.asarray(trace.final)[0, 0], problem.solution, atol=1e-8)


def test_adaptive_damping_falls_where_the_model_is_good_and_rises_where_it_is_not():
    linear = Composite.least_squares(lambda x: jnp.asarray(J @ J.T) @ x - jnp.asarray(R), jnp.zeros(6))
    method = GaussNewton(1.0, 1.0, adaptive=True)
    x = linear.init(jax.random.key(0))
    _, state = method.step(linear, x, method.init(linear, x, jax.random.key(0)), jax.random.key(0))
    assert float(state.damping) == 0.5
    rough = Composite(lambda x: jnp.sin(20 * x), lambda y: jnp.sum(y), jnp.full(3, 0.05))
    x = rough.init(jax.random.key(0))
    _, state = method.step(rough, x, method.init(rough, x, jax.random.key(0)), jax.random.key(0))
    assert float(state.damping) == 2.0


def test_cross_entropy_of_a_network_against_the_dense_matrix():
    with jax.enable_x64(True):
        x = {"w": jnp.asarray(RNG.standard_normal((4, 3))), "b": jnp.zeros(3)}
        inputs, labels = jnp.asarray(RNG.standard_normal((5, 4))), jnp.array([0, 1, 2, 1, 0])

        def logits(x, batch):
            return jnp.tanh(batch[0] @ x["w"]) + x["b"]

        def loss(z, batch):
            return optax.softmax_cross_entropy_with_integer_labels(z, batch[1]).mean()

        problem = Composite(logits, loss, x, (inputs, labels))
        flat, unravel = jax.flatten_util.ravel_pytree(x)
        dense = jax.vmap(lambda v: jax.flatten_util.ravel_pytree(problem.ggn(x, problem.full)(unravel(v)))[0])(
            jnp.eye(15)
        )
        gradient = jax.flatten_util.ravel_pytree(jax.grad(problem.loss)(x, problem.full))[0]
        expected = flat - jnp.linalg.solve(dense + 0.01 * jnp.eye(15), gradient)
        trace = run(problem, GaussNewton(1.0, 0.01), steps=1)
        found = jax.flatten_util.ravel_pytree(jax.tree.map(lambda a: a[0, 0], trace.final))[0]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_refuses_bad_hyperparameters():
    for name, bad in (("learning_rate", 0.0), ("damping", 0.0), ("momentum", 1.0)):
        with pytest.raises(ValueError, match=name):
            GaussNewton(**{"learning_rate": 0.1, name: bad})
