"""An optimizer's rate, momentum and threshold, measured, against what it was made with."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.diagnosis.state.optimizers import as_optimizer, respond

PARAMS = {"a": jnp.arange(1.0, 7).reshape(3, 2), "b": jnp.ones(2)}


def after(optimizer, steps=15):
    """Parameters, state and a gradient some way into a run."""

    @jax.jit
    def step(params, state, i):
        g = jax.tree.map(lambda p: jnp.cos(7 * p + i), params)
        updates, state = optimizer.update(g, state, params)
        return optax.apply_updates(params, updates), state, g

    params, state = PARAMS, optimizer.init(PARAMS)
    for i in range(steps):
        params, state, g = step(params, state, float(i))
    return params, state, g


@pytest.mark.parametrize(
    ("optimizer", "kind", "rate", "momentum", "threshold"),
    [
        (optax.sgd(0.1), "descent", 0.1, 0.0, 2 / 0.1),
        (optax.sgd(0.1, momentum=0.9), "heavy ball", 0.1, 0.9, (2 + 1.8) / 0.1),
        (optax.sgd(0.1, momentum=0.9, nesterov=True), "Nesterov", 0.1, 0.9, (2 + 1.8) / (2.8 * 0.1)),
        (optax.chain(optax.clip_by_global_norm(0.01), optax.add_decayed_weights(0.1),
                     optax.sgd(optax.linear_schedule(0.0, 1.0, 100))), "descent", 0.15, 0.0, 2 / 0.15),
        (optax.adamw(0.02, b1=0.8), "Adam", 0.02, 0.8, (2 + 1.6) / (0.2 * 0.02)),
    ],
)  # fmt: skip
def test_rate_and_momentum_are_measured(optimizer, kind, rate, momentum, threshold):
    found = respond(optimizer, *after(optimizer))
    assert found.kind == kind
    assert found.learning_rate == pytest.approx(rate, rel=1e-3)
    assert found.momentum == pytest.approx(momentum, abs=1e-4)
    assert found.threshold == pytest.approx(threshold, rel=1e-3)


def test_adams_scale_is_that_of_its_state():
    optimizer = optax.adam(0.01)
    params, state, g = after(optimizer)
    _, state = optimizer.update(g, state, params)
    nu, t = state[0].nu, 16
    found = respond(optimizer, params, after(optimizer)[1], g)
    expected = (1 - 0.9 ** (t + 1)) * np.sqrt(nu["a"] / (1 - 0.999**t))
    np.testing.assert_allclose(found.scale["a"], expected, rtol=1e-3)


def test_rates_by_layer_are_a_scale_and_what_is_frozen_is_left_out():
    slow = optax.chain(optax.sgd(0.1), optax.masked(optax.scale(0.0), {"a": False, "b": True}))
    found = respond(slow, *after(slow))
    assert found.threshold == pytest.approx(20, rel=1e-3)
    np.testing.assert_allclose(found.scale["a"], 1.0, rtol=1e-4)
    assert np.isinf(found.scale["b"]).all()


@pytest.mark.parametrize("optimizer", [optax.lion(0.01), optax.nadam(0.01), optax.rmsprop(0.01)])
def test_what_has_no_known_threshold_says_so(optimizer):
    assert np.isnan(respond(optimizer, *after(optimizer)).threshold)


def test_adam_is_not_judged_by_its_first_steps():
    optimizer = optax.adam(0.01)
    assert np.isnan(respond(optimizer, *after(optimizer, 3)).threshold)


def test_names_factories_and_rates():
    g = {"a": jnp.ones((3, 2)), "b": jnp.ones(2)}
    for given in (("sgd", 0.5), (optax.sgd, 0.5), (optax.sgd(0.5), None), (None, 0.5)):
        made = as_optimizer(*given)
        assert made is not None
        assert float(made.update(g, made.init(PARAMS), PARAMS)[0]["b"][0]) == -0.5
    assert as_optimizer(None, None) is None


@pytest.mark.parametrize(
    ("optimizer", "rate", "error", "words"),
    [
        (optax.adam, None, ValueError, "learning_rate: expected a number"),
        (optax.adam(1e-3), 0.1, ValueError, "learning_rate: expected None"),
        ("sgd", -0.1, ValueError, "learning_rate"),
        (3, None, TypeError, "optimizer: expected an optax transformation"),
        (lambda rate: rate, 0.1, TypeError, "made a float"),
    ],
)
def test_bad_optimizers_are_refused(optimizer, rate, error, words):
    with pytest.raises(error, match=words):
        as_optimizer(optimizer, rate)
