"""Paths against a loop in NumPy and against Black and Scholes; profit and network by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import norm

from attractor.problems.deep_hedging import HORIZON, Hedger, deep_hedging, hedge, heston_paths
from attractor.second_order import layer_statistics


def test_paths_agree_with_a_loop():
    with jax.enable_x64(True):
        prices, variances = heston_paths(jr.key(0), 7, 5, horizon=1.0, reversion=3.0, volatility=1.0, correlation=-0.5)
        first, second = np.asarray(jr.normal(jr.key(0), (2, 5, 7)))
        dt, log_price, v = 0.2, np.zeros(7), np.full(7, 0.04)
        for t in range(5):
            np.testing.assert_allclose(prices[:, t], 100 * np.exp(log_price))
            np.testing.assert_allclose(variances[:, t], np.maximum(v, 0), atol=1e-15)
            present = np.maximum(v, 0)
            log_price = log_price - present * dt / 2 + np.sqrt(present * dt) * first[t]
            noise = -0.5 * first[t] + np.sqrt(0.75) * second[t]
            v = v + 3.0 * (0.04 - present) * dt + np.sqrt(present * dt) * noise
        assert (v < 0).any()
        np.testing.assert_allclose(prices[:, 5], 100 * np.exp(log_price))
        np.testing.assert_allclose(variances[:, 5], np.maximum(v, 0), atol=1e-15)


def test_constant_variance_is_black_scholes():
    prices, _ = heston_paths(jr.key(1), 20_000, volatility=0.0)
    payoff = np.maximum(np.asarray(prices[:, -1]) - 100, 0)
    spread = 0.2 * HORIZON**0.5
    expected = 100 * (2 * norm.cdf(spread / 2) - 1)
    assert payoff.mean() == pytest.approx(expected, abs=3 * float(payoff.std()) / 20_000**0.5)


def test_price_and_variance_move_against_each_other():
    prices, variances = heston_paths(jr.key(2), 5_000)
    returns, changes = np.diff(np.log(prices)), np.diff(variances)
    assert np.corrcoef(returns.ravel(), changes.ravel())[0, 1] == pytest.approx(-0.7, abs=0.02)
    assert np.asarray(prices[:, -1]).mean() == pytest.approx(100, abs=0.3)


def test_profit_by_hand():
    profit, paid = hedge(jnp.asarray([0.5, 0.2]), jnp.asarray([100.0, 110.0, 108.0]), 0.01)
    assert float(paid) == pytest.approx(0.01 * (100 * 0.5 + 110 * 0.3))
    assert float(profit) == pytest.approx(0.5 * 10 + 0.2 * -2 - 8 - float(paid), rel=1e-5)


def test_network_agrees_with_a_loop():
    with jax.enable_x64(True):
        model = Hedger(3, key=jr.key(0))
        prices, variances = (np.asarray(a[0]) for a in heston_paths(jr.key(3), 1, 4))
        found = model(jnp.asarray(prices), jnp.asarray(variances))

        def sigmoid(a):
            return 1 / (1 + np.exp(-a))

        hidden, cell, position = np.zeros(3), np.zeros(3), 0.0
        for t in range(4):
            x = [20 * np.log(prices[t] / 100), variances[t] / 0.04 - 1, 1 - t / 4, position, *hidden]
            enter, keep, new, leave = np.split(np.asarray(model.gates.weight) @ x + model.gates.bias, 4)
            cell = sigmoid(keep) * cell + sigmoid(enter) * np.tanh(new)
            hidden = sigmoid(leave) * np.tanh(cell)
            position = (np.asarray(model.head.weight) @ hidden + model.head.bias).item()
            assert float(found[t]) == pytest.approx(position)


def test_risk_of_a_certain_loss_is_that_loss():
    """A network that holds nothing: the risk is the log-mean-exp of the option's payoff."""
    problem = deep_hedging(width=2, paths=50, batch_size=None)
    nothing = jax.tree.map(jnp.zeros_like, problem.init(jr.key(0)))
    payoff = np.maximum(np.asarray(problem.full[0][:, -1], float) - 100, 0)
    expected = np.log(np.exp(payoff).mean())
    assert float(problem.loss(nothing, problem.full)) == pytest.approx(expected, rel=1e-5)


def test_both_layers_have_kronecker_factors():
    problem = deep_hedging(width=2, paths=10, batch_size=5)
    x = problem.init(jr.key(0))
    loss = eqx.filter_jit(lambda x: layer_statistics(lambda x: problem.loss(x, problem.full), x, 10)[2])
    assert [(a.shape, g.shape) for a, g in loss(x)] == [((7, 7), (8, 8)), ((3, 3), (1, 1))]


@pytest.mark.parametrize("bad", [{"cost": -1.0}, {"width": 0}, {"paths": 0}, {"batch_size": 0}])
def test_refuses(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        deep_hedging(**{"paths": 10, "batch_size": 5} | bad)


@pytest.mark.parametrize("bad", [{"horizon": 0.0}, {"reversion": -1.0}, {"volatility": -1.0}, {"correlation": 2.0}])
def test_paths_refuse(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        heston_paths(jr.key(0), 3, **bad)
