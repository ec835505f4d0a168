"""Features, data that have several, and their controls: against closed forms and NumPy."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.landscape import (
    decoupled_margin,
    feature_responses,
    kernel_alignment,
    randomize_columns,
    randomized_auc,
    slab_data,
    spectral_decoupling,
    structured_task,
    two_moons,
)

RNG = np.random.default_rng(0)


def test_the_decoupling_penalty_and_its_margin():
    logits, center = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))
    with jax.enable_x64(True):
        found = spectral_decoupling(jnp.asarray(logits), 0.7, jnp.asarray(center))
        np.testing.assert_allclose(found, 0.35 * np.mean((logits - center) ** 2), rtol=1e-12)
    for strength in (1e-3, 0.2, 3.0):
        m = decoupled_margin(strength)
        at = np.log1p(np.exp(-m)) + strength / 2 * m**2
        assert all(np.log1p(np.exp(-v)) + strength / 2 * v**2 > at for v in (0.999 * m, 1.001 * m))
        np.testing.assert_allclose(-1 / (1 + np.exp(m)) + strength * m, 0, atol=1e-12)


def test_responses_of_features():
    features, labels, logits = RNG.standard_normal((5, 3)), np.array([1.0, -1, -1, 1, -1]), RNG.standard_normal(5)
    with jax.enable_x64(True):
        found = feature_responses(*map(jnp.asarray, (features @ features.T, labels, logits)))
    u, s, _ = np.linalg.svd(labels[:, None] * features, full_matrices=False)
    u = u * np.sign(u.sum(0))
    np.testing.assert_allclose(found.strengths[:3], s, rtol=1e-8)
    np.testing.assert_allclose(found.strengths[3:], 0, atol=1e-6)
    np.testing.assert_allclose(found.directions[:, :3], u, atol=1e-8)
    np.testing.assert_allclose(found.responses[:3], u.T @ (labels * logits), atol=1e-8)


def test_moons():
    exact, labels = two_moons(jr.key(0), 101, 0.3, 0.0)
    np.testing.assert_array_equal(labels, np.where(np.arange(101) % 2, -1, 1))
    x, y = np.asarray(exact, float).T
    upper = labels > 0
    np.testing.assert_allclose(np.hypot(x, y)[upper], 1, atol=1e-6)
    np.testing.assert_allclose(np.hypot(x - 1, y + 0.3)[~upper], 1, atol=1e-6)
    assert y[upper].min() >= 0
    assert y[~upper].max() <= -0.3
    assert min(np.ptp(x[upper]), np.ptp(x[~upper])) > 1.9  # half circles
    offset = np.asarray(two_moons(jr.key(0), 101, 0.3, 0.2)[0] - exact)
    np.testing.assert_allclose(offset.std(), 0.2, rtol=0.15)


def test_columns_are_permuted_together():
    x = np.arange(28.0).reshape(7, 4)
    found = np.asarray(randomize_columns(jnp.asarray(x), (1, 3), jr.key(1)))
    np.testing.assert_array_equal(found[:, [0, 2]], x[:, [0, 2]])
    np.testing.assert_array_equal(found[:, 3] - found[:, 1], 2)
    assert set(found[:, 1]) == set(x[:, 1])
    assert (found[:, 1] != x[:, 1]).any()


def test_slabs():
    x, y = (np.asarray(a, float) for a in slab_data(jr.key(0), 3_000, 5, (1, 4, 5), margin=0.2, half_width=0.15))
    assert x.shape == (3_000, 5)
    np.testing.assert_array_equal(y, np.where(np.arange(3_000) % 2, -1, 1))
    linear = x[:, 0] * y
    assert 0.2 <= linear.min() < 0.21
    assert 0.99 < linear.max() <= 1
    np.testing.assert_allclose(linear.mean(), 0.6, atol=0.02)
    for column, k, likely in ((1, 4, {-1: [0, 2], 1: [1, 3]}), (2, 5, {-1: [0, 2, 4], 1: [1, 3]})):
        place = x[:, column] + (k - 1) / 2
        slab = np.rint(place)
        assert 0.14 < np.abs(place - slab).max() <= 0.15 + 1e-6
        np.testing.assert_allclose((place - slab).std(), 0.15 / 3**0.5, rtol=0.05)
        for label, slabs in likely.items():
            numbers, counts = np.unique(slab[y == label], return_counts=True)
            np.testing.assert_array_equal(numbers, slabs)
            np.testing.assert_allclose(counts / counts.sum(), 1 / len(slabs), atol=0.05)
    rest = x[:, 3:]
    np.testing.assert_allclose([rest.mean(), rest.std()], [0, 1], atol=0.05)
    assert np.abs(np.corrcoef(np.c_[x, y].T)[np.triu_indices(6, 1)][[5, 6, 7, 9, 10, 12]]).max() < 0.08
    noisy, y = slab_data(jr.key(1), 3_000, 2, (1, 5), noise=0.2)
    np.testing.assert_allclose(np.mean(noisy[:, 0] * y < 0), 0.2, atol=0.03)
    assert ((np.rint(np.asarray(noisy)[:, 1] + 2) % 2 == 1) == (y > 0)).all()


def test_area_without_a_feature():
    x, y = slab_data(jr.key(0), 400, 3, (1, 1))
    found = [randomized_auc(lambda x: x[:, 0], x, y, columns, jr.key(1)) for columns in ((), (1, 2), (0,))]
    assert found[:2] == [1, 1]
    scores = np.asarray(randomize_columns(x, (0,), jr.key(1)))[:, 0]
    pairs = scores[np.asarray(y) > 0][:, None] - scores[np.asarray(y) < 0]
    np.testing.assert_allclose(found[2], np.mean(pairs > 0) + np.mean(pairs == 0) / 2, atol=1e-9)
    assert 0.4 < found[2] < 0.6
    assert randomized_auc(lambda x: -x[:, 0], x, y, (), jr.key(1)) == 0


def test_the_structured_task():
    with jax.enable_x64(True):
        x, y = (np.asarray(a) for a in structured_task(jr.key(0), 12, 5, 0.3, 0.0))
        noisy = np.asarray(structured_task(jr.key(0), 12, 5, 0.3, 0.2)[0])
    s, t = np.tile([1, -1], 6), np.tile([1, 1, -1, -1], 3)
    np.testing.assert_array_equal(y, s * t)
    gram = 0.35 * (np.outer(s, s) + np.outer(t, t)) + 0.3 * np.outer(y, y)
    np.testing.assert_allclose(x @ x.T, gram, atol=1e-10)
    found = kernel_alignment(jnp.asarray(x @ x.T), jnp.asarray(np.outer(y, y)))
    np.testing.assert_allclose(found, 0.3 / np.hypot(0.7 / 2**0.5, 0.3), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(noisy - x, axis=1).mean(), 0.2, rtol=0.25)


@pytest.mark.parametrize(
    ("bad", "call"),
    [
        ("strength", lambda: spectral_decoupling(jnp.ones(2), -0.1)),
        ("strength", lambda: decoupled_margin(0.0)),
        ("noise", lambda: two_moons(jr.key(0), 4, noise=-0.1)),
        ("dimension", lambda: structured_task(jr.key(0), 4, 2, 0.3)),
        ("alignment", lambda: structured_task(jr.key(0), 4, 3, 1.1)),
        ("noise", lambda: structured_task(jr.key(0), 4, 3, 0.3, -0.1)),
        ("slabs", lambda: slab_data(jr.key(0), 4, 2, (1, 0))),
        ("dimension", lambda: slab_data(jr.key(0), 4, 1, (1, 5))),
        ("margin", lambda: slab_data(jr.key(0), 4, 1, (1,), margin=1.1)),
        ("half_width", lambda: slab_data(jr.key(0), 4, 1, (5,), half_width=0.6)),
        ("noise", lambda: slab_data(jr.key(0), 4, 1, (1,), noise=-0.1)),
        ("columns", lambda: randomize_columns(jnp.ones((3, 2)), (2,), jr.key(0))),
        ("columns", lambda: randomize_columns(jnp.ones((3, 2)), (-1,), jr.key(0))),
    ],
)
def test_bad_input_is_refused(bad, call):
    with pytest.raises(ValueError, match=f"^{bad}:"):
        call()
