"""Concept space: signals by differences, coordinates by a loop, interventions by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from attractor.landscape import composed_embedding, concept_coordinates, concept_signal, overprompt


def test_signal():
    def render(z):
        return jnp.stack([jnp.sin(2 * z[0]) + z[1], z[0] * z[1], 3 * z[1] ** 2])

    z = np.array([0.3, -0.7])
    exact = np.array([[2 * np.cos(0.6), -0.7, 0], [1, 0.3, -4.2]])
    np.testing.assert_allclose(concept_signal(render, jnp.asarray(z)), np.linalg.norm(exact, axis=1), rtol=1e-5)


def test_coordinates():
    rng = np.random.default_rng(0)
    corners, samples = rng.standard_normal((2, 2, 2, 5)), rng.standard_normal((9, 5))
    found = concept_coordinates(jnp.asarray(samples, jnp.float32), jnp.asarray(corners, jnp.float32))
    for x, at in zip(samples, found, strict=True):
        distances = {i: np.sum((corners[i] - x) ** 2) for i in np.ndindex(2, 2, 2)}
        assert tuple(at.tolist()) == min(distances, key=lambda i: distances[i])
    with pytest.raises(ValueError, match=r"^corners: expected"):
        concept_coordinates(jnp.ones((1, 5)), jnp.ones((2, 3, 5)))


def test_interventions():
    base, others = jnp.array([1.0, 2.0]), jnp.array([[2.0, 2.0], [1.0, 5.0]])
    np.testing.assert_allclose(composed_embedding(base, others), [2.0, 5.0])
    np.testing.assert_allclose(composed_embedding(base, others, 1.5), [2.5, 6.5])
    np.testing.assert_allclose(overprompt(jnp.array([1.0, 2.0, 3.0]), 1, 1.5), [1.0, 3.0, 3.0])
    with pytest.raises(ValueError, match=r"^concept: expected"):
        overprompt(base, 2, 1.5)
