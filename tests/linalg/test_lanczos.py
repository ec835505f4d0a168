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


@pytest.mark.parametrize("block", [1, 3])
def test_agrees_with_arpack(block):
    with jax.enable_x64(True):
        a = symmetric(200)
        found = top_eigenpairs(lambda v: jnp.asarray(a) @ v, 200, 4, jr.key(0), iterations=150, block=block)
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


def test_a_block_finds_every_copy_of_an_eigenvalue():
    with jax.enable_x64(True):
        values = np.concatenate([[7.0] * 5, [4.0, 4.0], np.linspace(-3, 2, 193)])
        basis = np.linalg.qr(np.random.default_rng(2).standard_normal((200, 200)))[0]
        a = jnp.asarray((basis * values) @ basis.T)
        found = top_eigenpairs(lambda v: a @ v, 200, 8, jr.key(0), iterations=100, block=5)
        np.testing.assert_allclose(found.values[:7], values[:7], rtol=1e-9)
        np.testing.assert_allclose(a @ found.vectors[:, :7], found.vectors[:, :7] * values[:7], atol=1e-6)
    with pytest.raises(ValueError, match="block"):
        top_eigenpairs(lambda v: v, 3, 1, jr.key(0), block=4)


def test_krylov_basis_is_orthonormal_until_the_space_ends():
    with jax.enable_x64(True):
        basis = krylov_basis(lambda v: jnp.asarray(H) @ v, jnp.asarray(G), 8)
        np.testing.assert_allclose(basis.T @ basis, np.eye(8), atol=1e-10)
        short = krylov_basis(lambda v: 2 * v, jnp.asarray(G), 3)
        np.testing.assert_allclose(np.linalg.norm(short, axis=0), [1, 0, 0], atol=1e-12)
