"""Critical points of every index are found, and told by their gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.optim import critical_points, stationary_point


def test_the_critical_point_near_the_start_is_found_whatever_its_index():
    def loss(x):  # critical where all x_i are 0 or ±1
        return jnp.sum(x**4 / 4 - x**2 / 2)

    with jax.enable_x64(True):
        for near in ([0.0, 0.0], [1.0, 0.0], [-1.0, 1.0]):
            found = jax.jit(lambda x: stationary_point(loss, x, steps=40))(jnp.array(near) + jnp.array([0.1, -0.05]))
            np.testing.assert_allclose(found, near, atol=1e-8)
        slope = jax.jit(lambda x: jnp.linalg.norm(jax.grad(loss)(x)))
        x = jnp.array([0.6, 0.4])  # where the Hessian is nearly singular
        lengths = [slope(stationary_point(loss, x, steps=n)) for n in range(1, 12)]
    assert all(b <= a for a, b in zip([slope(x), *lengths], lengths, strict=False))
    with pytest.raises(ValueError, match="steps"):
        stationary_point(loss, x, steps=0)


def test_critical_points_have_their_losses_and_indices():
    def loss(x):  # critical where all x_i are 0 or ±1; the second is twice as curved
        return jnp.sum(jnp.array([1.0, 2.0]) * (x**4 / 4 - x**2 / 2))

    with jax.enable_x64(True):
        near = jnp.array([[0.1, -0.05], [0.9, 0.1], [0.1, 1.1], [-0.9, 1.1]])
        found = critical_points(loss, near, steps=40)
        np.testing.assert_allclose(found.loss, [0, -0.25, -0.5, -0.75], atol=1e-10)
        np.testing.assert_allclose(found.eigenvalues, [[-2, -1], [-2, 2], [-1, 4], [2, 4]], atol=1e-6)
        assert len(critical_points(loss, near, steps=1).loss) == 0
    with pytest.raises(ValueError, match="tolerance"):
        critical_points(loss, near, tolerance=0.0)
