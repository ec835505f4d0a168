"""Cautious weight decay against NumPy, its fixed points, masks and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor import run
from attractor.optim import (
    add_cautious_decayed_weights,
    cautious_adamw,
    cautious_lion,
    cautious_muon,
    cautious_sgdm,
    cautious_weight_decay,
    muon,
)
from attractor.problems import digits_logistic
from attractor.registry import methods

LR, DECAY = 0.05, 0.3


def descend(optimizer, gradient, x, steps):
    """The iterates of an optimizer on a deterministic gradient."""

    @jax.jit
    def step(x, state):
        updates, state = optimizer.update(gradient(x), state, x)
        return optax.apply_updates(x, updates), state

    state, path = optimizer.init(x), []
    for _ in range(steps):
        x, state = step(x, state)
        path.append(x)
    return path


def dtypes(tree):
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


@pytest.fixture
def quadratic():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((6, 6))
    return root @ root.T / 6, rng.standard_normal(6), rng.standard_normal(6)


def adam_direction(state, g, t):
    m, v = state
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return (m, v), m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def lion_direction(state, g, t):
    m, _ = state
    return (0.99 * m + 0.01 * g, 0), np.sign(0.9 * m + 0.1 * g)


def momentum_direction(state, g, t):
    m = 0.9 * state[0] + g
    return (m, 0), m


@pytest.mark.parametrize(
    ("make", "direction"),
    [
        (cautious_adamw, adam_direction),
        (cautious_lion, lion_direction),
        (cautious_sgdm, momentum_direction),
    ],
)
def test_agrees_with_numpy(make, direction, quadratic):
    matrix, solution, start = quadratic
    x, state, expected = start, (np.zeros(6), np.zeros(6)), []
    for t in range(1, 21):
        state, u = direction(state, matrix @ (x - solution), t)
        x = x - LR * (u + DECAY * (u * x >= 0) * x)
        expected.append(x)
    with jax.enable_x64(True):
        optimizer = make(LR, weight_decay=DECAY)
        path = descend(optimizer, lambda x: jnp.asarray(matrix) @ (x - solution), jnp.asarray(start), 20)
    np.testing.assert_allclose(path, expected, atol=1e-10)


def test_muon_is_muon_without_decay():
    with jax.enable_x64(True):
        matrix = jax.random.normal(jax.random.key(0), (4, 6))
        x = {"matrix": matrix, "bias": jnp.arange(3.0), "scalar": jnp.asarray(2.0)}
        ours = descend(cautious_muon(LR, weight_decay=0.0), lambda x: x, x, 5)[-1]
        theirs = descend(muon(LR), lambda x: x, x, 5)[-1]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), ours, theirs)


def test_muon_decays_matrices_and_vectors_where_signs_agree():
    x = {"matrix": jax.random.normal(jax.random.key(0), (4, 6)), "bias": jnp.array([1.0, -1.0])}
    gradient = {"matrix": jax.random.normal(jax.random.key(1), (4, 6)), "bias": jnp.array([1.0, 1.0])}
    (plain,) = descend(cautious_muon(LR, weight_decay=0.0), lambda _: gradient, x, 1)
    (decayed,) = descend(cautious_muon(LR, weight_decay=DECAY), lambda _: gradient, x, 1)

    def expected(x, plain):
        return plain - LR * DECAY * jnp.where((x - plain) * x >= 0, x, 0)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), decayed, jax.tree.map(expected, x, plain))


def test_decays_only_agreeing_signs_and_where_the_update_is_zero():
    decay = add_cautious_decayed_weights(0.5)
    x = jnp.array([2.0, -2.0, 2.0, -2.0, 2.0, 0.0])
    u = jnp.array([1.0, -1.0, -1.0, 1.0, 0.0, 1.0])
    updates, _ = decay.update(u, decay.init(x), x)
    np.testing.assert_array_equal(updates, [2.0, -2.0, -1.0, 1.0, 1.0, 1.0])


def test_disagreeing_signs_whose_product_underflows_are_not_decayed():
    decay = add_cautious_decayed_weights(0.5)
    x, u = jnp.array([1e-25]), jnp.array([-1e-25])
    updates, _ = decay.update(u, decay.init(x), x)
    np.testing.assert_array_equal(updates, u)


def test_mask_leaves_leaves_alone():
    x = {"weight": jnp.ones(2), "bias": jnp.ones(2)}
    for mask in ({"weight": True, "bias": False}, lambda tree: {"weight": True, "bias": False}):
        decay = add_cautious_decayed_weights(0.5, mask)
        updates, _ = decay.update(x, decay.init(x), x)
        jax.tree.map(np.testing.assert_array_equal, updates, {"weight": np.full(2, 1.5), "bias": np.ones(2)})


def test_takes_a_schedule_and_any_direction():
    schedule = optax.cosine_decay_schedule(1.0, 10)
    optimizer = cautious_weight_decay(optax.identity(), schedule, weight_decay=0.5)
    path = descend(optimizer, lambda x: 0.1 * x, jnp.asarray(1.0), 10)
    expected = np.cumprod([1 - 0.6 * np.asarray(schedule(t)) for t in range(10)])
    np.testing.assert_allclose(path, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("make", [cautious_adamw, cautious_lion, cautious_sgdm, cautious_muon])
def test_keeps_dtypes_and_survives_zero_gradients(make, dtype):
    x = {"matrix": jnp.ones((2, 3), dtype), "scalar": jnp.ones((), dtype)}
    optimizer = make(0.1)
    state = optimizer.init(x)
    updates, after = jax.jit(optimizer.update)(optax.tree.zeros_like(x), state, x)
    assert dtypes(after) == dtypes(state)
    assert all(u.dtype == dtype and bool(jnp.isfinite(u).all()) for u in jax.tree.leaves(updates))


def test_runs_as_a_sweep():
    trace = run(
        digits_logistic(), cautious_adamw, steps=20, sweep={"learning_rate": [0.01, 0.1], "weight_decay": [0.0, 1.0]}
    )
    assert not trace.diverged.any()
    assert len(np.unique(trace.last("loss").values)) == 4


@pytest.mark.parametrize("name", ["cautious-adamw", "cautious-lion", "cautious-sgdm", "cautious-muon"])
def test_names_the_bad_argument(name):
    entry = methods()[name]
    for argument, value in entry.bad.items():
        with pytest.raises(ValueError, match=argument):
            entry.factory(**{**entry.example, argument: value})


def test_needs_the_parameters():
    decay = add_cautious_decayed_weights(0.1)
    with pytest.raises(ValueError, match="params"):
        decay.update(jnp.ones(2), decay.init(jnp.ones(2)))
