"""Directions of several losses against NumPy, the authors' order of operations, and errors."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import MultiObjective, run
from attractor.optim import (
    MomentumConfig,
    bloop,
    combine_gradients,
    config,
    conflict_free_direction,
    pcgrad,
    project_auxiliary,
    projected_sum,
)

RNG = np.random.default_rng(0)
CENTERS = RNG.standard_normal((3, 4))


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def numpy_config(g):
    direction = unit(np.linalg.pinv(unit(g)) @ np.ones(len(g)))
    return (g @ direction).sum() * direction


def three_bowls():
    def losses(x):
        return tuple(jnp.sum((i + 1) * (x - c) ** 2) for i, c in enumerate(CENTERS))

    return MultiObjective(losses, jnp.zeros(4), names=("a", "b", "c"))


def numpy_gradients(x):
    return np.stack([2 * (i + 1) * (x - c) for i, c in enumerate(CENTERS)])


@pytest.mark.parametrize("m", [1, 2, 3, 6])
def test_the_conflict_free_direction_agrees_with_the_pseudo_inverse(m):
    g = RNG.standard_normal((m, 20)) * 10 ** RNG.uniform(-3, 3, (m, 1))
    with jax.enable_x64(True):
        np.testing.assert_allclose(conflict_free_direction(jnp.asarray(g)), numpy_config(g), rtol=1e-9)


def test_a_vanished_gradient_is_left_out_and_opposite_ones_give_nothing():
    g = jnp.asarray([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    np.testing.assert_allclose(conflict_free_direction(g), conflict_free_direction(g[jnp.array([0, 2])]), atol=1e-6)
    np.testing.assert_allclose(conflict_free_direction(jnp.asarray([[1.0, 0.0], [-3.0, 0.0]])), 0, atol=1e-6)
    assert not conflict_free_direction(jnp.zeros((2, 3))).any()


def test_pcgrad_projects_what_conflicts_and_nothing_else():
    g = jnp.asarray([[1.0, 0.0], [-1.0, 1.0]])  # by hand: (1, 0) -> (1/2, 1/2), (-1, 1) -> (0, 1)
    np.testing.assert_allclose(projected_sum(g, jr.key(0)), [0.5, 1.5], atol=1e-6)
    agreeing = jnp.asarray([[1.0, 0.0], [1.0, 1.0], [0.5, 2.0]])
    np.testing.assert_allclose(projected_sum(agreeing, jr.key(0)), agreeing.sum(0), atol=1e-6)


def test_pcgrad_is_torchjds_in_each_order_of_the_others(monkeypatch):
    """Three gradients in two orders each: 8 sums, equally likely; one gradient, projected, opposes its old self."""
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")
    aggregation = pytest.importorskip("torchjd.aggregation", reason="a peer that is installed for tests only")
    g = np.random.default_rng(1399).standard_normal((3, 4)) * [[1.0], [0.3], [2.0]]
    expected = []
    for orders in itertools.product(*(itertools.permutations(j for j in range(3) if j != i) for i in range(3))):
        order = iter(orders)
        monkeypatch.setattr(torch, "randperm", lambda n, order=order: torch.tensor(next(order)))
        expected.append(aggregation.PCGrad()(torch.from_numpy(g)).numpy())
    assert len(np.unique(np.round(expected, 6), axis=0)) == 8
    with jax.enable_x64(True):
        found = np.asarray(jax.vmap(lambda k: projected_sum(jnp.asarray(g), k))(jr.split(jr.key(0), 800)))
    distance = np.abs(found[:, None] - np.asarray(expected)).max(-1)
    assert distance.min(1).max() < 1e-9
    assert np.bincount(distance.argmin(1), minlength=8).min() > 60


def test_config_is_adam_on_the_direction():
    x, optimizer = np.zeros(4), optax.adam(0.1)
    with jax.enable_x64(True):
        trace = run(three_bowls(), config(0.1), steps=10, every=10)
        state = optimizer.init(jnp.asarray(x))
        for _ in range(10):
            updates, state = optimizer.update(jnp.asarray(numpy_config(numpy_gradients(x))), state)
            x = x + np.asarray(updates)
    np.testing.assert_allclose(trace.final[0, 0], x, rtol=1e-6)


def test_momentum_config_agrees_with_a_loop():
    """Independent: counts and averages kept in lists, one branch a step."""
    x, b1, b2 = np.zeros(4), 0.9, 0.999
    means, seen, pseudo, square, moves = [np.zeros(4)] * 3, [0] * 3, np.zeros(4), np.zeros(4), 0
    for t in range(12):
        i = t % 3
        means[i] = b1 * means[i] + (1 - b1) * numpy_gradients(x)[i]
        seen[i] += 1
        if not all(seen):
            continue
        moves += 1
        d = numpy_config(np.stack([m / (1 - b1**k) for m, k in zip(means, seen, strict=True)]))
        old, pseudo = pseudo, d * (1 - b1**moves)
        square = b2 * square + (1 - b2) * ((pseudo - b1 * old) / (1 - b1)) ** 2
        x = x - 0.1 * d / (np.sqrt(square / (1 - b2**moves)) + 1e-8)
    with jax.enable_x64(True):
        trace = run(three_bowls(), MomentumConfig(0.1), steps=12, every=12)
        scheduled = run(three_bowls(), MomentumConfig(optax.constant_schedule(0.1)), steps=12, every=12)
    np.testing.assert_allclose(trace.final[0, 0], x, rtol=1e-6)
    np.testing.assert_allclose(scheduled.final[0, 0], x, rtol=1e-6)


def test_bloop_agrees_with_numpy():
    x, m = np.zeros(4), np.zeros(4)
    for _ in range(10):
        g = numpy_gradients(x)
        m = 0.9 * m + 0.1 * g[0]
        auxiliary = g[1] + g[2]
        x = x - 0.05 * (g[0] + 0.5 * (auxiliary - (auxiliary @ m) / (m @ m) * m))
    with jax.enable_x64(True):
        trace = run(three_bowls(), bloop(0.05, 0.5, 0.1), steps=10, every=10)
    np.testing.assert_allclose(trace.final[0, 0], x, rtol=1e-6)


def test_one_of_several_losses_is_differentiated_without_the_others():
    def poisoned(x):  # its derivative at 1 is not a number
        return jnp.sum(jnp.where(x > 0, jnp.sqrt(x - 1), 0))

    problem = MultiObjective(lambda x: (jnp.sum(x**2), poisoned(x)), jnp.ones(2), names=("a", "b"))
    np.testing.assert_array_equal(jax.grad(lambda x: problem.terms(x, None)[0])(jnp.ones(2)), [2, 2])
    assert not np.isfinite(problem.gradients(jnp.ones(2), None)[1]).any()


def test_missing_gradients_are_named():
    for piece in (combine_gradients(), project_auxiliary()):
        with pytest.raises(ValueError, match="gradients: expected every loss's gradient"):
            piece.update(jnp.ones(2), piece.init(jnp.ones(2)), jnp.ones(2))


@pytest.mark.parametrize("method", [config, pcgrad, MomentumConfig, bloop])
def test_only_several_losses_will_do(method):
    from attractor.problems import ridge

    with pytest.raises(TypeError, match="MultiObjective"):
        run(ridge(), method(0.1), steps=1)
