"""Batches taken and refused; what the data alone say, against NumPy; planted labels that are wrong."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.diagnosis.state.batches import input_signs, inputs_of, suspects, take
from attractor.diagnosis.state.trials import standardized

RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(8, 3)).astype(np.float32), np.arange(8) % 2


@pytest.mark.parametrize(
    ("batches", "count"),
    [
        ((X, Y), 1),
        ({"x": X, "key": jr.key(0)}, 1),
        (X, 1),
        ([(X, Y)] * 3, 3),
        (((X, Y) for _ in range(20)), 8),
        (zip([X] * 2, [Y] * 2, strict=True), 2),
    ],
)
def test_one_batch_a_list_and_a_loader(batches, count):
    assert len(take(batches)) == count


@pytest.mark.parametrize(
    ("batches", "error", "words"),
    [
        ([], ValueError, "empty"),
        (iter(()), ValueError, "already used up"),
        ([(X, Y), (X[:5], Y[:5])], ValueError, r"batches: expected equal shapes, but number 1 has .*drop_last"),
        ([X, Y], ValueError, "one batch of several arrays: a tuple"),
        ((), ValueError, "expected arrays in them"),
        ((X[:0], Y[:0]), ValueError, "at least one example"),
        (("a", Y), TypeError, "expected arrays, got a builtins.str"),
        ((np.array(["a"]), Y), TypeError, "arrays of numbers"),
    ],
)
def test_bad_batches_are_refused(batches, error, words):
    with pytest.raises(error, match=words):
        take(batches)


def test_spread_and_level_of_the_inputs():
    x = X * np.float32([1, 10, 1000])
    x[:, 1] += 50
    found = input_signs([(jnp.asarray(x[:4]), Y[:4]), (jnp.asarray(x[4:]), Y[4:])])
    assert found["input level"] == pytest.approx(np.sqrt(np.mean(x.astype(float) ** 2)), rel=1e-6)
    assert found["widest feature"] == 2
    assert found["input spread"] == pytest.approx(x.std(0).max() / np.median(x.std(0)), rel=1e-5)
    assert input_signs([(Y, X)]) == {}, "targets are no inputs"


def test_inputs_are_told_from_targets():
    assert inputs_of({"target": X, "x": (Y, 2 * X)}) is not None
    assert float(inputs_of({"target": jnp.asarray(X), "x": 2 * jnp.asarray(X)})[0, 0]) == 2 * X[0, 0]


def test_standardized_inputs_leave_the_targets():
    stacked = (jnp.asarray(np.stack([X * 100, X * 50 + 9])), jnp.asarray(np.stack([Y, Y])))
    x, y = standardized(stacked)
    np.testing.assert_allclose(x.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 1)), 1, atol=1e-5)
    assert y is stacked[1]


def classifier(w, batch):
    x, y = batch
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x @ w), y[:, None], 1))


def test_wrong_labels_are_named():
    x = RNG.normal(size=(60, 2)).astype(np.float32)
    right = (x[:, 0] > 0).astype(int)
    w = 12 * np.float32([[-1, 1], [0, 0]])
    wrong = np.argsort(-abs(x[:, 0]))[:5]
    y = right.copy()
    y[wrong] = 1 - y[wrong]
    halves = [(jnp.asarray(x[i : i + 30]), jnp.asarray(y[i : i + 30])) for i in (0, 30)]
    found, total = suspects(classifier, w, halves)
    assert found == sorted(wrong.tolist())
    assert total == 60
    # A model that knows nothing contradicts nobody.
    assert suspects(classifier, np.zeros((2, 2), np.float32), halves)[0] == []


def test_outliers_of_a_regression_and_losses_that_are_no_means():
    x = RNG.normal(size=(40, 1)).astype(np.float32)
    y = 3 * x[:, 0] + 0.1 * RNG.normal(size=40).astype(np.float32)
    y[7] += 5

    def squared(w, batch):
        return jnp.mean((batch[0] @ w - batch[1]) ** 2)

    assert suspects(squared, np.float32([3]), [(jnp.asarray(x), jnp.asarray(y))]) == ([7], 40)
    with pytest.raises(ValueError, match="not the mean"):
        suspects(lambda w, b: 40 * squared(w, b) / len(b[0]), np.float32([3]), [(jnp.asarray(x), jnp.asarray(y))])
