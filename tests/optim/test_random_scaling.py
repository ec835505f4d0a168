"""Random scaling against NumPy, its law, and the measure of stationarity that it drives down."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.optim import goldstein_norm, min_norm_in_hull, random_scaled_sgdm, random_scaling


def test_sgdm_follows_its_formula():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        gradients, keys = rng.standard_normal((10, 3)), jr.split(jr.key(0), 10)
        optimizer = random_scaled_sgdm(0.1, 0.8)
        x, state = jnp.zeros(3), optimizer.init(jnp.zeros(3))
        expected, m = np.zeros(3), np.zeros(3)
        for g, key in zip(gradients, keys, strict=True):
            updates, state = optimizer.update(jnp.asarray(g), state, x, key=key)
            x = optax.apply_updates(x, updates)
            m = 0.8 * m + 0.2 * g
            expected = expected - float(jr.exponential(key)) * 0.1 * m
            np.testing.assert_allclose(x, expected, rtol=1e-6)


def test_one_factor_for_all_leaves_and_it_is_exponential():
    tree = {"a": jnp.ones(2), "b": jnp.asarray(-2.0)}
    steps = random_scaling(optax.identity())
    scaled = jax.vmap(lambda key: steps.update(tree, steps.init(tree), tree, key=key)[0])(jr.split(jr.key(0), 20_000))
    factor = np.asarray(scaled["a"][:, 0])
    np.testing.assert_allclose(scaled["a"][:, 1], factor)
    np.testing.assert_allclose(scaled["b"], -2 * factor)
    assert abs(factor.mean() - 1) < 0.03
    assert abs((factor > 1).mean() - np.exp(-1)) < 0.02


def test_extra_arguments_reach_the_base():
    base = optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), lambda u, state, params=None, *, value, **_: (value * u, state)
    )
    steps = random_scaling(base, lambda key: jnp.asarray(1.0))
    np.testing.assert_allclose(steps.update(jnp.ones(2), steps.init(None), key=jr.key(0), value=3.0)[0], 3.0)


def test_needs_a_key():
    steps = random_scaling(optax.sgd(0.1))
    with pytest.raises(ValueError, match="key"):
        steps.update(jnp.ones(2), steps.init(jnp.ones(2)), jnp.ones(2))


def test_shortest_vector_of_a_hull():
    np.testing.assert_allclose(min_norm_in_hull(jnp.array([[1.0, 2.0], [1.0, -1.0]])), [1.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(min_norm_in_hull(jnp.array([[3.0, 4.0]])), [3.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(min_norm_in_hull(jnp.zeros((3, 2))), 0.0)


def test_shortest_vector_of_a_hull_satisfies_its_inequalities():
    # It is the only point p of the hull with <q - p, p> >= 0 for every q of the points.
    points = np.random.default_rng(0).standard_normal((6, 3)) + np.array([1.0, 0.8, 0.5])
    with jax.enable_x64(True):
        found = np.asarray(min_norm_in_hull(jnp.asarray(points)))
    assert found @ found > 1e-2
    assert ((points - found) @ found > -1e-9).all()
    inside = np.append(found, 1) @ np.linalg.pinv(np.c_[points, np.ones(6)])
    np.testing.assert_allclose(np.append(found, 1), inside @ np.c_[points, np.ones(6)], atol=1e-12)


def test_goldstein_samples_uniformly_from_the_ball():
    # One point of each sample, around 0, and a loss whose gradient is the point: in the ball of radius r in d
    # dimensions the mean of |y|^2 is r^2 d / (d + 2), and no point is longer than r.
    loss = lambda x: (jnp.sum(x["a"] ** 2) + x["b"] ** 2) / 2  # noqa: E731
    x = {"a": jnp.zeros(3), "b": jnp.asarray(0.0)}
    lengths = jax.vmap(lambda key: goldstein_norm(loss, x, 0.7, key, 1))(jr.split(jr.key(0), 4_000))
    np.testing.assert_allclose(jnp.mean(lengths**2), 0.7**2 * 4 / 6, rtol=0.02)
    assert 0.69 < lengths.max() < 0.7 + 1e-6


@pytest.mark.parametrize(("x", "expected"), [(0.05, 0.0), (0.2, 1.0)])
def test_goldstein_sees_kinks_within_reach(x, expected):
    norm = goldstein_norm(lambda x: jnp.abs(x["w"]), {"w": jnp.asarray(x)}, 0.1, jr.key(0))
    np.testing.assert_allclose(norm, expected, atol=1e-4)


@pytest.mark.parametrize(("name", "arguments"), [("delta", (0.0, 4)), ("samples", (0.1, 0))])
def test_goldstein_rejects(name, arguments):
    delta, samples = arguments
    with pytest.raises(ValueError, match=name):
        goldstein_norm(jnp.sum, jnp.ones(2), delta, jr.key(0), samples)
