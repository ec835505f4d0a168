"""Free features against losses and solutions written out in NumPy, and a minimizer that knows no structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from attractor.landscape import (
    anchored_features,
    best_classifier,
    collapsed_strengths,
    feature_pull,
    free_features_loss,
)

RNG = np.random.default_rng(0)
H, Y = RNG.standard_normal((3, 7)), RNG.standard_normal((2, 7))


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("biased", [True, False])
def test_the_loss_is_what_it_says(biased):
    first, last, bias = RNG.standard_normal((4, 3)), RNG.standard_normal((2, 4)), RNG.standard_normal(2) * biased
    labels = np.array([0, 1, 1, 0, 1, 1, 1])
    outputs = last @ first @ H + bias[:, None]
    decay = 0.3 / 2 * (np.sum(first**2) + np.sum(last**2)) + 0.7 / 2 * np.sum(H**2)
    squared = np.sum((outputs - np.eye(2)[:, labels]) ** 2) / 14
    entropy = -np.mean(np.log(np.exp(outputs) / np.exp(outputs).sum(0))[labels, np.arange(7)])
    how = {"bias": jnp.asarray(bias)} if biased else {}
    arguments = [jnp.asarray(first), jnp.asarray(last)], jnp.asarray(H), jnp.asarray(labels), 0.3, 0.7
    np.testing.assert_allclose(free_features_loss(*arguments, **how), squared + decay)
    np.testing.assert_allclose(free_features_loss(*arguments, loss="ce", **how), entropy + decay)


def test_collapsed_strengths_are_the_minimum_over_shared_factors():
    counts, weight_decay, feature_decay = (1, 4, 7), 0.015, 0.03
    for depth in (1, 2, 4):
        strengths, lengths = collapsed_strengths(counts, depth, weight_decay, feature_decay)
        for count, s, h in zip(counts, strengths, lengths, strict=True):

            def cost(x, count=count, depth=depth):  # each layer's factor by itself, and the feature
                fit = count / 12 * (np.prod(x[:-1]) * x[-1] - 1) ** 2
                return (fit + weight_decay * np.sum(x[:-1] ** 2) + count * feature_decay * x[-1] ** 2) / 2

            ends = [minimize(cost, np.full(depth + 1, start), tol=1e-12) for start in (1.0, 0.01)]
            best = min(ends, key=lambda end: end.fun)
            found = np.append(np.full(depth, s ** (1 / depth)), h)
            assert cost(found) <= best.fun + 1e-12
            np.testing.assert_allclose(found, best.x, atol=2e-4)
    # One layer: s^2 = (n l_H / l_W)^(1/2) - N l_H, or nothing.
    expected = np.sqrt(np.maximum(np.sqrt(np.array(counts) * feature_decay / weight_decay) - 12 * feature_decay, 0))
    np.testing.assert_allclose(collapsed_strengths(counts, 1, weight_decay, feature_decay)[0], expected, rtol=1e-6)
    assert collapsed_strengths((1, 7), 1, 0.2, 0.3)[0][0] == 0


def _slopes(value, at, step=1e-6):
    moves = step * np.eye(at.size).reshape(at.size, *at.shape)
    return np.reshape([(value(at + m) - value(at - m)) / (2 * step) for m in moves], at.shape)


def _loss(w, h, weight_decay=0.2, feature_decay=0.4):
    fit = np.sum((w @ h - Y) ** 2) / 14 + feature_decay / 14 * np.sum(h**2)
    return fit + weight_decay / 4 * np.sum(w**2)  # seven examples, two classes


def test_classifier_pull_and_anchored_features_are_stationary():
    w = np.asarray(best_classifier(jnp.asarray(H), jnp.asarray(Y), 0.2))
    np.testing.assert_allclose(_slopes(lambda w: _loss(w, H), w), 0, atol=1e-8)
    # The classifier is at its optimum, so that its own change does not count.
    pull = feature_pull(jnp.asarray(H), jnp.asarray(Y), 0.2, 0.4)
    np.testing.assert_allclose(pull, 7 * _slopes(lambda h: _loss(w, h), H), atol=1e-7)
    w, h = map(np.asarray, anchored_features(jnp.asarray(H), jnp.asarray(Y), 0.3, 0.2, 0.4))
    np.testing.assert_allclose(_slopes(lambda w: _loss(w, h), w), 0, atol=1e-8)
    np.testing.assert_allclose(_slopes(lambda h: _loss(w, h) + 0.3 / 14 * np.sum((h - H) ** 2), h), 0, atol=1e-8)


ONE, TWO = jnp.ones((3, 7)), jnp.ones((2, 7))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("loss", lambda: free_features_loss([ONE[:2, :3]], ONE, jnp.zeros(7, int), 0.1, 0.1, loss="hinge")),
        ("weight_decay", lambda: free_features_loss([ONE[:2, :3]], ONE, jnp.zeros(7, int), -0.1, 0.1)),
        ("counts", lambda: collapsed_strengths((0, 1), 1, 0.1, 0.1)),
        ("depth", lambda: collapsed_strengths((1, 1), 0, 0.1, 0.1)),
        ("weight_decay", lambda: best_classifier(ONE, TWO, 0.0)),
        ("feature_decay", lambda: feature_pull(ONE, TWO, 0.1, -1.0)),
        ("beta", lambda: anchored_features(ONE, TWO, -1.0, 0.1, 0.1)),
        ("iterations", lambda: anchored_features(ONE, TWO, 1.0, 0.1, 0.1, 0)),
    ],
)
def test_refuses(name, call):
    with pytest.raises(ValueError, match=f"^{name}:"):
        call()
