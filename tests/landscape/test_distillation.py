"""Students and their teachers: the start, the loss and its gradient, and the probe, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from attractor.landscape import distillation_loss, linear_probe, near_teacher
from attractor.landscape.distillation import batch_normalized_features, projection_logits

RNG = np.random.default_rng(0)


def test_starts_keep_the_scale():
    teacher, other = ({"w": RNG.standard_normal((300, 200)), "b": RNG.standard_normal(3)} for _ in range(2))
    with jax.enable_x64(True):
        found = near_teacher(jax.tree.map(jnp.asarray, teacher), jax.tree.map(jnp.asarray, other), 0.3)
    for k in teacher:
        np.testing.assert_allclose(found[k], (0.7 * teacher[k] + 0.3 * other[k]) / np.sqrt(0.58), rtol=1e-12)
    np.testing.assert_allclose(np.std(np.asarray(found["w"])), 1, rtol=0.01)
    assert near_teacher(jnp.ones(2, jnp.bfloat16), jnp.zeros(2, jnp.bfloat16), 0.3).dtype == jnp.bfloat16


def test_the_loss_and_its_gradient():
    student, teacher, heat = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3)), 0.6
    p, q = (np.exp(z / heat) / np.exp(z / heat).sum(1, keepdims=True) for z in (teacher, student))
    with jax.enable_x64(True):
        pair = jnp.asarray(student), jnp.asarray(teacher)
        value, slopes = jax.value_and_grad(distillation_loss, (0, 1))(*pair, heat)
    np.testing.assert_allclose(value, np.mean(np.sum(p * np.log(p / q), 1)), rtol=1e-10)
    np.testing.assert_allclose(slopes[0], (q - p) / heat / 4, rtol=1e-8)
    np.testing.assert_array_equal(slopes[1], 0)


def test_the_probe_is_ridge_regression():
    centers = RNG.standard_normal((3, 5))
    labels, truth = np.arange(31) % 3, np.arange(200) % 3
    x, z = (centers[c] + RNG.standard_normal((len(c), 5)) * [1, 2, 0.5, 1, 3] for c in (labels, truth))
    model = Ridge(alpha=4.0).fit((x - x.mean(0)) / x.std(0), np.eye(3)[labels])
    expected = np.mean(model.predict((z - x.mean(0)) / x.std(0)).argmax(1) == truth)
    assert 0.4 < expected < 0.95
    assert linear_probe(x, labels, z, truth, 4.0) == expected
    constant = [np.c_[a, np.full(len(a), c)] for a, c in ((x, 7.0), (z, 9.0))]
    assert linear_probe(constant[0], labels, constant[1], truth, 4.0) == expected
    weak, strong = (linear_probe(x, labels, z, truth, ridge) for ridge in (1e-3, 1e3))
    assert len({weak, strong, expected}) > 1  # the weight matters on this instance


def test_the_probe_standardizes_by_the_deviation_of_all_labeled_inputs():
    labels, truth = np.array([0, 1, 0]), np.arange(40) % 2
    found, expected = [], []
    for _ in range(20):
        x, z = RNG.standard_normal((3, 4)), RNG.standard_normal((40, 4))
        model = Ridge(alpha=2.0).fit((x - x.mean(0)) / x.std(0), np.eye(2)[labels])
        expected.append(np.mean(model.predict((z - x.mean(0)) / x.std(0)).argmax(1) == truth))
        found.append(linear_probe(x, labels, z, truth, 2.0))
    assert found == expected  # with the deviation of a sample, some of the accuracies differ


@pytest.mark.parametrize(
    ("bad", "call"),
    [
        ("locality", lambda: near_teacher(jnp.ones(2), jnp.ones(2), 1.1)),
        ("locality", lambda: near_teacher(jnp.ones(2), jnp.ones(2), -0.1)),
        ("temperature", lambda: distillation_loss(jnp.ones((2, 2)), jnp.ones((2, 2)), 0.0)),
        ("ridge", lambda: linear_probe(np.ones((2, 2)), np.array([0, 1]), np.ones((2, 2)), np.array([0, 1]), 0.0)),
    ],
)
def test_bad_input_is_refused(bad, call):
    with pytest.raises(ValueError, match=f"^{bad}:"):
        call()


def test_features_and_logits_are_those_of_numpy():
    x, shapes = RNG.standard_normal((6, 5)), ((5, 4), (4, 3), (3, 4), (4, 2), (2, 7))
    params = [RNG.standard_normal(s) for s in shapes]
    h = x
    for w in params[:2]:
        z = h @ w
        h = np.maximum(0, (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5))
    with jax.enable_x64(True):
        given = [jnp.asarray(w) for w in params]
        np.testing.assert_allclose(batch_normalized_features(given[:2], jnp.asarray(x)), h, rtol=1e-10)
        found = projection_logits(given, jnp.asarray(x))
        z = np.asarray(jax.nn.gelu(jnp.asarray(h @ params[2]))) @ params[3]
    directions = params[4] / np.linalg.norm(params[4], axis=0)
    np.testing.assert_allclose(found, z / np.linalg.norm(z, axis=1, keepdims=True) @ directions, rtol=1e-9)
