"""Asynchronous averaging against a plain simulation of clients that arrive."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.distributed import FedFix, fedavg
from attractor.engine import run
from attractor.problem import Federated

RNG = np.random.default_rng(0)
CENTERS, BENT = RNG.normal(size=(3, 1, 2)), RNG.uniform(0.5, 2.0, (3, 1, 2))
TIMES = np.array([1.0, 2.5, 4.0])


def quartics():
    def loss(x, batch):
        centers, bent = batch
        return jnp.sum(bent.mean(0) * (x - centers.mean(0)) ** 4) / 4

    return Federated(loss, jnp.asarray([0.5, -1.0]), (CENTERS, BENT))


@pytest.mark.parametrize("weights", [None, np.array([0.2, 0.5, 0.1])])
def test_aggregations_are_those_of_a_simulation(weights):
    with jax.enable_x64(True):
        given = None if weights is None else jnp.asarray(weights)
        problem, method = quartics(), FedFix(0.05, 1.0, 0.8, 2, jnp.asarray(TIMES), given)
        x = problem.init(jr.key(0))
        state = method.init(problem, x, jr.key(0))
        step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
        z, held, due = np.array([0.5, -1.0]), np.tile([0.5, -1.0], (3, 1)), TIMES.copy()
        share = np.array([1, 3, 4]) / 3 if weights is None else weights
        for now in range(1, 11):
            x, state = step(x, state, jr.key(now))
            for i in range(3):
                if due[i] <= now:
                    y = held[i].copy()
                    for _ in range(2):
                        y -= 0.05 * BENT[i, 0] * (y - CENTERS[i, 0]) ** 3
                    z = z + 0.8 * share[i] * (y - held[i])
            for i in range(3):
                if due[i] <= now:
                    held[i], due[i] = z, now + TIMES[i]
            np.testing.assert_allclose(x, z, rtol=1e-7)
        np.testing.assert_allclose(state.models, held, rtol=1e-7)


def test_an_interval_as_long_as_the_slowest_client_is_federated_averaging():
    problem = quartics()
    ours, plain = (run(problem, m, steps=4)["loss"].values for m in (FedFix(0.1, 3.0, local_steps=3), fedavg(0.1, 3)))
    np.testing.assert_allclose(ours, plain, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FedFix(0.0), "learning_rate"),
        (lambda: FedFix(0.1, 0.0), "interval"),
        (lambda: FedFix(0.1, server_rate=0.0), "server_rate"),
        (lambda: FedFix(0.1, times=jnp.zeros(3)), "times"),
        (lambda: run(quartics(), FedFix(0.1, times=jnp.ones(2)), steps=1), "times: expected one number for each of 3"),
        (lambda: run(quartics(), FedFix(0.1, weights=jnp.ones(2)), steps=1), "weights: expected one number"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
