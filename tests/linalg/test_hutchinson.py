"""Estimates of diagonals against the diagonals, and block averages."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.linalg import block_average, hutchinson_diagonal, rademacher_like


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_rademacher_signs(dtype):
    z = rademacher_like(jr.key(0), {"a": jnp.zeros((50, 40), dtype), "b": jnp.zeros((), dtype)})
    assert z["a"].dtype == z["b"].dtype == dtype
    assert set(np.unique(np.asarray(z["a"], float))) == {-1.0, 1.0}
    assert abs(float(z["a"].astype(float).mean())) < 0.1


def test_averages_over_all_sign_vectors_to_the_diagonal():
    matrix = jnp.array([[2.0, 1.0], [1.0, -3.0]])
    estimate = hutchinson_diagonal(lambda v: matrix @ v, jnp.zeros(2), jr.key(0), probes=4_000)
    np.testing.assert_allclose(estimate, [2.0, -3.0], atol=0.05)
    # One probe gives H_ii +- H_ij, nothing else.
    (once,) = {tuple(np.abs(hutchinson_diagonal(lambda v: matrix @ v, jnp.zeros(2), jr.key(1)) - jnp.diag(matrix)))}
    assert once == (1.0, 1.0)


@pytest.mark.parametrize("probes", [1, 3])
def test_reads_off_a_diagonal_operator_exactly(probes):
    diagonal = {"a": jnp.array([1.0, -2.0]), "b": jnp.asarray(0.0)}
    estimate = hutchinson_diagonal(
        lambda v: jax.tree.map(jnp.multiply, diagonal, v), diagonal, jr.key(0), probes=probes
    )
    jax.tree.map(lambda e, d: np.testing.assert_allclose(e, d, rtol=1e-6), estimate, diagonal)


@pytest.mark.parametrize("block_size", [1, 2, 4, 6, 10])
def test_block_average(block_size):
    values = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    flat = values.ravel()
    expected = [flat[i // block_size * block_size :][:block_size].mean() for i in range(6)]
    for size in (block_size, jnp.asarray(block_size)):  # known when compiling or not
        np.testing.assert_allclose(block_average(jnp.asarray(values), size).ravel(), expected, rtol=1e-5)


def test_block_average_of_nothing_and_of_a_scalar():
    assert block_average(jnp.zeros((0, 3)), 2).shape == (0, 3)
    assert block_average(jnp.asarray(2.0), 4) == 2.0


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="probes"):
        hutchinson_diagonal(lambda v: v, jnp.zeros(2), jr.key(0), probes=0)
    with pytest.raises(ValueError, match="block_size"):
        block_average(jnp.zeros(2), 0)
