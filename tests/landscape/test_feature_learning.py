"""Features, data that have several, and their controls: against closed forms and NumPy."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.landscape import (
    decoupled_margin,
    feature_responses,
    randomize_columns,
    spectral_decoupling,
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


@pytest.mark.parametrize(
    ("bad", "call"),
    [
        ("strength", lambda: spectral_decoupling(jnp.ones(2), -0.1)),
        ("strength", lambda: decoupled_margin(0.0)),
        ("noise", lambda: two_moons(jr.key(0), 4, noise=-0.1)),
        ("columns", lambda: randomize_columns(jnp.ones((3, 2)), (2,), jr.key(0))),
        ("columns", lambda: randomize_columns(jnp.ones((3, 2)), (-1,), jr.key(0))),
    ],
)
def test_bad_input_is_refused(bad, call):
    with pytest.raises(ValueError, match=f"^{bad}:"):
        call()
