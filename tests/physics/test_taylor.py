import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.physics import (
    biharmonic,
    contract,
    dense_tangents,
    laplacian,
    laplacian_slope,
    nested_laplacian,
    sparse_tangents,
)
from attractor.physics.taylor import isolating_orders


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def wave(x):
    """exp(a'x) has every derivative in closed form."""
    return jnp.exp(jnp.array([0.3, -0.5, 0.8]) @ x)


A = np.array([0.3, -0.5, 0.8])
X = np.array([0.2, 0.7, -0.4])
E = math.exp(A @ X)


@pytest.mark.parametrize(("powers", "orders", "count"), [((2,), (1,), 1), ((1, 1), (2, 3), 10), ((2, 1), (2, 3), 105)])
def test_isolating_orders(powers, orders, count):
    assert isolating_orders(powers) == (orders, count)


def test_biharmonic_pattern_is_the_coefficient_of_a_lone_partition():
    assert isolating_orders((2, 2)) == ((3, 4), math.factorial(14) // (6**2 * 2 * 24**2 * 2))


@pytest.mark.parametrize("powers", [(1,), (2,), (3,), (4,), (1, 1), (2, 1)])
def test_contract_equals_closed_form(powers):
    vs = [np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.4, -1.0])][: len(powers)]
    expected = E * math.prod((A @ v) ** p for v, p in zip(vs, powers, strict=True))
    found = contract(wave, jnp.asarray(X), [jnp.asarray(v) for v in vs], powers)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_operators_are_exact_with_all_coordinates():
    v, w = sparse_tangents(jr.key(0), 3), sparse_tangents(jr.key(1), 3)
    x, a = jnp.asarray(X), jnp.array([1.0, 2.0, -1.0])
    square = A @ A
    np.testing.assert_allclose(laplacian(wave, x, v), square * E, rtol=1e-10)
    np.testing.assert_allclose(laplacian_slope(wave, x, a, v), square * (A @ np.asarray(a)) * E, rtol=1e-10)
    np.testing.assert_allclose(biharmonic(wave, x, v, w), square**2 * E, rtol=1e-10)


def test_laplacian_equals_nested_differentiation_on_a_network():
    u = eqx.nn.MLP(5, "scalar", 8, 2, jnp.tanh, key=jr.key(0))
    x = jr.normal(jr.key(1), (5,))
    np.testing.assert_allclose(laplacian(u, x, sparse_tangents(jr.key(2), 5)), jnp.trace(jax.hessian(u)(x)), rtol=1e-10)


@pytest.mark.parametrize("batch_size", [None, 1])
def test_nested_differentiation_of_the_same_coordinates_agrees(batch_size):
    u, x = eqx.nn.MLP(7, "scalar", 8, 2, jnp.tanh, key=jr.key(0)), jr.normal(jr.key(1), (7,))
    by_jets = laplacian(u, x, sparse_tangents(jr.key(2), 7, 3))
    assert abs(by_jets - jnp.trace(jax.hessian(u)(x))) > 1e-3
    np.testing.assert_allclose(nested_laplacian(u, x, jr.key(2), 3, batch_size=batch_size), by_jets, rtol=1e-10)
    with pytest.raises(ValueError, match="n:"):
        nested_laplacian(u, x, jr.key(2), 8)


def test_random_signs_average_to_the_laplacian_over_all_signs():
    signs = jnp.array(list(itertools.product([-1.0, 1.0], repeat=3)))
    np.testing.assert_allclose(laplacian(wave, jnp.asarray(X), signs), A @ A * E, rtol=1e-10)


def test_normal_tangents_estimate_the_biharmonic():
    v = dense_tangents(jr.key(0), 3, 100_000, law="normal")
    sample = jax.vmap(lambda row: biharmonic(wave, jnp.asarray(X), row[None]))(v)
    assert abs(sample.mean() - (A @ A) ** 2 * E) < 4 * sample.std() / math.sqrt(len(v))


def test_sparse_tangents_are_distinct_scaled_coordinates():
    v = np.asarray(sparse_tangents(jr.key(0), 10, 4))
    assert v.shape == (4, 10)
    np.testing.assert_allclose(v @ v.T, 10 * np.eye(4), atol=1e-12)


def test_dtype_follows_the_point():
    x = jnp.asarray(X, jnp.float32)
    value = laplacian(lambda y: jnp.sum(y**3), x, sparse_tangents(jr.key(0), 3))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, 6 * X.sum(), rtol=1e-5)


def test_linear_function_has_no_curvature():
    assert laplacian(jnp.sum, jnp.zeros(4), sparse_tangents(jr.key(0), 4)) == 0


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: sparse_tangents(jr.key(0), 3, 4), "n:"),
        (lambda: sparse_tangents(jr.key(0), 3, 0), "n:"),
        (lambda: dense_tangents(jr.key(0), 3, 0), "n:"),
        (lambda: contract(wave, jnp.asarray(X), [jnp.asarray(X)], [2, 1]), "powers"),
        (lambda: contract(wave, jnp.asarray(X), [jnp.asarray(X)], [0]), "powers"),
    ],
)
def test_errors_name_the_argument(call, name):
    with pytest.raises(ValueError, match=name):
        call()
