"""Lion with any convex function against optax, NumPy and constrained minimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import (
    lion_k,
    lion_lyapunov,
    signs,
    smoothed_absolute_conjugate,
    smoothed_absolute_sum,
    unit_vector,
)


def path_of(optimizer, x, steps=10):
    target = jnp.linspace(-2.0, 2.0, x.size)
    state, found = optimizer.init(x), []
    for _ in range(steps):
        updates, state = optimizer.update(x - target, state, x)
        x = jnp.asarray(optax.apply_updates(x, updates))
        found.append(np.asarray(x))
    return found


def test_the_sign_gives_lion():
    with jax.enable_x64(True):
        x = jnp.arange(5.0)
        ours = path_of(lion_k(0.1, weight_decay=0.3), x)
        np.testing.assert_allclose(ours, path_of(optax.lion(0.1, weight_decay=0.3), x), atol=1e-12)


def test_the_unit_vector_agrees_with_numpy():
    with jax.enable_x64(True):
        ours = path_of(lion_k(0.1, unit_vector, b1=0.8, b2=0.95, weight_decay=0.3), jnp.arange(5.0))
    x, m, target = np.arange(5.0), np.zeros(5), np.linspace(-2, 2, 5)
    for found in ours:
        g = x - target
        u, m = 0.8 * m + 0.2 * g, 0.95 * m + 0.05 * g
        x = x - 0.1 * (u / np.linalg.norm(u) + 0.3 * x)
        np.testing.assert_allclose(found, x, rtol=1e-10)


def test_subgradients_on_pytrees():
    tree = {"a": jnp.array([3.0, 0.0]), "b": jnp.asarray(-4.0)}
    jax.tree.map(np.testing.assert_allclose, unit_vector(tree), {"a": np.array([0.6, 0.0]), "b": np.array(-0.8)})
    jax.tree.map(np.testing.assert_array_equal, signs(tree), {"a": np.array([1.0, 0.0]), "b": np.array(-1.0)})
    zeros = optax.tree.zeros_like(tree)
    jax.tree.map(np.testing.assert_array_equal, unit_vector(zeros), zeros)


def test_lyapunov_is_the_penalized_loss_where_the_conjugate_pair_touches():
    # K = |m|^2 / 2 is its own conjugate, and the gap vanishes at m = lambda x.
    x, half = jnp.array([1.0, -2.0]), lambda z: jnp.sum(z**2) / 2
    h = lion_lyapunov(jnp.asarray(3.0), x, 0.5 * x, half, half, alpha=2.0, gamma=1.0, epsilon=0.5, weight_decay=0.5)
    assert float(h) == pytest.approx(2 * 3.0 + 1 / 0.5 * 0.5**2 * 5 / 2)


def test_lyapunov_of_a_generic_point():
    # With K = |m|^2 / 2 the gap is |m - lambda x|^2 / 2.
    x, m, half = np.array([1.0, -2.0, 0.5]), np.array([0.3, 1.0, -0.7]), lambda z: jnp.sum(z**2) / 2
    options = {"alpha": 1.7, "gamma": 0.6, "epsilon": 0.8, "weight_decay": 0.3}
    h = lion_lyapunov(jnp.asarray(3.0), jnp.asarray(x), jnp.asarray(m), half, half, **options)
    gap = np.sum((m - 0.3 * x) ** 2) / 2
    expected = 1.7 * 3 + 0.6 * 0.3 * (x @ x) / 2 + (1 - 0.8 * 0.6) / (1 + 0.8 * 0.3) * gap
    assert float(h) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bad", [{"alpha": 0.0}, {"gamma": -1.0}, {"epsilon": 1.5}, {"weight_decay": 0.0}])
def test_lyapunov_names_the_bad_argument(bad):
    good = {"alpha": 1.0, "gamma": 1.0, "epsilon": 0.5, "weight_decay": 1.0}
    with pytest.raises(ValueError, match=next(iter(bad))):
        lion_lyapunov(jnp.asarray(0.0), jnp.ones(2), jnp.ones(2), jnp.sum, jnp.sum, **{**good, **bad})


def test_the_smooth_sum_and_its_conjugate():
    with jax.enable_x64(True):
        z, s = jnp.array([0.3, -2.0, 0.0]), 0.2
        slope = jax.grad(smoothed_absolute_sum)(z, s)
        assert float(smoothed_absolute_sum(z, s)) == pytest.approx(float(np.sum(np.sqrt(np.square(z) + 0.04))))
        # Fenchel and Young: with the slope the two add up to the product, and no other point has less
        assert float(smoothed_absolute_conjugate(slope, s)) == pytest.approx(
            float(slope @ z - smoothed_absolute_sum(z, s)), rel=1e-9
        )
        other = jnp.array([0.5, -0.9, 0.1])
        assert float(smoothed_absolute_conjugate(other, s) + smoothed_absolute_sum(z, s)) > float(other @ z)
