"""The compressor against a loop in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.problems.audio import (
    HIDDEN,
    ballistics,
    compress,
    compressor_matching,
    decibels,
    from_decibels,
    recursive_filter,
    settings_to_vector,
    vector_to_settings,
)


def test_compressor_agrees_with_a_loop():
    with jax.enable_x64(True):
        sound = np.random.default_rng(0).standard_normal(300) * np.repeat([0.03, 0.5, 0.1], 100)
        threshold, ratio, attack, release, makeup = HIDDEN
        y, gains = 1.0, []
        for sample in sound:
            level = 20 * np.log10(max(abs(sample), 1e-4))
            g = 10 ** (min(0.0, (1 - 1 / ratio) * (threshold - level)) / 20)
            alpha = 1 - np.exp(-1 / (8_000 * (attack if g < y else release)))
            y = (1 - alpha) * y + alpha * g
            gains.append(y * 10 ** (makeup / 20))
        found = compress(settings_to_vector(jnp.asarray(HIDDEN)), jnp.asarray(sound))
        np.testing.assert_allclose(found, sound * np.array(gains), rtol=1e-9)


def test_settings_come_back():
    np.testing.assert_allclose(vector_to_settings(settings_to_vector(jnp.asarray(HIDDEN))), HIDDEN, rtol=1e-5)


def test_attack_and_release():
    found = ballistics(jnp.asarray([0.2, 0.2, 1.0]), jnp.asarray(0.5), jnp.asarray(0.1))
    np.testing.assert_allclose(found, [0.6, 0.4, 0.46], rtol=1e-6)


def test_parallel_filter_agrees_with_a_loop():
    decay, drive = np.random.default_rng(0).uniform(-1, 1, (2, 37))
    y, expected = 0.0, []
    for c, d in zip(decay, drive, strict=True):
        y = c * y + d
        expected.append(y)
    found = jax.jit(recursive_filter)(jnp.asarray(decay), jnp.asarray(drive))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_decibels():
    np.testing.assert_allclose(decibels(jnp.asarray([1.0, -0.1, 0.0])), [0.0, -20.0, -80.0], atol=1e-4)
    np.testing.assert_allclose(from_decibels(jnp.asarray([0.0, 20.0])), [1.0, 10.0], rtol=1e-6)


def test_loss_vanishes_at_the_hidden_settings_only():
    problem = compressor_matching(0.1)
    assert problem.loss(problem.solution, None) == pytest.approx(0, abs=1e-10)
    assert problem.loss(problem.init(jax.random.key(0)), None) > 1e-3


def test_refuses_a_short_sound():
    with pytest.raises(ValueError, match="seconds"):
        compressor_matching(0.01)
