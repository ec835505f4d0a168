"""Products with Hessians, Gauss-Newton and Fisher matrices against dense algebra."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree

from attractor.decision import Categorical, Gaussian
from attractor.linalg import (
    empirical_fisher_product,
    fisher,
    ggn,
    hvp,
)

X = {"matrix": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "scalar": jnp.asarray(0.5)}


def loss(x):
    return jnp.sum(jnp.tanh(x["matrix"]) ** 3) * jnp.exp(x["scalar"])


def test_hvp_agrees_with_the_dense_hessian():
    flat, unravel = ravel_pytree(X)
    dense = jax.hessian(lambda flat: loss(unravel(flat)))(flat)
    v = jr.normal(jr.key(0), flat.shape)
    np.testing.assert_allclose(ravel_pytree(hvp(loss, X)(unravel(v)))[0], dense @ v, rtol=1e-5)


MAP = jnp.asarray(np.random.default_rng(1).standard_normal((4, 3)))  # neither square nor symmetric
POINT = {"w": jnp.array([0.3, -0.7]), "b": jnp.asarray(0.4)}
FLAT, UNRAVEL = ravel_pytree(POINT)


def outputs(x):
    return jnp.tanh(MAP.astype(FLAT.dtype) @ ravel_pytree(x)[0])


def dense(product):
    """The matrix of a product on `POINT`-like trees."""
    columns = [ravel_pytree(product(UNRAVEL(e)))[0] for e in jnp.eye(3, dtype=FLAT.dtype)]
    return np.stack(columns, axis=1)


def jacobian(function):
    return np.asarray(jax.jacobian(lambda flat: function(UNRAVEL(flat)))(FLAT))


def test_ggn_is_the_jacobian_around_the_outer_hessian():
    def outer(z):
        return jnp.exp(z[0] - z[1]) + z[2] * z[3] ** 2

    j, hessian = jacobian(outputs), np.asarray(jax.hessian(outer)(outputs(POINT)))
    np.testing.assert_allclose(dense(ggn(outputs, outer, POINT)), j.T @ hessian @ j, rtol=1e-4, atol=1e-5)
    # It is not the Hessian, which has the curvature of the inner map as well.
    assert np.abs(dense(ggn(outputs, outer, POINT)) - dense(hvp(lambda x: outer(outputs(x)), POINT))).max() > 0.1


def test_fisher_of_a_softmax_is_that_of_its_probabilities():
    product = fisher(lambda x, y: Categorical(outputs(x)).divergence(Categorical(outputs(y))), POINT)
    j, p = jacobian(outputs), np.asarray(jax.nn.softmax(outputs(POINT)))
    np.testing.assert_allclose(dense(product), j.T @ (np.diag(p) - np.outer(p, p)) @ j, rtol=1e-4, atol=1e-6)


def test_fisher_of_normal_means_counts_in_standard_deviations():
    log_std = jnp.array([0.0, 0.5, -0.5, 1.0])
    product = fisher(lambda x, y: Gaussian(outputs(x), log_std).divergence(Gaussian(outputs(y), log_std)), POINT)
    j = jacobian(outputs)
    expected = j.T @ np.diag(np.exp(-2 * np.asarray(log_std))) @ j
    np.testing.assert_allclose(dense(product), expected, rtol=1e-4, atol=1e-6)


def test_empirical_fisher_is_the_mean_of_outer_products():
    def losses(x):
        return (outputs(x) - jnp.arange(4.0)) ** 2

    g = jacobian(losses)
    expected = sum(np.outer(row, row) for row in g) / 4
    np.testing.assert_allclose(dense(empirical_fisher_product(losses, POINT)), expected, rtol=1e-4, atol=1e-5)
