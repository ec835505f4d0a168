"""Two-step momentum against NumPy, and the known parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import heavy_ball, nesterov, triple_momentum, two_step_momentum


def path(optimizer, steps=10):
    curvature, x = jnp.asarray([1.0, 25.0]), jnp.asarray([1.0, -2.0])
    state = optimizer.init(x)
    for _ in range(steps):
        updates, state = optimizer.update(curvature * x, state, x)
        x = optax.apply_updates(x, updates)
    return x


def numpy_path(alpha, beta, gamma, steps=10):
    curvature, z = np.array([1.0, 25.0]), np.array([1.0, -2.0])
    before = z
    for _ in range(steps):
        x = (1 + gamma) * z - gamma * before
        before, z = z, (1 + beta) * z - beta * before - alpha * curvature * x
    return (1 + gamma) * z - gamma * before


@pytest.mark.parametrize(
    ("optimizer", "parameters"),
    [
        (two_step_momentum, (0.03, 0.5, 0.2)),
        (nesterov, (1 / 25, 4 / 6, 4 / 6)),
        (heavy_ball, (1 / 9, 4 / 9, 0.0)),
        (triple_momentum, (1.8 / 25, 0.64 / 1.2, 0.64 / (1.8 * 1.2))),
    ],
)
def test_agrees_with_numpy(optimizer, parameters):
    with jax.enable_x64(True):
        made = optimizer(*parameters) if optimizer is two_step_momentum else optimizer(1 / 25, 25.0)
        np.testing.assert_allclose(path(made), numpy_path(*parameters), rtol=1e-9)


def test_nesterov_is_that_of_optax():
    with jax.enable_x64(True):
        np.testing.assert_allclose(path(nesterov(0.04, 25.0)), path(optax.sgd(0.04, 4 / 6, nesterov=True)), atol=1e-12)


def test_a_condition_below_one_is_named():
    with pytest.raises(ValueError, match="condition"):
        nesterov(0.1, 0.5)
