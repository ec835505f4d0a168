"""The online-to-nonconvex conversion against NumPy, with other learners, and its errors."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.optim import averaged_gradients, convert_online_learner, online_to_nonconvex


def test_follows_its_formula():
    rate, radius = 0.3, 0.5
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        gradients, keys = rng.standard_normal((12, 3)), jr.split(jr.key(0), 12)
        optimizer = online_to_nonconvex(rate, radius)
        w, state = jnp.zeros(3), optimizer.init(jnp.zeros(3))
        x, d, clipped = np.zeros(3), np.zeros(3), 0
        for g, key in zip(gradients, keys, strict=True):
            updates, state = optimizer.update(jnp.asarray(g), state, w, key=key)
            w = optax.apply_updates(w, updates)
            x, d = x + d, d - rate * g
            clipped += np.linalg.norm(d) > radius
            d *= min(1, radius / np.linalg.norm(d))
            np.testing.assert_allclose(w, x + float(jr.uniform(key)) * d, rtol=1e-6, atol=1e-6)
        assert 0 < clipped < 12


def test_radius_bounds_all_leaves_together():
    tree = {"a": jnp.ones((2, 2)), "b": jnp.asarray(3.0)}
    optimizer = convert_online_learner(optax.adam(10.0), 0.1)
    _, state = optimizer.update(tree, optimizer.init(tree), tree, key=jr.key(0))
    np.testing.assert_allclose(optax.tree.norm(state.displacement), 0.1, rtol=1e-5)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_rejects_a_bad_radius(radius):
    with pytest.raises(ValueError, match="radius"):
        convert_online_learner(optax.sgd(0.1), radius)


def test_needs_a_key():
    optimizer = online_to_nonconvex()
    with pytest.raises(ValueError, match="key"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)), jnp.ones(2))


def test_blocks_average_what_the_optimizer_sees():
    def loss(x):
        return jnp.sum(jnp.cosh(x)) + x[0]

    found = averaged_gradients(loss, online_to_nonconvex(0.3, 0.5), jnp.array([1.0, -2.0, 0.5]), jr.key(1), 3, 4)
    optimizer, w = online_to_nonconvex(0.3, 0.5), jnp.array([1.0, -2.0, 0.5])
    state = optimizer.init(w)
    for b, block in enumerate(jr.split(jr.key(1), 3)):
        points, gradients = [], []
        for key in jr.split(block, 4):
            points.append(np.asarray(w))
            gradients.append(np.sinh(points[-1]) + np.eye(3)[0])
            updates, state = optimizer.update(jnp.asarray(gradients[-1], float), state, w, key=jr.split(key)[1])
            w = optax.apply_updates(w, updates)
        away = np.linalg.norm(points - np.mean(points, 0), axis=1)
        np.testing.assert_allclose(found.averages[b], np.linalg.norm(np.mean(gradients, 0)), rtol=1e-4)
        np.testing.assert_allclose(found.reaches[b], away.max(), rtol=1e-4)
        np.testing.assert_allclose(found.squares[b], np.mean(np.sum(np.square(gradients), 1)), rtol=1e-4)


def test_the_noise_of_blocks():
    found = averaged_gradients(jnp.sum, online_to_nonconvex(), jnp.zeros(5), jr.key(0), 2, 4_000, 0.7)
    np.testing.assert_allclose(found.squares, 5 + 5 * 0.49, rtol=0.05)
    np.testing.assert_allclose(found.averages, 5**0.5, rtol=1e-5)
    with pytest.raises(ValueError, match="noise"):
        averaged_gradients(jnp.sum, online_to_nonconvex(), jnp.zeros(5), jr.key(0), 2, 4, -0.7)


def test_a_learner_need_not_know_of_extra_arguments():
    plain = optax.GradientTransformation(lambda x: (), lambda g, state, x=None: (-0.1 * g, state))
    x, g, moves = jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0]), []
    for learner in (plain, optax.sgd(0.1)):
        method = convert_online_learner(learner, radius=0.2)
        update, _ = method.update(g, method.init(x), x, key=jr.key(3), value=jnp.zeros(()))
        moves.append(update)
    np.testing.assert_allclose(moves[0], moves[1], rtol=1e-6)
