"""ADMM and FISTA on a lasso against scikit-learn, their loops against NumPy, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Lasso

from attractor.linalg import soft_threshold
from attractor.optim import admm, fista

RNG = np.random.default_rng(0)
A, B, LAM = RNG.standard_normal((20, 6)), RNG.standard_normal(20), 3.0


@pytest.fixture(scope="module")
def reference():
    return Lasso(alpha=LAM / len(B), fit_intercept=False, tol=1e-14, max_iter=100_000).fit(A, B).coef_


def test_admm_solves_a_lasso(reference):
    with jax.enable_x64(True):
        a, b, rho = jnp.asarray(A), jnp.asarray(B), 5.0
        inverse = jnp.linalg.inv(a.T @ a + rho * jnp.eye(6))
        result = admm(
            lambda target, _: inverse @ (a.T @ b + rho * target),
            lambda v: soft_threshold(v, LAM / rho),
            jnp.zeros(6), jnp.zeros(6), 300, measure=lambda x, z, dual: jnp.abs(x).sum(),
        )  # fmt: skip
        np.testing.assert_allclose(result.z, reference, atol=1e-9)
        np.testing.assert_allclose(rho * result.dual, a.T @ (b - a @ result.x), atol=1e-9)
        assert result.primal_residual.shape == result.dual_residual.shape == result.measured.shape == (300,)
        assert float(result.primal_residual[-1]) < 1e-9


def test_admm_takes_pytrees_and_an_operator():
    pair = (jnp.ones(()), jnp.ones(2))
    result = admm(
        lambda t, x: t[0] / 2,
        lambda v: (v[0] / 3, v[1] / 3),
        jnp.zeros(()), pair, 2, forward=lambda x: (x, jnp.full(2, x)), measure=lambda x, z, dual: (x, z[0], dual[1][0]),
    )  # fmt: skip
    assert result.z[1].shape == (2,)
    # By hand; all three entries of the copy are the same.
    np.testing.assert_allclose(result.measured, [[1 / 2, -1 / 12], [1 / 6, 1 / 12], [1 / 3, 1 / 6]], rtol=1e-6)
    np.testing.assert_allclose(result.primal_residual, [3**0.5 / 3, 3**0.5 / 6], rtol=1e-6)
    np.testing.assert_allclose(result.dual_residual, [5 * 3**0.5 / 6, 3**0.5 / 12], rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, lambda t: t / (t + 3)])
def test_fista_solves_a_lasso(reference, momentum):
    with jax.enable_x64(True):
        a, b = jnp.asarray(A), jnp.asarray(B)
        step = float(1 / np.linalg.norm(A, 2) ** 2)
        prox = lambda v, t: soft_threshold(v, LAM * t)  # noqa: E731
        x, values = fista(lambda x: a.T @ (a @ x - b), prox, jnp.zeros(6), step, 2_000, momentum, measure=jnp.sum)
        np.testing.assert_allclose(x, reference, atol=1e-8)
        assert values.shape == (2_000,)


def test_fista_steps_match_numpy():
    with jax.enable_x64(True):
        step, x, last = 0.01, np.zeros(6), np.zeros(6)
        for t in range(10):
            v = x + t / (t + 3) * (x - last)
            v = v - step * A.T @ (A @ v - B)
            x, last = np.sign(v) * np.maximum(np.abs(v) - LAM * step, 0), x
        ours, _ = fista(lambda x: A.T @ (A @ x - B), lambda v, t: soft_threshold(v, LAM * t), jnp.zeros(6), step, 10)
        np.testing.assert_allclose(ours, x, rtol=1e-12)


def test_errors():
    for step, steps, momentum, name in ((0.0, 1, 0.0, "step"), (0.1, 0, 0.0, "steps"), (0.1, 1, 2.0, "momentum")):
        with pytest.raises(ValueError, match=name):
            fista(jnp.sin, lambda v, t: v, jnp.zeros(2), step, steps, momentum)
    with pytest.raises(ValueError, match="steps"):
        admm(lambda t, x: t, lambda v: v, jnp.zeros(2), jnp.zeros(2), 0)
