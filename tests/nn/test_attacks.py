"""Attacks on a linear model, whose worst change is known, and errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from attractor.nn import pgd_attack

W = jnp.array([1.0, -2.0, 0.5])


@pytest.mark.parametrize(("steps", "step_size"), [(1, 1.0), (10, 0.25)])
def test_finds_the_worst_corner_of_a_linear_loss(steps, step_size):
    x = jnp.array([[0.3, 0.1, 1.0], [0.0, -1.0, 1.0]])
    moved = pgd_attack(lambda x: jnp.sum(x @ W), x, jnp.array([0.1, 0.2, 0.0]), steps, step_size)
    np.testing.assert_allclose(moved, x + jnp.array([0.1, -0.2, 0.0]), rtol=1e-6)


def test_steps_of_a_bent_loss_by_hand():
    # The slope changes its sign on the way: the gradient is to be taken at the moved point.
    x, radius = np.array([0.2, -0.5, 1.0]), np.array([0.4, 0.7, 0.3])
    bend, weight = np.array([9.0, 5.0, 7.0]), np.array([1.0, -2.0, 0.5])
    y, turned = x, 0
    for _ in range(4):
        slope = weight * bend * np.cos(bend * y)
        turned += np.sum(slope * weight * np.cos(bend * x) < 0)
        y = np.clip(y + 0.6 * radius * np.sign(slope), x - radius, x + radius)
    assert turned
    moved = pgd_attack(lambda x: jnp.sum(weight * jnp.sin(bend * x)), jnp.asarray(x), jnp.asarray(radius), 4, 0.6)
    np.testing.assert_allclose(moved, y, rtol=1e-5)


def test_stays_where_nothing_is_gained():
    x = jnp.ones(3)
    np.testing.assert_array_equal(pgd_attack(lambda x: jnp.zeros(()) * x[0], x, 0.1), x)


@pytest.mark.parametrize(("radius", "steps", "step_size", "name"),
                         [(-0.1, 1, 1.0, "radius"), (0.1, 0, 1.0, "steps"), (0.1, 1, 0.0, "step_size")])  # fmt: skip
def test_errors(radius, steps, step_size, name):
    with pytest.raises(ValueError, match=name):
        pgd_attack(jnp.sum, jnp.ones(3), radius, steps, step_size)
