"""Federated averaging against NumPy loops over clients."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.distributed import FedSpeed, fedavg, fedprox
from attractor.problem import Federated

RNG = np.random.default_rng(0)
ROWS, TARGETS = RNG.normal(size=(4, 6, 3)), RNG.normal(size=(4, 6))
START = {"c": 0.5, "w": np.arange(2.0)}


def cubes():
    """Losses with curvature that changes, whose gradients NumPy knows, too."""

    def loss(x, batch):
        rows, targets = batch
        return jnp.mean((rows @ jnp.r_[x["c"], x["w"]] - targets) ** 4) / 4

    return Federated(loss, jax.tree.map(jnp.asarray, START), (ROWS, TARGETS))


def slope(i, z):
    return ROWS[i].T @ (ROWS[i] @ z - TARGETS[i]) ** 3 / 6


@pytest.mark.parametrize(
    ("method", "prox", "radius", "share", "corrected"),
    [
        (FedSpeed(0.01, 2.5, 0.02, 0.7, local_steps=3), 2.5, 0.02, 0.7, True),
        (fedprox(0.01, 0.4, 3), 0.4, 0.0, 0.0, False),
        (fedavg(0.01, 3), np.inf, 0.0, 0.0, False),
    ],
)
def test_rounds_are_a_loop_over_clients(method, prox, radius, share, corrected):
    with jax.enable_x64(True):
        problem = cubes()
        x = problem.init(jr.key(0))
        state = method.init(problem, x, jr.key(0))
        step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
        for key in jr.split(jr.key(1), 5):
            x, state = step(x, state, key)
    z, c = np.r_[0.5, np.arange(2.0)], np.zeros((4, 3))
    for _ in range(5):
        models = np.tile(z, (4, 1))
        for i in range(4):
            for _ in range(3):
                plain = slope(i, models[i])
                mixed = (1 - share) * plain + share * slope(i, models[i] + radius * plain)
                models[i] -= 0.01 * (mixed - c[i] + (models[i] - z) / prox)
        if corrected:
            c -= (models - z) / prox
            models -= prox * c
        z = models.mean(0)
    np.testing.assert_allclose(np.r_[x["c"], x["w"]], z, rtol=1e-8)
    if corrected:
        np.testing.assert_allclose(np.c_[state.correction["c"], state.correction["w"]], c, rtol=1e-8)
    else:
        assert state.correction is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedSpeed(0.0), "learning_rate"),
        (lambda: FedSpeed(0.1, prox=0.0), "prox"),
        (lambda: FedSpeed(0.1, share=1.5), "share"),
        (lambda: fedavg(0.1, 0), "local_steps"),
        (lambda: fedprox(0.1, -1.0), "prox"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
