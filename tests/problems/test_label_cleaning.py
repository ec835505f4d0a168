"""Cleaning labels: what the weights do to the lower level, and what is measured."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from attractor.problems import label_cleaning

PROBLEM = label_cleaning(train=60, flipped=0.3, seed=4)


def test_levels_are_weighted_cross_entropies():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(60), {"w": rng.standard_normal((64, 10)), "b": rng.standard_normal(10)}
    (_, pixels, digits), (clear, truth) = PROBLEM.full[1], PROBLEM.full[0]

    def loss(pixels, digits, weights):
        scores = np.asarray(pixels) @ y["w"] + y["b"]
        shares = np.exp(scores - scores.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        return log_loss(np.asarray(digits), shares, sample_weight=weights, labels=range(10), normalize=False)

    weights = 1 / (1 + np.exp(-x))
    expected = loss(pixels, digits, weights) / 60 + 0.001 * sum(np.sum(part**2) for part in y.values())
    x, y = jnp.asarray(x, float), jax.tree.map(lambda part: jnp.asarray(part, float), y)
    np.testing.assert_allclose(PROBLEM.lower(x, y, PROBLEM.full[1]), expected, rtol=1e-4)
    np.testing.assert_allclose(PROBLEM.upper(x, y, PROBLEM.full[0]), loss(clear, truth, None) / 150, rtol=1e-4)
    picked = jax.tree.map(lambda leaf: leaf[jnp.array([7, 31])], PROBLEM.full[1])
    slope = jax.grad(PROBLEM.lower)(x, y, picked)
    assert set(np.flatnonzero(slope)) == {7, 31}  # a minibatch reaches its own weights


def test_wrong_labels_are_told_apart_as_by_the_area_under_a_curve():
    wrong = np.asarray(PROBLEM.probes["told_apart"].measure.args[0])
    assert wrong.sum() == 18
    clean = label_cleaning(train=60, flipped=0.001, seed=4)  # another permutation of the same rows
    assert (np.asarray(clean.probes["told_apart"].measure.args[0])).sum() == 1
    x = jnp.round(jr.normal(jr.key(0), (60,)), 1)  # with ties
    found = PROBLEM.probes["told_apart"](PROBLEM, (x, None), jr.key(0))
    assert float(found) == pytest.approx(roc_auc_score(~wrong, x), abs=1e-6)


def test_wrong_labels_are_other_digits():
    given, wrong = np.asarray(PROBLEM.full[1][2]), np.asarray(PROBLEM.probes["told_apart"].measure.args[0])
    truth = np.asarray(label_cleaning(train=60, flipped=0.99, seed=4).full[1][2])
    assert np.mean(given == truth) < 0.5  # drawn from other labels
    assert set(given) == set(range(10))
    assert 0 < wrong.mean() < 1


@pytest.mark.parametrize("how", [{"flipped": 0.0}, {"flipped": 1.0}, {"train": 5}])
def test_bad_arguments_are_named(how):
    with pytest.raises(ValueError, match=next(iter(how))):
        label_cleaning(**how)
