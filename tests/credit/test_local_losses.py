"""Forward-forward against NumPy, and that layers do not see each other's losses."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.credit import dense_params, forward_forward_loss, goodness, goodness_by_label, with_label, wrong_labels

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.standard_normal((5, 4)), np.array([0, 2, 1, 1, 0])


def start():
    params = jax.tree.map(lambda a: a + 0.1, dense_params(jr.key(0), (7, 6, 5)))
    return params, [[np.asarray(a, float) for a in layer] for layer in params]


def by_hand(params, x):
    """Goodness, and what enters each layer and how much its units respond, of one example."""
    found, seen = [], []
    for weight, bias in params:
        x = x / np.sqrt(np.mean(x**2))
        y = np.maximum(weight @ x + bias, 0)
        found.append(np.mean(y**2))
        seen.append((x, y))
        x = y
    return np.array(found), seen


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_is_what_the_formula_says(sign):
    with jax.enable_x64(True):
        params, weights = start()
        labels, images = jnp.asarray(LABELS), jnp.asarray(IMAGES)
        positive, negative = (with_label(images, labels_, 3) for labels_ in (labels, (labels + 1) % 3))
        value, found = jax.value_and_grad(forward_forward_loss)(params, positive, negative, 0.7, sign)
        scores = goodness_by_label(params, images, 3)
    expected, total = [[0 * w, 0 * b] for w, b in weights], 0.0
    for inputs, s in ((positive, -sign), (negative, sign)):
        for x in np.asarray(inputs):
            each, seen = by_hand(weights, x)
            total += np.log1p(np.exp(s * (each - 0.7))).sum() / 5
            for layer, g, (entered, y) in zip(expected, each, seen, strict=True):
                slope = s / (1 + np.exp(-s * (g - 0.7))) * 2 * y / y.size / 5
                layer[0] += np.outer(slope, entered)
                layer[1] += slope
    np.testing.assert_allclose(value, total, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)  # x is divided by its size plus 1e-8
    by_label = [[by_hand(weights, np.append(x, np.eye(3)[c]))[0][1] for c in range(3)] for x in IMAGES]
    np.testing.assert_allclose(scores, by_label, rtol=1e-6)


def test_a_layer_does_not_see_the_next_ones_goodness():
    params, _ = start()
    inputs = with_label(jnp.asarray(IMAGES, jnp.float32), jnp.asarray(LABELS), 3)
    first, second = jax.grad(lambda p: goodness(p, inputs)[1].sum())(params)
    assert all((a == 0).all() for a in first)
    assert all((a != 0).any() for a in second)


def test_wrong_labels_are_wrong_and_all_of_them():
    labels = jnp.tile(jnp.arange(4), 500)
    drawn = np.asarray(wrong_labels(jr.key(0), labels, 4))
    assert (drawn != labels).all()
    counts = np.histogram2d(np.asarray(labels), drawn, bins=4)[0]
    assert (counts[~np.eye(4, dtype=bool)] > 120).all()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda params, x: forward_forward_loss(params, x, x, 0.0), "threshold"),
        (lambda params, x: goodness_by_label(params, x[:, :4], 3, 2), "skipped"),
        (lambda params, x: with_label(x, jnp.zeros(5, int), 1), "classes"),
        (lambda params, x: wrong_labels(jr.key(0), jnp.zeros(5, int), 1), "classes"),
    ],
)
def test_refuses_what_makes_no_sense(call, name):
    with pytest.raises(ValueError, match=name):
        call(start()[0], jnp.ones((5, 7)))
