"""Backward signals and the penalty on them, against NumPy and finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.nn import ElmanCell, unroll
from attractor.optim import backward_signals, jacobian_product_norms, vanishing_gradient_penalty

STEPS, WIDTH = 6, 4


@pytest.fixture
def recurrence():
    with jax.enable_x64(True):
        cell = ElmanCell(2, WIDTH, radius=1.2, key=jr.key(0))
        yield cell, jr.normal(jr.key(1), (STEPS, 2)), jr.normal(jr.key(2), (STEPS, WIDTH))


def _numpy_penalty(weights, states, signals):
    """From the definition, for a tanh cell."""
    ratios = [
        np.linalg.norm((1 - np.tanh(x) ** 2) * (weights.T @ d)) / np.linalg.norm(d)
        for x, d in zip(states[:-1], signals[1:], strict=True)
    ]
    return np.mean((np.array(ratios) - 1) ** 2)


def test_signals_are_total_derivatives(recurrence):
    cell, inputs, targets = recurrence

    def loss(states):
        return jnp.sum((states - targets) ** 2)

    states, signals = backward_signals(cell, jnp.zeros(WIDTH), inputs, loss)
    np.testing.assert_allclose(states, unroll(cell, jnp.zeros(WIDTH), inputs), rtol=1e-12)
    expected = np.zeros_like(targets)
    weights = np.asarray(cell.recurrent)
    for t in reversed(range(STEPS)):
        direct = 2 * (np.asarray(states)[t] - np.asarray(targets)[t])
        later = (1 - np.tanh(states[t]) ** 2) * (weights.T @ expected[t + 1]) if t + 1 < STEPS else 0
        expected[t] = direct + later
    np.testing.assert_allclose(signals, expected, rtol=1e-10)


def test_the_penalty_and_its_gradient(recurrence):
    cell, inputs, targets = recurrence

    def loss(states):
        return jnp.sum((states[-1] - targets[-1]) ** 2)

    def penalty(cell):
        return vanishing_gradient_penalty(cell, jnp.zeros(WIDTH), inputs, loss, weight=2.0)

    states, signals = (np.asarray(a) for a in backward_signals(cell, jnp.zeros(WIDTH), inputs, loss))
    value, gradient = eqx.filter_value_and_grad(penalty)(cell)
    weights = np.asarray(cell.recurrent)
    np.testing.assert_allclose(value, 2 * _numpy_penalty(weights, states, signals), rtol=1e-10)
    expected = np.zeros_like(weights)
    for index in np.ndindex(*weights.shape):  # states and signals stay what they are
        nudge = np.zeros_like(weights)
        nudge[index] = 1e-6
        up, down = (_numpy_penalty(weights + s * nudge, states, signals) for s in (1, -1))
        expected[index] = 2 * (up - down) / 2e-6
    np.testing.assert_allclose(gradient.recurrent, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(gradient.input, 0)


def test_an_orthogonal_linear_recurrence_is_not_penalized():
    rotation = jnp.array([[0.6, -0.8], [0.8, 0.6]])
    penalty = vanishing_gradient_penalty(lambda x, u: rotation @ x, jnp.ones(2), jnp.zeros((9, 1)), jnp.sum)
    np.testing.assert_allclose(penalty, 0, atol=1e-10)


@pytest.mark.parametrize("factor", [0.0, 1e-30])
def test_dead_signals_are_left_out_without_nan(factor):
    def penalty(w):
        return vanishing_gradient_penalty(
            lambda x, u: w * x, jnp.ones(2), jnp.zeros((5, 1)), lambda states: factor * jnp.sum(states[-1])
        )

    value, gradient = jax.value_and_grad(penalty)(jnp.asarray(0.5))
    expected = (0.25, -1.0) if factor else (0.0, 0.0)  # (w - 1)², or nothing
    np.testing.assert_allclose((value, gradient), expected, rtol=1e-5)


def test_products_of_jacobians(recurrence):
    cell, inputs, _ = recurrence
    states = unroll(cell, jnp.zeros(WIDTH), inputs)
    product, expected = np.eye(WIDTH), []
    for x in reversed(np.asarray(states)):
        product = product @ (np.asarray(cell.recurrent) * (1 - np.tanh(x) ** 2))
        expected.append(np.linalg.norm(product, 2))
    np.testing.assert_allclose(jacobian_product_norms(cell, states, inputs), expected, rtol=1e-10)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="weight"):
        vanishing_gradient_penalty(lambda x, u: x, jnp.ones(1), jnp.ones((2, 1)), jnp.sum, weight=-1.0)
