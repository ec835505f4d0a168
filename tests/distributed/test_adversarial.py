"""Federated learning under attack against NumPy loops over clients."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.distributed import AdversarialAveraging
from attractor.nn.robust.attacks import attacked
from attractor.problem import Federated

RNG = np.random.default_rng(0)
ROWS, TARGETS = RNG.normal(size=(4, 6, 2)), RNG.normal(size=(4, 6))
START = np.array([0.5, 0.3, -0.8])


def cubes(clients):
    """Losses that are not linear in the inputs, whose gradients NumPy knows, too."""

    def loss(x, batch):
        rows, targets = batch
        return jnp.mean((rows @ x["w"] + x["c"] - targets) ** 4) / 4

    start = {"c": jnp.asarray(START[0]), "w": jnp.asarray(START[1:])}
    return Federated(loss, start, (ROWS[:clients], TARGETS[:clients]))


def worst(rows, targets, z, radius, steps, size):
    moved = rows.copy()
    for _ in range(steps):
        uphill = np.sign((moved @ z[1:] + z[0] - targets) ** 3)[:, None] * np.sign(z[1:])
        moved = np.clip(moved + size * radius * uphill, rows - radius, rows + radius)
    return moved


@pytest.mark.parametrize(
    ("clients", "server_rate", "local_steps", "attack"),
    [(4, 0.7, 3, (0.3, 2, 0.4)), (1, 1.0, 1, (0.3, 4, 0.4)), (4, 1.0, 2, (0.0, 1, 1.0))],
    ids=["federated", "adversarial training", "fedavg"],
)
def test_rounds_are_a_loop_over_clients_that_attack_themselves(clients, server_rate, local_steps, attack):
    radius, steps, size = attack
    method = AdversarialAveraging(0.02, server_rate, radius, steps, size, local_steps)
    with jax.enable_x64(True):
        problem = cubes(clients)
        x = problem.init(jr.key(0))
        step = jax.jit(lambda x, key: method.step(problem, x, None, key)[0])
        for key in jr.split(jr.key(1), 4):
            x = step(x, key)
    z, kinks = START.copy(), []
    for _ in range(4):
        models = np.tile(z, (clients, 1))
        for i in range(clients):
            for _ in range(local_steps):
                moved = worst(ROWS[i], TARGETS[i], models[i], radius, steps, size)
                kinks += [np.abs(moved @ models[i, 1:] + models[i, 0] - TARGETS[i]).min()]
                rows = np.c_[np.ones(6), moved]
                models[i] -= 0.02 * rows.T @ (rows @ models[i] - TARGETS[i]) ** 3 / 6
        z += server_rate * (models.mean(0) - z)
    assert min(kinks) > 1e-9  # no sign hangs on rounding
    np.testing.assert_allclose(np.r_[x["c"], x["w"]], z, rtol=1e-8)


def test_an_attacked_loss_has_the_gradient_at_the_attacked_inputs():
    def loss(x, batch):
        return jnp.mean((batch[0] @ x - batch[1]) ** 2)

    with jax.enable_x64(True):
        x, box = jnp.asarray([0.7, -1.2]), jnp.asarray([0.3, 0.0])
        rows, targets = ROWS[0], TARGETS[0]
        value, slope = jax.value_and_grad(attacked(loss, box, 4))(x, (jnp.asarray(rows), jnp.asarray(targets)))
        moved = rows + np.sign(rows @ x - targets)[:, None] * np.array([0.3, 0.0])  # the loss rises along x_1 > 0
        np.testing.assert_allclose(value, np.mean((moved @ x - targets) ** 2))
        np.testing.assert_allclose(slope, 2 * moved.T @ (moved @ x - targets) / 6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdversarialAveraging(0.0), "learning_rate"),
        (lambda: AdversarialAveraging(0.1, server_rate=0.0), "server_rate"),
        (lambda: AdversarialAveraging(0.1, radius=-0.1), "radius"),
        (lambda: AdversarialAveraging(0.1, attack_steps=0), "attack_steps"),
        (lambda: AdversarialAveraging(0.1, attack_size=0.0), "attack_size"),
        (lambda: AdversarialAveraging(0.1, local_steps=0), "local_steps"),
        (lambda: attacked(jnp.sum, -0.1), "radius"),
        (lambda: attacked(jnp.sum, 0.1, 0), "steps"),
        (lambda: attacked(jnp.sum, 0.1, 1, 0.0), "step_size"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
