"""Amplitude amplification against the rotation it is, and against matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.linalg import amplified_sampling, rotations_needed

AMPLITUDES = np.array([0.9, 0.1, 0.0, 0.3, 0.2, 0.05, 0.6, 0.01])


@pytest.mark.parametrize("iterations", [0, 1, 2, 5])
def test_success_turns_by_twice_the_angle(iterations):
    with jax.enable_x64(True):
        found = amplified_sampling(jnp.asarray(AMPLITUDES), iterations)
        angle = np.arcsin(np.sqrt(np.mean(AMPLITUDES**2)))
        np.testing.assert_allclose(found.probabilities.sum(), np.sin((2 * iterations + 1) * angle) ** 2, atol=1e-12)
        np.testing.assert_allclose(found.failure, np.cos((2 * iterations + 1) * angle) ** 2, atol=1e-12)


def test_an_iteration_is_the_product_of_two_reflections():
    state = np.stack([np.sqrt(1 - AMPLITUDES**2), AMPLITUDES], 1).ravel() / np.sqrt(len(AMPLITUDES))
    flip = np.diag(np.tile([1.0, -1.0], len(AMPLITUDES)))
    reflect = 2 * np.outer(state, state) - np.eye(len(state))
    expected = np.linalg.matrix_power(reflect @ flip, 3) @ state
    with jax.enable_x64(True):
        found = amplified_sampling(jnp.asarray(AMPLITUDES), 3)
    np.testing.assert_allclose(found.probabilities, expected[1::2] ** 2, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.3, 0.01])
def test_ends_on_the_flag(scale):
    with jax.enable_x64(True):
        found = amplified_sampling(jnp.asarray(scale * AMPLITUDES))
        np.testing.assert_allclose(found.probabilities, AMPLITUDES**2 / np.sum(AMPLITUDES**2), atol=1e-12)
        assert float(found.failure) < 1e-12


def test_rotations():
    above = np.float32(1 + 1e-6)  # where rounding may take a sum of probabilities
    assert [int(rotations_needed(jnp.asarray(p))) for p in (above, 1.0, 0.5, 0.25, 1e-4)] == [0, 0, 1, 1, 79]
