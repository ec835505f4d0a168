"""Functional gradient steps against coefficients of the kernel expansion, teachers' choices, and errors."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

from attractor.optim import (
    functional_gradient_learner,
    functional_teaching,
    gaussian_kernel,
    iterative_teaching_dimension,
)

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 2)), RNG.standard_normal(12)
K = rbf_kernel(X, X, gamma=1 / (2 * 0.7**2))


def test_kernel_matches_scikit_learn():
    with jax.enable_x64(True):
        np.testing.assert_allclose(gaussian_kernel(jnp.asarray(X), jnp.asarray(X[:3]), 0.7), K[:, :3], rtol=1e-12)


@pytest.mark.parametrize("count", [1, 3])
def test_greedy_teaching_matches_coefficients(count):
    with jax.enable_x64(True):
        f, losses = functional_teaching(jnp.asarray(Y), jnp.asarray(K), 0.6, 10, jr.key(0), "greedy", count)
        coefficients = np.zeros(12)
        for t in range(10):
            error = K @ coefficients - Y
            chosen = np.argsort(-np.abs(error))[:count]
            coefficients[chosen] -= 0.6 * error[chosen] / count
            assert float(losses[t]) == pytest.approx(np.mean((K @ coefficients - Y) ** 2) / 2, rel=1e-9)
        np.testing.assert_allclose(f, K @ coefficients, rtol=1e-9)


def test_another_loss():
    loss = lambda f, y: jnp.log1p(jnp.exp(-f * y))  # noqa: E731
    with jax.enable_x64(True):
        f = functional_gradient_learner(
            jnp.zeros(12), jnp.array([4]), jnp.sign(jnp.asarray(Y)), jnp.asarray(K), 0.6, loss
        )
        np.testing.assert_allclose(f, 0.3 * np.sign(Y[4]) * K[4], rtol=1e-12)


def test_random_teaching_learns_and_keeps_the_target():
    target, kernel = jnp.asarray(Y), jnp.asarray(K)
    _, losses = functional_teaching(target, kernel, 0.8, 3_000, jr.key(0), "random", 2)
    assert float(losses[-1]) < 0.1 * float(losses[0])
    f, _ = functional_teaching(target, kernel, 0.8, 3, jr.key(0), start=target)
    np.testing.assert_array_equal(f, target)


def test_teaching_dimension():
    assert iterative_teaching_dimension([1.0, 0.5, 0.2, 0.1], 0.2) == 3
    assert iterative_teaching_dimension([1.0, 0.5], 0.1) == float("inf")


def test_errors():
    target, kernel, key = jnp.asarray(Y), jnp.asarray(K), jr.key(0)
    for call, name in (
        (lambda: gaussian_kernel(jnp.asarray(X), jnp.asarray(X), 0.0), "width"),
        (lambda: functional_teaching(target, kernel, -0.1, 1, key), "learning_rate"),
        (lambda: functional_teaching(target, kernel, 0.1, 0, key), "steps"),
        (lambda: functional_teaching(target, kernel, 0.1, 1, key, count=13), "count"),
        (lambda: functional_teaching(target, kernel, 0.1, 1, key, "best"), "teacher"),
    ):
        with pytest.raises(ValueError, match=name):
            call()


def test_a_teacher_of_ones_own_scores_the_slopes():
    with jax.enable_x64(True):
        how = (jnp.asarray(Y), jnp.asarray(K), 0.6, 10, jr.key(0))
        ours = functional_teaching(*how, lambda slopes, key: jnp.abs(slopes), 2)
        np.testing.assert_array_equal(ours[1], functional_teaching(*how, "greedy", 2)[1])
        first, _ = functional_teaching(*how[:3], 1, jr.key(0), lambda slopes, key: slopes)  # from 0 the slope is -Y
        np.testing.assert_allclose(first, 0.6 * Y.min() * K[Y.argmin()], rtol=1e-12)
