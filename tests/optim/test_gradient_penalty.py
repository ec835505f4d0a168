"""Gradient penalties against the derivative of the penalized loss, relatives, and errors."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import Minimization, run
from attractor.optim import (
    differentiated_difference,
    double_backpropagation,
    flooding,
    gradient_penalty_sgd,
    penalize_gradient_norm,
)


def loss(x):
    return jnp.sum(jnp.sin(x["a"]) * x["b"] ** 2) + jnp.sum(x["a"] ** 4)


def start():
    return {"a": jr.normal(jr.key(0), (4,), jnp.float64), "b": jr.normal(jr.key(1), (4,), jnp.float64)}


@pytest.mark.parametrize(("scheme", "tolerance"), [("exact", 1e-10), ("forward", 1e-4), ("backward", 1e-4)])
def test_ten_steps_follow_the_penalized_loss(scheme, tolerance):
    def penalized(x):
        return loss(x) + 0.15 * sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(loss)(x)))

    with jax.enable_x64(True):
        ours = run(Minimization(loss, start()), gradient_penalty_sgd(0.01, 0.3, 1e-6, scheme), steps=10, every=10)
        theirs = run(Minimization(penalized, start()), optax.sgd(0.01), steps=10, every=10)
    for a, b in zip(jax.tree.leaves(ours.final), jax.tree.leaves(theirs.final), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance)


def test_equal_gamma_and_eps_is_the_gradient_uphill():
    with jax.enable_x64(True):
        x = start()
        g = jax.grad(loss)(x)
        ours, _ = penalize_gradient_norm(0.1, 0.1).update(g, optax.EmptyState(), x, obj_fn=loss)
        uphill = jax.grad(loss)(jax.tree.map(lambda x, g: x + 0.1 * g, x, g))
        np.testing.assert_allclose(ours["a"], uphill["a"], rtol=1e-10)


def test_flooding_is_the_gradient_of_the_folded_loss():
    with jax.enable_x64(True):
        x = start()
        for level in (-50.0, 50.0):
            folded = jax.grad(lambda x, b=level: jnp.abs(loss(x) - b) + b)(x)
            ours, _ = flooding(level).update(jax.grad(loss)(x), optax.EmptyState(), value=loss(x))
            np.testing.assert_allclose(ours["b"], folded["b"], rtol=1e-12)


def test_what_is_missing_is_named():
    g = jnp.ones(2)
    for piece, name in (
        (penalize_gradient_norm(0.1), "obj_fn"),
        (penalize_gradient_norm(0.1, scheme="exact"), "hvp"),
        (flooding(0.1), "value"),
    ):
        with pytest.raises(ValueError, match=name):
            piece.update(g, piece.init(g), g)


def test_the_penalized_gradient_in_two_ways():
    def penalized(x):
        return loss(x) + 0.15 * sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(loss)(x)))

    with jax.enable_x64(True):
        x, gamma, h = start(), 0.3, 1e-4
        exact = jax.grad(penalized)(x)
        twice = double_backpropagation(loss, x, gamma)
        # f(x + h g) - f(x - h g) is 2 h |g|^2 up to h^3: the penalty with its factor 1/2 left out
        through = differentiated_difference(loss, x, gamma / 2, h)
        for e, a, b in zip(*map(jax.tree.leaves, (exact, twice, through)), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-12)
            np.testing.assert_allclose(b, e, rtol=1e-4)
    for name in ("gamma", "step"):
        with pytest.raises(ValueError, match=name):
            differentiated_difference(loss, x, **{name: -1.0})
    with pytest.raises(ValueError, match="gamma"):
        double_backpropagation(loss, x, -1.0)
