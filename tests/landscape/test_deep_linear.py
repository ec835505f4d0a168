"""Deep linear networks against quadrature, an integrator, loops in NumPy and dense matrix functions."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.linalg import sqrtm

from attractor.landscape import (
    bures_wasserstein,
    decoupled_start,
    deep_linear_loss,
    deep_linear_map,
    generator_critical_points,
    generator_loss,
    learning_time,
    mode_strength,
    train_deep_linear,
)

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_learning_times_are_the_integral_and_strengths_its_inverse():
    s, start, end, tau = np.array([1.7, 0.6]), np.array([0.02, 0.003]), np.array([1.2, 0.55]), 1.3
    for depth in (1, 2, 5):

        def speed(u, s, depth=depth):
            return depth * u ** (2 - 2 / depth) * (s - u) / tau

        expected = [quad(lambda u, s=s: 1 / speed(u, s), a, b)[0] for s, a, b in zip(s, start, end, strict=True)]
        times = learning_time(s, start, end, depth, tau)
        np.testing.assert_allclose(times, expected, rtol=1e-6)
        np.testing.assert_allclose(mode_strength(times, s, start, depth, tau), end, rtol=1e-8)
    later = solve_ivp(lambda _, u: 5 * u**1.6 * (s - u) / tau, (0, 2), start, rtol=1e-9, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(mode_strength(2.0, s, start, 5, tau), later, rtol=1e-6)
    grown = np.exp(2 * s * 1.5 / tau)
    np.testing.assert_allclose(mode_strength(1.5, s, start, 2, tau), s * grown / (grown - 1 + s / start), rtol=1e-8)


def test_descent_is_that_of_a_loop():
    shapes = [(4, 3), (5, 4), (2, 5)]
    weights = [RNG.standard_normal(shape) / 2 for shape in shapes]
    target, maps = jnp.asarray(RNG.standard_normal((2, 3))), []
    found = train_deep_linear([jnp.asarray(w) for w in weights], target, 0.05, 6, every=2)
    miss = target - weights[2] @ weights[1] @ weights[0]
    np.testing.assert_allclose(deep_linear_loss([jnp.asarray(w) for w in weights], target), np.sum(miss**2) / 2)
    for step in range(1, 7):
        a, b, c = weights
        miss = c @ b @ a - target
        weights = [a - 0.05 * (c @ b).T @ miss, b - 0.05 * c.T @ miss @ a.T, c - 0.05 * miss @ (b @ a).T]
        maps += [weights[2] @ weights[1] @ weights[0]] if step % 2 == 0 else []
    np.testing.assert_allclose(found, maps, rtol=1e-10)
    stack = jnp.asarray(RNG.standard_normal((3, 4, 4)))
    first, last = (jnp.asarray(RNG.standard_normal(shape)) for shape in [(4, 2), (3, 4)])
    expected = last @ stack[2] @ stack[1] @ stack[0] @ first
    np.testing.assert_allclose(deep_linear_map([first, stack, last]), expected)


def test_a_decoupled_start_is_balanced_and_aligned():
    target = jnp.asarray(RNG.standard_normal((3, 5)))
    weights = decoupled_start(target, 4, 0.3, jr.key(0), width=6)
    assert [w.shape for w in weights] == [(6, 5), (6, 6), (6, 6), (3, 6)]
    left, _, right = np.linalg.svd(target, full_matrices=False)
    np.testing.assert_allclose(deep_linear_map(weights), 0.3 * left @ right, atol=1e-12)
    for before, after in pairwise(weights):
        np.testing.assert_allclose(after.T @ after, before @ before.T, atol=1e-12)
    assert np.linalg.norm(weights[1] - weights[2]) > 0.1


def _covariance(n):
    factor = RNG.standard_normal((n, n))
    return jnp.asarray(factor @ factor.T)


def test_the_distance_of_two_covariances():
    a, b = _covariance(4), _covariance(4)
    for smoothing in (0.0, 0.7):
        x, y = (m + smoothing * np.eye(4) for m in (a, b))
        root = sqrtm(x)
        expected = np.trace(x + y) - 2 * np.trace(sqrtm(root @ y @ root)).real
        np.testing.assert_allclose(bures_wasserstein(a, b, smoothing), expected, rtol=1e-8)
    np.testing.assert_allclose(bures_wasserstein(b, a), bures_wasserstein(a, b), rtol=1e-8)
    weights = [jnp.asarray(RNG.standard_normal(shape)) for shape in [(2, 3), (4, 2)]]
    product = weights[1] @ weights[0]
    np.testing.assert_allclose(generator_loss(weights, a), bures_wasserstein(a, product @ product.T), rtol=1e-6)
    np.testing.assert_allclose(generator_loss(weights, a, 0.7), bures_wasserstein(a, product @ product.T, 0.7))


def test_critical_points_are_stationary_and_the_first_is_least():
    target = jnp.asarray(_covariance(5))
    factors, losses = generator_critical_points(target, 2)
    slopes = jax.vmap(jax.grad(lambda w: generator_loss([w], target)))(factors)
    assert factors.shape == (10, 5, 2)
    assert np.max(np.abs(slopes)) < 1e-8
    np.testing.assert_allclose(jax.vmap(lambda w: generator_loss([w], target))(factors), losses, rtol=1e-8)
    np.testing.assert_allclose(losses[0], np.linalg.eigvalsh(target)[:3].sum(), rtol=1e-8)
    assert np.all(losses[1:] > losses[0])


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("depth", lambda: learning_time(1.0, 0.1, 0.5, 0.5)),
        ("tau", lambda: mode_strength(1.0, 1.0, 0.1, tau=0.0)),
        ("start", lambda: mode_strength(1.0, 1.0, 1.5)),
        ("end", lambda: learning_time(1.0, 0.1, 1.5)),
        ("size", lambda: decoupled_start(jnp.eye(2), 2, 0.0, jr.key(0))),
        ("width", lambda: decoupled_start(jnp.eye(2), 2, 0.1, jr.key(0), width=1)),
        ("steps", lambda: train_deep_linear([jnp.eye(2)], jnp.eye(2), 0.1, 2, every=3)),
        ("smoothing", lambda: bures_wasserstein(jnp.eye(2), jnp.eye(2), -1.0)),
        ("rank", lambda: generator_critical_points(jnp.eye(2), 3)),
    ],
)
def test_refuses(name, call):
    with pytest.raises(ValueError, match=f"^{name}:"):
        call()
