"""The chained proximal step against scikit-learn, schedules, and errors."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import Lasso

from attractor import Minimization, run
from attractor.linalg import lasso
from attractor.optim import apply_prox, exponentiated_gradient, proximal_sgd

RNG = np.random.default_rng(0)


def test_proximal_descent_solves_the_lasso():
    rows, y = RNG.standard_normal((40, 8)), RNG.standard_normal(40)
    truth = Lasso(alpha=0.2, fit_intercept=False, tol=1e-10).fit(rows, y).coef_
    a, b = jnp.asarray(rows, float), jnp.asarray(y, float)
    problem = Minimization(lambda w: jnp.mean((a @ w - b) ** 2) / 2, jnp.zeros(8))
    final = np.asarray(run(problem, proximal_sgd(0.3, lasso(0.2)), steps=300, every=300).final)[0, 0]
    np.testing.assert_allclose(final, truth, atol=1e-5)
    np.testing.assert_array_equal(final == 0, truth == 0)


def test_step_size_may_be_a_schedule():
    optimizer = apply_prox(lasso(1.0), lambda count: 0.1 * (count + 1))
    x, state = jnp.array([1.0]), optimizer.init(jnp.array([1.0]))
    for expected in (0.9, 0.7):
        updates, state = optimizer.update(jnp.zeros(1), state, x)
        x = jnp.asarray(optax.apply_updates(x, updates))
        np.testing.assert_allclose(x, [expected], rtol=1e-6)


def test_errors_name_the_argument():
    for name, call in {
        "step_size": lambda: apply_prox(lasso(1.0), 0.0),
        "params": lambda: apply_prox(lasso(1.0), 0.1).update(jnp.ones(2), jnp.asarray(0)),
    }.items():
        with pytest.raises(ValueError, match=name):
            call()


def test_ten_exponentiated_steps_agree_with_numpy():
    matrix, optimizer = RNG.standard_normal((5, 5)), exponentiated_gradient(lambda count: 0.3 / (count + 1))
    x = {"a": np.array([0.2, 0.5, 0.3]), "b": np.array([1.5, 0.5])}
    w = {k: jnp.asarray(v, float) for k, v in x.items()}
    state = optimizer.init(w)
    for t in range(10):
        g = matrix @ np.concatenate([x["a"], x["b"]])
        slopes = {"a": g[:3], "b": g[3:]}
        updates, state = optimizer.update({k: jnp.asarray(v, float) for k, v in slopes.items()}, state, w)
        w = optax.apply_updates(w, updates)
        for k, total in (("a", 1.0), ("b", 2.0)):
            grown = x[k] * np.exp(-0.3 / (t + 1) * slopes[k])
            x[k] = total * grown / grown.sum()
            np.testing.assert_allclose(w[k], x[k], rtol=1e-5)


def test_exponentiated_steps_do_not_overflow():
    updates, _ = exponentiated_gradient(1.0).update(jnp.array([-1e4, 0.0]), jnp.asarray(0), jnp.array([0.5, 0.5]))
    np.testing.assert_allclose(updates, [0.5, -0.5])
    with pytest.raises(ValueError, match="params"):
        exponentiated_gradient(1.0).update(jnp.ones(2), jnp.asarray(0))


def test_multiplicative_steps_check_a_rate_and_follow_a_schedule():
    for bad in (0.0, -1.0):
        with pytest.raises(ValueError, match="learning_rate"):
            exponentiated_gradient(bad)
    method, x, g = exponentiated_gradient(lambda step: 0.5 / (1 + step)), jnp.array([0.2, 0.8]), jnp.array([1.0, 3.0])
    state = method.init(x)
    for rate in (0.5, 0.25):
        update, state = method.update(g, state, x)
        grown = np.asarray(x) * np.exp(-rate * np.asarray(g))
        np.testing.assert_allclose(x + update, grown / grown.sum(), rtol=1e-6)
