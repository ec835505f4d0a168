"""Subgradient descent with decaying steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import subgradient_descent


def test_follows_its_formula():
    optimizer, x, expected = subgradient_descent(0.5, 0.8), jnp.array([1.0, -2.0]), np.array([1.0, -2.0])
    state = optimizer.init(x)
    for t in range(10):
        updates, state = optimizer.update(jax.grad(lambda x: jnp.sum(jnp.abs(x)))(x), state, x)
        x, expected = optax.apply_updates(x, updates), expected - 0.5 * 0.8**t * np.sign(expected)
        np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("learning_rate", 0.0), ("decay", 0.0), ("decay", 1.1)])
def test_rejects(name, value):
    with pytest.raises(ValueError, match=name):
        subgradient_descent(**{name: value})
