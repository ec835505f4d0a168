"""Bounds against formulas typed again, momentum against NumPy, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import averaging_momentum, convergence_bound, largest_step, minibatch_constants

CONSTANTS = {"L": 4.0, "mu": 0.5, "L_max": 10.0, "noise": 3.0, "misfit": 0.2, "distance": 2.0, "gap": 7.0, "G": 5.0}


@pytest.mark.parametrize(
    ("method", "assumption", "expected"),
    [
        ("gradient-descent", "convex", 4 / (2 * 0.01 * 5)),
        ("gradient-descent", "pl", 0.995**5 * 7),
        ("sgd", "convex", (4 / (2 * 0.01 * 5) + 0.03) / 0.8),
        ("sgd", "strongly-convex", 0.995**5 * 4 + 0.12),
        ("sgd", "pl", 0.995**5 * 7 + 0.01 * 40 / 0.5 * 0.2),
        ("momentum", "convex", 4 / 0.06 + 0.06),
        ("subgradient", "convex", 4 / (2 * 0.01 * 5) + 0.125),
    ],
)
def test_bounds(method, assumption, expected):
    found = convergence_bound(method, assumption, {**CONSTANTS, "step": 0.01}, np.array([5]))
    np.testing.assert_allclose(found, [expected])


def test_constants_of_minibatches_lie_between_one_and_all_examples():
    assert minibatch_constants(CONSTANTS, 1) == CONSTANTS
    many = minibatch_constants(CONSTANTS, 10**9)
    assert many["L_max"] == pytest.approx(CONSTANTS["L"])
    assert many["noise"] == pytest.approx(0, abs=1e-6)


def test_momentum_agrees_with_numpy():
    curvature, x = np.array([1.0, 3.0]), np.array([2.0, -1.0])
    with jax.enable_x64(True):
        optimizer, found = averaging_momentum(0.1), jnp.asarray(x)
        state, z = optimizer.init(found), x
        for k in range(10):
            z = z - 0.1 * curvature * x
            weight = (k + 1) / 2
            x = (weight * x + z) / (weight + 1)
            updates, state = optimizer.update(curvature * found, state, found)
            found = optax.apply_updates(found, updates)
    np.testing.assert_allclose(found, x, rtol=1e-12)


def test_unknown_theorems_are_named():
    with pytest.raises(ValueError, match="sgd, convex"):
        largest_step("sgd", "convexx", CONSTANTS)
