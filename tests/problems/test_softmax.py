"""Softmax regression and the soft maximum: derivatives against closed forms."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems.softmax import (
    soft_maximum,
    soft_maximum_gauss_newton,
    softmax_fisher,
    softmax_on_gaussians,
    softmax_regression,
)


def test_softmax_regression_and_its_fisher_matrix():
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((7, 2)), np.array([0, 2, 1, 1, 0, 2, 2]), rng.standard_normal((2, 2))
    scores = np.column_stack([x @ w, np.zeros(7)])
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    gradients = [np.outer(x[i], (shares[i] - np.eye(3)[y[i]])[:2]).ravel() for i in range(7)]
    with jax.enable_x64(True):
        problem = softmax_regression(x, y, 0.3, w.ravel())
        start, data = problem.init(jax.random.key(0)), problem.full
        expected = -np.log(shares[range(7), y]).mean() + 0.15 * np.sum(w**2)
        np.testing.assert_allclose(problem.loss(start, data), expected, rtol=1e-9)
        np.testing.assert_allclose(
            jax.grad(problem.loss)(start, data), np.mean(gradients, 0) + 0.3 * w.ravel(), rtol=1e-8
        )
        fisher = sum(np.outer(g, g) for g in gradients) / 7 + 0.3 * np.eye(4)
        np.testing.assert_allclose(softmax_fisher(problem, start, data), fisher, rtol=1e-8)


def test_soft_maximum_lacks_one_term_of_rank_one():
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        problem = soft_maximum(rng.standard_normal((6, 3)), rng.standard_normal(6), rng.standard_normal(3))
        start, data = problem.init(jax.random.key(0)), problem.full
        gradient, hessian = jax.grad(problem.loss)(start, data), jax.hessian(problem.loss)(start, data)
        found = soft_maximum_gauss_newton(problem, start, data)
        np.testing.assert_allclose(found - jnp.outer(gradient, gradient), hessian, rtol=1e-8, atol=1e-12)


def test_softmax_on_gaussians():
    with jax.enable_x64(True):
        loss = softmax_on_gaussians(jr.key(0), classes=3, dim=6, examples=90, noise=0.0)
        weight = jnp.asarray(np.random.default_rng(0).standard_normal((6, 3)))
        logits = np.asarray(weight)[:3]  # without noise an example is the mean of its class, a unit vector
        expected = np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits))
        assert float(loss(weight)) == pytest.approx(expected, rel=1e-10)
        noisy = softmax_on_gaussians(jr.key(0), classes=3, dim=6, examples=90, noise=0.5)
        assert abs(float(noisy(weight)) - expected) > 1e-3
    for bad in ({"classes": 7, "dim": 6}, {"noise": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            softmax_on_gaussians(jr.key(0), **bad)
