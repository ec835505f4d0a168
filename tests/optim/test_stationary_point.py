"""Critical points of every index are found, and told by their gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.optim import stationary_point


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
