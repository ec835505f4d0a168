"""Assemblies against loops over synapses, one by one, written from the formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.credit import assembly_project, firing, hebb, k_cap, oja, random_area, random_stdp, stdp, support

N, M, K, ROUNDS = 9, 4, 3, 6
RNG = np.random.default_rng(4)
WEIGHTS = (RNG.uniform(size=(N + M, N)) < 0.7) * RNG.uniform(0.4, 1.6, (N + M, N))
STIMULUS, FIRST = np.array([1.0, 0.0, 1.0, 1.0]), np.isin(np.arange(N), [2, 7]) * 1.0
AREA = jnp.asarray(WEIGHTS, jnp.float32), jnp.asarray(STIMULUS, jnp.float32)


def changes(kind, w, x, winners, beta=0.3, alpha=0.4, punish=0.2):
    """What each synapse is multiplied by."""
    factors = np.ones_like(w)
    least = min(sum(x[j] * w[j, i] for j in range(N + M)) for i in winners)
    for i in winners:
        so_far = 0.0
        for j in range(N + M):
            if x[j] == 0:
                continue
            so_far += w[j, i]
            if kind == "hebb":
                factors[j, i] = 1 + beta
            elif kind == "oja":
                factors[j, i] = 1 + beta * (1 - alpha * w[j, i] ** 2)
            else:
                factors[j, i] = 1 + beta if so_far <= least + 1e-12 else 1 - punish
    return factors


@pytest.mark.parametrize(
    ("kind", "rule"),
    [("hebb", hebb(0.3)), ("oja", oja(0.3, 0.4)), ("stdp", stdp(0.3, 0.2))],
    ids=["hebb", "oja", "stdp"],
)
def test_projection_follows_a_loop_over_synapses(kind, rule):
    w, before, seen, factors = WEIGHTS.copy(), FIRST, [], []
    for _ in range(ROUNDS):
        x = np.concatenate([before, STIMULUS])
        inputs = [sum(x[j] * w[j, i] for j in range(N + M)) for i in range(N)]
        winners = sorted(range(N), key=lambda i: (-inputs[i], i))[:K]
        factors.append(changes(kind, w, x, winners))
        w = w * factors[-1]
        before = np.isin(np.arange(N), winners) * 1.0
        seen.append(winners)
    with jax.enable_x64(True):
        args = jnp.asarray(WEIGHTS), jnp.asarray(STIMULUS), K, ROUNDS, rule, jr.key(0), jnp.asarray(FIRST)
        found = jax.jit(lambda: assembly_project(*args))()
    np.testing.assert_array_equal(found.winners, seen)
    np.testing.assert_allclose(found.weights, w, rtol=1e-9)
    ever = [len({i for past in seen[: t + 1] for i in past}) for t in range(ROUNDS)]
    np.testing.assert_array_equal(support(found.winners, N), ever)
    assert ever[-1] > K  # winners changed
    if kind == "stdp":
        assert (np.array(factors) < 1).any()  # something came late


def test_the_first_round_hears_the_stimulus_alone():
    found = assembly_project(*AREA, K, 1, hebb(0.0), jr.key(0))
    expected = np.argsort(-STIMULUS @ WEIGHTS[N:], kind="stable")[:K]
    np.testing.assert_array_equal(found.winners[0], expected)
    np.testing.assert_allclose(found.weights, WEIGHTS, rtol=1e-6)


def test_a_rule_gets_another_key_in_every_round():
    found = assembly_project(*AREA, N, ROUNDS, lambda w, fired, key: w * jr.uniform(key), jr.key(5))
    factors = np.array([float(jr.uniform(key)) for key in jr.split(jr.key(5), ROUNDS)])
    np.testing.assert_allclose(found.weights, WEIGHTS * factors.prod(), rtol=1e-5)
    assert len(set(factors)) == ROUNDS


def test_random_timing_rewards_the_share():
    w, x = np.abs(RNG.standard_normal((400, 30))), (RNG.uniform(size=400) < 0.5) * 1.0
    found = np.asarray(random_stdp(0.3, 0.2, 0.35, 0.15)(jnp.asarray(w), jnp.asarray(x), jr.key(3)), float)
    saturation = 1 - 0.15 * w**2
    up, down = (np.isclose(found, w * (1 + b * x[:, None] * saturation), rtol=1e-5) for b in (0.3, -0.2))
    assert (up | down).all()
    np.testing.assert_array_equal(up[x == 0], True)
    np.testing.assert_allclose((up & ~down)[x == 1].mean(), 0.35, atol=0.02)
    again = np.asarray(random_stdp(0.3, 0.2, 0.35, 0.15)(jnp.asarray(w), jnp.asarray(x), jr.key(4)))
    assert not np.allclose(found, again)
    lucky = random_stdp(0.3, 0.2, 1.0, 0.15)(jnp.asarray(w), jnp.asarray(x), jr.key(3))
    np.testing.assert_allclose(lucky, oja(0.3, 0.15)(jnp.asarray(w), jnp.asarray(x), jr.key(3)), rtol=1e-6)


def test_areas_and_caps():
    area = np.asarray(random_area(jr.key(0), 60, 30, 0.2))
    assert area.shape == (90, 60)
    assert set(np.unique(area)) == {0.0, 1.0}
    np.testing.assert_allclose(area.mean(), 0.2, atol=0.02)
    np.testing.assert_array_equal(k_cap(jnp.array([1.0, 3.0, 2.0, 3.0, 2.0]), 3), [1, 3, 2])
    np.testing.assert_array_equal(firing(jnp.array([1, 3]), 4), [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (partial(hebb, -0.1), "beta"),
        (partial(oja, 1.0, 0.1), "beta"),
        (partial(oja, 0.1, -0.1), "alpha"),
        (partial(stdp, -0.1, 0.1), "beta"),
        (partial(stdp, 0.1, 1.1), "punish"),
        (partial(random_stdp, 0.1, 0.1, 1.1), "share"),
        (partial(random_stdp, 0.1, -0.1, 0.5), "punish"),
        (partial(random_stdp, 0.1, 0.1, 0.5, -1.0), "alpha"),
        (partial(random_stdp, 1.0, 0.1, 0.5), "beta"),
        (partial(random_area, jr.key(0), 5, 3, 1.5), "p"),
        (partial(k_cap, jnp.ones(3), 4), "k"),
        (partial(assembly_project, *AREA, 0, 3, hebb(0.1), jr.key(0)), "k"),
        (partial(assembly_project, *AREA, 2, 0, hebb(0.1), jr.key(0)), "rounds"),
        (partial(assembly_project, AREA[0], AREA[1][:2], 2, 3, hebb(0.1), jr.key(0)), "weights"),
        (partial(assembly_project, *AREA, 2, 3, hebb(0.1), jr.key(0), jnp.ones(4)), "fired"),
    ],
)
def test_what_makes_no_sense_is_refused(call, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()
