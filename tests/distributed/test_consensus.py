"""Consensus with decaying weights against a NumPy loop over agents."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.distributed import ConsensusDescent
from attractor.engine import run
from attractor.problem import Federated
from attractor.problems import tilted_wells

STAR = np.zeros((4, 4), bool)
STAR[0, 1:] = STAR[1:, 0] = STAR[2, 3] = STAR[3, 2] = True
TILTS = np.random.default_rng(0).normal(size=(4, 1, 3))


def tilted():
    return Federated(lambda x, tilt: jnp.sum(x**4) / 4 + jnp.mean(tilt, 0) @ x, jnp.asarray([0.5, -1.0, 0.2]), TILTS)


def test_steps_are_those_of_a_loop_with_the_same_noise():
    with jax.enable_x64(True):
        problem, method = tilted(), ConsensusDescent(0.2, 0.15, 0.8, 0.25, 0.3, STAR)
        x = problem.init(jr.key(0))
        state = method.init(problem, x, jr.key(0))
        step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
        points = np.tile([0.5, -1.0, 0.2], (4, 1))
        for t, key in enumerate(jr.split(jr.key(1), 6)):
            x, state = step(x, state, key)
            noise = np.asarray(jr.normal(jr.split(jr.fold_in(key, 1), 1)[0], (4, 3)))
            alpha, beta = 0.2 / (t + 1) ** 0.8, 0.15 / (t + 1) ** 0.25
            pulls = np.array([sum(points[i] - points[j] for j in range(4) if STAR[i, j]) for i in range(4)])
            points = points - beta * pulls - alpha * (points**3 + TILTS[:, 0] + 0.3 * noise)
    np.testing.assert_allclose(state.models, points, rtol=1e-7)
    np.testing.assert_allclose(x, points.mean(0), rtol=1e-7)


def test_tilts_cancel():
    problem = tilted_wells(5, 0.3)
    for x in ([0.4, -2.0, 0.7], [-1.0, 0.0, 0.0]):
        mean = (x[0] ** 2 - 1) ** 2 / 4 + x[1] ** 2 / 2 + abs(x[2])
        np.testing.assert_allclose(problem.loss(jnp.asarray(x), problem.full), mean, rtol=1e-5, atol=1e-7)
    assert np.ptp(np.asarray(problem.full), 0).min() > 0.3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConsensusDescent(0.0), "learning_rate"),
        (lambda: tilted_wells(1), "agents"),
        (lambda: tilted_wells(tilt=1.0), "tilt"),
        (lambda: ConsensusDescent(0.1, 0.0), "coupling"),
        (lambda: ConsensusDescent(0.1, noise=-1.0), "noise"),
        (lambda: run(tilted(), ConsensusDescent(0.1, graph=np.zeros((4, 4), bool)), steps=1), "adjacency: .*4 parts"),
        (lambda: run(tilted(), ConsensusDescent(0.1, graph=STAR[1:, 1:] | True), steps=1), r"graph: expected \(4, 4\)"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
