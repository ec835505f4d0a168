"""The Elman cell against NumPy, and errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.nn import ElmanCell, unroll


def test_states_are_those_of_a_loop():
    cell = ElmanCell(3, 4, key=jr.key(0))
    inputs = jr.normal(jr.key(1), (5, 3))
    x, expected = np.zeros(4), []
    for u in np.asarray(inputs):
        x = np.asarray(cell.recurrent) @ np.tanh(x) + np.asarray(cell.input) @ u + np.asarray(cell.bias)
        expected.append(x)
    np.testing.assert_allclose(unroll(cell, jnp.zeros(4), inputs), expected, rtol=1e-5, atol=1e-7)


def test_the_jacobian_is_the_weights_times_the_slope():
    cell = ElmanCell(1, 4, jax.nn.sigmoid, key=jr.key(0))
    x = jnp.linspace(-1, 1, 4)
    s = jax.nn.sigmoid(x)
    np.testing.assert_allclose(jax.jacobian(cell)(x, jnp.ones(1)), cell.recurrent * s * (1 - s), rtol=1e-5, atol=1e-7)


def test_the_radius_is_about_that():
    cell = ElmanCell(5, 200, radius=0.7, key=jr.key(0))
    assert abs(np.abs(np.linalg.eigvals(cell.recurrent)).max() - 0.7) < 0.07
    np.testing.assert_allclose(np.std(cell.input), 0.1, rtol=0.1)


@pytest.mark.parametrize("bad", [{"inputs": 0}, {"width": 0}, {"radius": -1.0}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        ElmanCell(**{"inputs": 1, "width": 1, **bad}, key=jr.key(0))


def test_a_state_follows_the_formula():
    cell = eqx.tree_at(lambda c: c.bias, ElmanCell(2, 3, radius=0.9, key=jr.key(0)), jnp.asarray([0.3, -0.2, 0.5]))
    x, u = np.array([0.4, -1.0, 0.7]), np.array([1.5, -0.5])
    expected = np.asarray(cell.recurrent) @ np.tanh(x) + np.asarray(cell.input) @ u + [0.3, -0.2, 0.5]
    np.testing.assert_allclose(cell(jnp.asarray(x), jnp.asarray(u)), expected, rtol=1e-6)
