"""Rounds of a few clients against NumPy loops over them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.distributed import AnchorSampling, Scaffold, fedavg
from attractor.engine import run
from attractor.problem import Federated

RNG = np.random.default_rng(0)
ROWS, TARGETS = RNG.normal(size=(5, 6, 3)), RNG.normal(size=(5, 6))
START = {"c": 0.5, "w": np.arange(2.0)}


def quartics(batch_size: int | None = 2):
    def loss(x, batch):
        rows, targets = batch
        return jnp.mean((rows @ jnp.r_[x["c"], x["w"]] - targets) ** 4) / 4

    return Federated(loss, jax.tree.map(jnp.asarray, START), (ROWS, TARGETS), batch_size=batch_size)


def slope(z, rows, targets):
    return rows.T @ (rows @ z - targets) ** 3 / len(rows)


def rounds(method, number):
    """Points and states of the first rounds, with the clients, the anchors' draws and the minibatches of each."""
    with jax.enable_x64(True):
        problem, drawn, points = quartics(), [], []
        x = problem.init(jr.key(0))
        state = method.init(problem, x, jr.key(0))
        step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
        for key in jr.split(jr.key(1), number):
            keys = jr.split(key, 3 if isinstance(method, AnchorSampling) else 2)
            batches = [jax.tree.map(np.asarray, problem.sample(k)) for k in jr.split(keys[-1], 3)]
            drawn.append((jr.permutation(keys[0], 5)[:3].tolist(), jr.bernoulli(keys[1], 0.4, (3,)), batches))
            x, state = step(x, state, key)
            points.append((np.r_[x["c"], x["w"]], np.c_[state.directions["c"], state.directions["w"]]))
    return drawn, points


@pytest.mark.parametrize("period", [None, 3])
def test_anchors_and_miners_are_a_loop_over_clients(period):
    drawn, points = rounds(AnchorSampling(0.02, 3, 0.4, period, 0.7, 3), 6)
    z = np.r_[0.5, np.arange(2.0)]
    known = np.array([slope(z, ROWS[i], TARGETS[i]) for i in range(5)])
    kinds = set()
    for t, ((clients, anchors, batches), (point, directions)) in enumerate(zip(drawn, points, strict=True)):
        if period is not None:
            anchors = [t % period == 0] * 3
        moves, renewed = [], known.copy()
        for i, anchor in zip(clients, anchors, strict=True):
            if anchor:
                renewed[i] = slope(z, ROWS[i], TARGETS[i])
                continue
            y, old, d = z.copy(), z.copy(), known.mean(0)
            for rows, targets in batches:
                d = d + slope(y, rows[i], targets[i]) - slope(old, rows[i], targets[i])
                y, old = y - 0.02 * d, y
            moves.append(y - z)
        kinds.add(len(moves))
        known, z = renewed, z + 0.7 * np.mean(moves, 0) if moves else z
        np.testing.assert_allclose(point, z, rtol=1e-9)
        np.testing.assert_allclose(directions, known, rtol=1e-9)
    assert len(kinds) > 1  # rounds differed in how many mine


def test_corrections_are_a_loop_over_clients():
    drawn, points = rounds(Scaffold(0.02, 3, 0.7, 3), 6)
    z, c = np.r_[0.5, np.arange(2.0)], np.zeros((5, 3))
    for (clients, _, batches), (point, directions) in zip(drawn, points, strict=True):
        ends, renewed = [], c.copy()
        for i in clients:
            y = z.copy()
            for rows, targets in batches:
                y = y - 0.02 * (slope(y, rows[i], targets[i]) - c[i] + c.mean(0))
            renewed[i] = c[i] - c.mean(0) + (z - y) / (3 * 0.02)
            ends.append(y)
        c, z = renewed, z + 0.7 * (np.mean(ends, 0) - z)
        np.testing.assert_allclose(point, z, rtol=1e-9)
        np.testing.assert_allclose(directions, c, rtol=1e-9)


def test_all_clients_without_corrections_are_federated_averaging():
    problem = quartics(None)
    ours, plain = (run(problem, m, steps=3)["loss"].values for m in (Scaffold(0.05, corrected=False), fedavg(0.05)))
    np.testing.assert_allclose(ours, plain, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AnchorSampling(0.0), "learning_rate"),
        (lambda: AnchorSampling(0.1, 0), "participants"),
        (lambda: AnchorSampling(0.1, anchors=1.5), "anchors"),
        (lambda: AnchorSampling(0.1, period=0), "period"),
        (lambda: Scaffold(0.1, server_rate=0.0), "server_rate"),
        (lambda: run(quartics(), Scaffold(0.1, 6), steps=1), "participants: expected at most 5"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
