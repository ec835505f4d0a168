"""Adaptation to a stream against NumPy, batch by batch, with slopes from finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.credit import Normalization, NormalizedNetwork, StreamAdaptation, prediction_entropy, soft_hebb

RANDOM = np.random.default_rng(0)


def by_hand(weight, inputs, temperature):
    moved = np.zeros_like(weight)
    for x in inputs:
        u = weight @ x
        y = np.exp(u / temperature) / np.exp(u / temperature).sum()
        moved += y[:, None] * (x[None] - u[:, None] * weight)
    return moved / len(inputs)


def entropy(logits):
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return float(-(p * np.log(p)).sum(1).mean())


def test_soft_rule_and_entropy_are_what_the_formulas_say():
    with jax.enable_x64(True):
        weight, inputs = RANDOM.normal(size=(3, 5)), RANDOM.normal(size=(7, 5))
        assert np.allclose(
            soft_hebb(jnp.array(weight), jnp.array(inputs), 0.7), by_hand(weight, inputs, 0.7), atol=1e-12
        )
        logits = 2 * RANDOM.normal(size=(4, 3))
        assert np.isclose(float(prediction_entropy(jnp.array(logits))), entropy(logits), atol=1e-12)


def test_statistics_are_mixed_and_not_trained():
    with jax.enable_x64(True):
        a, old = jnp.array(RANDOM.normal(size=(6, 4, 3))), jnp.array(2 + 3 * RANDOM.normal(size=(5, 3)))
        layer = Normalization(jnp.array([2.0, 1.0, 3.0]), jnp.array([0.5, 0.0, -1.0]), *jnp.ones((2, 3))).stored(
            old, 0.3
        )
        mean = 0.3 * old.mean(0) + 0.7 * a.mean((0, 1))
        variance = 0.3 * old.var(0) + 0.7 * a.var((0, 1))
        expected = layer.scale * (a - mean) / np.sqrt(variance + 1e-5) + layer.shift
        assert np.allclose(layer(a), expected, atol=1e-10)
        slope = jax.grad(lambda layer: (layer(a) ** 3).sum())(layer)
        assert not np.any(np.concatenate([slope.mean, slope.variance, slope.source[None]]))
        assert np.all(slope.scale != 0)


def test_patches_and_blocks_are_those_of_a_convolution():
    with jax.enable_x64(True):
        net = NormalizedNetwork(jax.random.key(1), side=4, filters=2, width=3, classes=2)
        images = RANDOM.normal(size=(3, 16))
        padded = np.pad(images.reshape(3, 4, 4), ((0, 0), (1, 1), (1, 1)))
        patch = padded[2, 2:5, 1:4].ravel()  # around row 2, column 1
        assert np.allclose(net.patches(jnp.array(images))[2, 2 * 4 + 1], patch)
        first, second, _ = net.layers(jnp.array(images))
        units = np.maximum(np.asarray(net.early(first)), 0).reshape(3, 4, 4, 2)
        blocks = np.array(
            [[units[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2)) for j in (0, 1)] for i in (0, 1)]
        )
        assert np.allclose(second, np.moveaxis(blocks, 2, 0).reshape(3, 8) @ np.asarray(net.hidden).T, atol=1e-6)
        kept = net.stored(jnp.array(images))
        assert np.allclose(kept(jnp.array(images)), net(jnp.array(images)), atol=1e-6)
        assert np.allclose(kept(jnp.array(images))[:1], kept(jnp.array(images[:1])), atol=1e-6)


def test_first_weights_have_their_law_and_are_drawn_apart():
    net = NormalizedNetwork(jax.random.key(2), side=4, filters=300, width=200, classes=90)
    laws = {"filters": 2 / 9, "hidden": 2 / 1200, "last": 1 / 200}  # of 300 filters, 2 x 2 blocks are left
    drawn = {name: np.asarray(getattr(net, name), float).ravel() / law**0.5 for name, law in laws.items()}
    for numbers in drawn.values():
        assert abs(numbers.mean()) < 0.1
        assert np.isclose(numbers.std(), 1, rtol=0.05)
    apart = np.corrcoef([numbers[:2700] for numbers in drawn.values()])
    assert np.all(np.abs(apart - np.eye(3)) < 0.1)
    assert not np.any(net.bias)


def test_a_stream_is_followed_batch_by_batch():
    """Hebbian step, entropy step at the moved filters, then the logits; state and weights are kept."""
    weight, last, scale = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=(2, 3)), np.array([1.0, 0.5, 2.0])
    stream = RANDOM.normal(size=(3, 5, 4))
    with jax.enable_x64(True):
        ours = StreamAdaptation(
            lambda p, x: jnp.tanh(x @ p["w"].T) * p["scale"] @ p["last"].T,
            lambda p: p["scale"], optax.sgd(0.4, momentum=0.9), lambda p: p["w"],
            lambda p, x: 2 * x, 0.3, 0.8)  # fmt: skip
        params = {"w": jnp.array(weight), "scale": jnp.array(scale), "last": jnp.array(last)}
        logits, after = jax.jit(ours.run)(params, jnp.array(stream))
    momentum = np.zeros(3)
    for found, x in zip(np.asarray(logits), stream, strict=True):
        weight = weight + 0.3 * by_hand(weight, 2 * x, 0.8)
        hidden = np.tanh(x @ weight.T)

        def value(m, hidden=hidden):
            return entropy(hidden * m @ last.T)

        slope = np.array([(value(scale + h) - value(scale - h)) / 2e-5 for h in 1e-5 * np.eye(3)])
        momentum = 0.9 * momentum + slope
        scale = scale - 0.4 * momentum
        assert np.allclose(found, hidden * scale @ last.T, atol=1e-6)
    assert np.allclose(after["w"], weight, atol=1e-10)
    assert np.allclose(after["scale"], scale, atol=1e-6)
    assert np.array_equal(after["last"], last)


def test_bad_input_is_refused_by_name():
    predict, part = lambda p, x: x, lambda p: p
    for name, call in {
        "temperature": lambda: soft_hebb(jnp.ones((2, 3)), jnp.ones((4, 3)), 0.0),
        "inputs": lambda: soft_hebb(jnp.ones((2, 3)), jnp.ones((4, 2))),
        "rate": lambda: StreamAdaptation(predict, part, optax.sgd(0.1), rate=-1.0),
        "temperature ": lambda: StreamAdaptation(predict, part, optax.sgd(0.1), temperature=0.0),
        "stream": lambda: StreamAdaptation(predict, part, optax.sgd(0.1)).run(jnp.ones(2), jnp.ones((0, 3, 2))),
        "side": lambda: NormalizedNetwork(jax.random.key(0), side=3),
        "classes": lambda: NormalizedNetwork(jax.random.key(0), classes=1),
        "channels": lambda: Normalization.blank(0),
        "source": lambda: Normalization.blank(2).stored(jnp.ones((3, 2)), 1.5),
    }.items():
        with pytest.raises(ValueError, match=name.strip()):
            call()
