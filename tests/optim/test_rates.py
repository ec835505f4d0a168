"""Bounds against formulas typed again, momentum against NumPy, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import averaging_momentum, convergence_bound, largest_step, minibatch_constants
from attractor.optim.rates import recursion_slack

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
        ("gradient-descent", "strongly-convex", 0.995**5 * 4),
        ("gradient-descent", "nonconvex", 2 * 7 / (0.01 * 5)),
        ("nesterov", "convex", 2 * 4 / (0.01 * 36)),
        ("svrg", "strongly-convex", (1 / (0.5 * 0.01 * 0.8 * 400) + 0.2 / 0.8) ** 5 * 7),
        ("proximal-gradient", "convex", 4 / (2 * 0.01 * 5)),
        ("proximal-gradient", "strongly-convex", 0.995**5 * 4),
        ("proximal-sgd", "strongly-convex", 0.995**5 * 4 + 0.12),
    ],
)
def test_bounds(method, assumption, expected):
    found = convergence_bound(method, assumption, {**CONSTANTS, "step": 0.01, "period": 400}, np.array([5]))
    np.testing.assert_allclose(found, [expected])


@pytest.mark.parametrize(
    ("method", "assumption", "expected"),
    [
        ("gradient-descent", "convex", 1 / 4),
        ("gradient-descent", "strongly-convex", 1 / 4),
        ("gradient-descent", "pl", 1 / 4),
        ("gradient-descent", "nonconvex", 1 / 4),
        ("nesterov", "convex", 1 / 4),
        ("svrg", "strongly-convex", 1 / 40),
        ("sgd", "convex", 1 / 40),
        ("sgd", "strongly-convex", 1 / 20),
        ("sgd", "pl", 0.5 / 40),
        ("momentum", "convex", 1 / 40),
        ("subgradient", "convex", np.inf),
        ("proximal-gradient", "convex", 1 / 4),
        ("proximal-gradient", "strongly-convex", 1 / 4),
        ("proximal-sgd", "strongly-convex", 1 / 20),
    ],
)
def test_largest_steps(method, assumption, expected):
    assert largest_step(method, assumption, CONSTANTS) == pytest.approx(expected)


def test_slack_is_what_the_recursion_leaves():
    after, progress, before = np.array([3.0]), np.array([1.0]), np.array([5.0])
    np.testing.assert_allclose(recursion_slack(after, progress, before, contraction=0.9, error=0.2), [0.7])


def test_constants_of_minibatches_lie_between_one_and_all_examples():
    assert minibatch_constants(CONSTANTS, 1) == CONSTANTS
    three = minibatch_constants(CONSTANTS, 3)
    assert (three["L_max"], three["noise"]) == (pytest.approx(2 / 3 * 4 + 10 / 3), pytest.approx(1))
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
