"""Trained networks as scikit-learn evaluates them, and objectives by hand."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sklearn.datasets import load_diabetes

from attractor.problems import digit_mixture, patient_change, reactor_settings
from attractor.problems.network_inputs import _trained


def test_the_network_is_scikit_learns():
    from sklearn.neural_network import MLPRegressor

    x, y = ((a - a.mean(0)) / a.std(0) for a in map(np.asarray, load_diabetes(return_X_y=True)))
    ours = _trained(x[:50], y[:50], 0.3)(jnp.asarray(x))
    theirs = MLPRegressor(
        hidden_layer_sizes=(16, 16), activation="tanh", solver="lbfgs", alpha=0.3, random_state=0, max_iter=200
    ).fit(x[:50], y[:50])
    np.testing.assert_allclose(np.ravel(ours), np.asarray(theirs.predict(x), float), atol=1e-4)


def test_objectives_and_constraints_say_what_they_mean():
    network, objective, constraints, start = patient_change(0.5)(jr.key(0))
    np.testing.assert_allclose([objective(network(start)), constraints(network(start))[0]], [0, 1.5], atol=1e-5)
    moved = start.at[2].add(0.5)
    np.testing.assert_allclose(objective(network(moved)), 0.25, rtol=1e-5)

    network, objective, constraints, start = digit_mixture(5)(jr.key(1))
    assert start.shape == (5,)
    assert objective(network(start)) > 0
    assert int((constraints(network(start.at[3].set(-11.0))) > 0).sum()) == 1

    network, objective, constraints, start = reactor_settings(0.3)(jr.key(2))
    k, l, t = np.exp(2 * 0.6 - 1), np.exp(3 * 0.6 - 2.5), 2 * 0.4
    b = k / (l - k) * (np.exp(-k * t) - np.exp(-l * t))
    np.testing.assert_allclose(objective(network(jnp.array([0.4, 0.6]))), -b, atol=0.02)
    np.testing.assert_allclose(
        constraints(network(jnp.array([0.4, 1.1]))), 3 * np.array([-0.4, -1.1, -0.6, 0.1, 0.14]), atol=1e-5
    )
