"""Krylov bases and the top of a spectrum against dense algebra and ARPACK."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.sparse.linalg import eigsh

from attractor.linalg import krylov_basis, top_eigenpairs

RNG = np.random.default_rng(0)
H = RNG.standard_normal((8, 8))
H = H + H.T
G = RNG.standard_normal(8)


def symmetric(dim, seed=0):
    a = np.random.default_rng(seed).standard_normal((dim, dim))
    return a + a.T


def test_agrees_with_arpack():
    with jax.enable_x64(True):
        a = symmetric(200)
        found = top_eigenpairs(lambda v: jnp.asarray(a) @ v, 200, 4, jr.key(0), iterations=150)
        values, vectors = eigsh(a, 4, which="LA")
        np.testing.assert_allclose(found.values, values[::-1], rtol=1e-8)
        np.testing.assert_allclose(np.abs(found.vectors.T @ vectors[:, ::-1]), np.eye(4), atol=1e-5)


def test_is_exact_when_the_basis_is_complete():
    with jax.enable_x64(True):
        a = symmetric(12, 1)
        found = top_eigenpairs(lambda v: jnp.asarray(a) @ v, 12, 12, jr.key(0))
        np.testing.assert_allclose(found.values, np.linalg.eigvalsh(a)[::-1], atol=1e-11)


@pytest.mark.parametrize("diagonal", [[3.0, 3.0, 2.0, 0.0, 0.0, 0.0], [0.0] * 6, [-1.0] * 6, [1.0]])
def test_survives_invariant_subspaces(diagonal):
    """Repeated eigenvalues: the Krylov space ends early, and Lanczos has to go on from a fresh direction."""
    k = min(4, len(diagonal))
    found = top_eigenpairs(lambda v: jnp.asarray(diagonal) * v, len(diagonal), k, jr.key(0))
    np.testing.assert_allclose(found.values, sorted(diagonal, reverse=True)[:k], atol=1e-5)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(k), atol=1e-5)


def test_krylov_basis_is_orthonormal_until_the_space_ends():
    with jax.enable_x64(True):
        basis = krylov_basis(lambda v: jnp.asarray(H) @ v, jnp.asarray(G), 8)
        np.testing.assert_allclose(basis.T @ basis, np.eye(8), atol=1e-10)
        short = krylov_basis(lambda v: 2 * v, jnp.asarray(G), 3)
        np.testing.assert_allclose(np.linalg.norm(short, axis=0), [1, 0, 0], atol=1e-12)
