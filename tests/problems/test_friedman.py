"""Friedman's data in other units, the loss by hand, and errors."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sklearn.datasets import make_friedman1

from attractor.problems import friedman_regression


def test_inputs_are_friedmans_in_units_within_the_spread():
    problem = friedman_regression(40, 6, spread=20.0, seed=3)
    x, y = make_friedman1(40, 6, noise=1.0, random_state=3)
    units = np.asarray(problem.full[0]) / x
    np.testing.assert_allclose(units, np.broadcast_to(units[:1], units.shape), rtol=1e-4)
    np.testing.assert_allclose(np.sort(units[0]), np.geomspace(1 / 20, 20, 6), rtol=1e-4)
    np.testing.assert_allclose(problem.full[1], y, rtol=1e-5)


@pytest.mark.parametrize("control", [True, False])
def test_the_loss_is_half_the_squared_error_of_the_network(control):
    problem = friedman_regression(30, 5, width=3, control=control)
    network = problem.init(jr.key(1))
    inputs, targets = map(np.asarray, problem.full)
    seen = inputs @ np.asarray(network.hidden.weight).T
    if control:
        seen = seen + np.asarray(network.hidden.bias)
        np.testing.assert_allclose(seen.mean(0), 0.5, atol=1e-4)
        np.testing.assert_allclose(seen.std(0), 1.0, rtol=1e-4)
    else:
        assert network.hidden.bias is None
    outputs = np.column_stack([inputs, np.tanh(seen)]) @ np.asarray(network.output.weight)[0]
    outputs = outputs + (float(network.output.bias[0]) if control else 0.0)
    expected = 0.5 * np.sum((outputs - targets) ** 2)
    assert float(problem.loss(network, problem.full)) == pytest.approx(expected, rel=1e-4)


def test_in_double_precision_where_that_is_asked_for():
    with jax.enable_x64(True):
        problem = friedman_regression(10, 5)
        assert problem.full[0].dtype == jnp.float64
        assert problem.init(jr.key(0)).hidden.weight.dtype == jnp.float64


@pytest.mark.parametrize("bad", [{"samples": 1}, {"inputs": 4}, {"spread": 0.5}, {"width": 0}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        friedman_regression(**bad)
