import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.landscape import (
    count_outliers,
    gradient_subspace_fraction,
    hessian_spectrum,
    subspace_overlap,
    top_hessian_eigs,
)


def logistic(params):
    x = jr.normal(jr.key(1), (30, 3))
    return jnp.mean(jax.nn.softplus(x @ params["w"] + params["b"]))


def test_hessian_of_a_pytree():
    with jax.enable_x64(True):
        params = {"b": jnp.asarray(0.3), "w": jnp.asarray([0.5, -1.0, 0.2])}
        x = np.asarray(jr.normal(jr.key(1), (30, 3)))
        p = 1 / (1 + np.exp(-(x @ np.asarray(params["w"]) + 0.3)))
        rows = np.hstack([np.ones((30, 1)), x])  # b comes before w in the raveled order
        values, vectors = np.linalg.eigh((rows * (p * (1 - p))[:, None]).T @ rows / 30)
        found = jax.jit(lambda q: top_hessian_eigs(logistic, q, 2))(params)
        np.testing.assert_allclose(found.values, values[::-1][:2], rtol=1e-10)
        np.testing.assert_allclose(np.abs(found.vectors.T @ vectors[:, ::-1][:, :2]), np.eye(2), atol=1e-10)
        np.testing.assert_allclose(jax.jit(lambda q: hessian_spectrum(logistic, q))(params), values[::-1], rtol=1e-10)


def test_half_precision_parameters():
    params = jnp.asarray([1.0, 2.0], jnp.bfloat16)
    found = top_hessian_eigs(lambda x: (x[0] ** 2 + 2 * x[1] ** 2).astype(jnp.float32), params, 1)
    assert found.values.dtype == jnp.float32
    np.testing.assert_allclose(found.values, [4.0], rtol=1e-2)


def test_vmaps():
    points = jnp.asarray([[1.0, 2.0], [2.0, 0.5]])
    values = jax.vmap(lambda x: top_hessian_eigs(lambda y: jnp.sum(y**4), x, 1).values[0])(points)
    np.testing.assert_allclose(values, [48.0, 48.0], rtol=1e-5)


@pytest.mark.parametrize("bad", [{"k": 0}, {"k": 5}, {"k": 2, "iterations": 1}, {"k": 2, "iterations": 5}])
def test_refuses_bad_sizes(bad):
    with pytest.raises(ValueError, match=r"^(k|iterations): expected a whole number"):
        top_hessian_eigs(lambda x: jnp.sum(x**2), jnp.ones(4), **bad)


def test_fraction_and_overlap():
    basis = jnp.eye(4)
    gradient = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray([4.0, 0.0])}
    assert gradient_subspace_fraction(gradient, basis[:, :1]) == pytest.approx(9 / 25)
    assert gradient_subspace_fraction(gradient, basis) == pytest.approx(1.0)
    assert gradient_subspace_fraction(jnp.zeros(4), basis[:, :2]) == 0.0
    assert subspace_overlap(basis[:, :2], basis[:, 1:3]) == pytest.approx(0.5)
    rotation = jnp.linalg.qr(jr.normal(jr.key(0), (2, 2)))[0]
    assert subspace_overlap(basis[:, :2], basis[:, :2] @ rotation) == pytest.approx(1.0, abs=1e-5)


def test_outliers():
    values = jnp.asarray([0.02, 9.0, 3.0, 10.0, 0.5, 0.6, -7.0, 0.4])  # 10 9 3 | 0.6 0.5 0.4 | 0.02
    assert count_outliers(values, 4) == 3
    assert count_outliers(values, 6) == 6
    assert count_outliers(values, 7) == 6  # the gap to a negative one does not count
    for bad in (0, 8):
        with pytest.raises(ValueError, match=r"^most"):
            count_outliers(values, bad)
