"""Spirals: the turns of their arms; and the problems for Newton's method: where they are stationary."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems import NEWTON_PROBLEMS, three_spirals


def test_the_arms_turn_one_and_a_half_times():
    points, arm = (np.asarray(a) for a in three_spirals(jr.key(0), 3_000))
    np.testing.assert_array_equal(arm[:6], [0, 1, 2, 0, 1, 2])
    radius = np.linalg.norm(points, axis=1) / 2
    assert radius.min() >= 0.1
    assert 0.98 < radius.max() <= 1.0
    assert np.mean(radius**2) == pytest.approx(0.505, abs=0.02)  # uniform by area
    off = np.angle((points @ [1, 1j]) * np.exp(-1j * (3 * np.pi * radius + arm * 2 * np.pi / 3)))
    assert off.std() == pytest.approx(0.1, rel=0.1)
    assert off.mean() == pytest.approx(0, abs=0.01)
    with pytest.raises(ValueError, match="count"):
        three_spirals(jr.key(0), 0)


MINIMA = {
    "valley": ([1, 1], []),
    "cubic valley": ([1, 1], []),
    "circle": ([-(5**-0.5), -2 * 5**-0.5], [5**0.5 / 2]),
    "roots": ([0, 0], []),
    "arctangent": ([0.5, 0.5], [-0.5]),
}


@pytest.mark.parametrize("name", NEWTON_PROBLEMS)
def test_the_problems_are_stationary_where_they_should_be(name):
    loss, constraint = NEWTON_PROBLEMS[name]
    with jax.enable_x64(True):
        x, multipliers = (jnp.asarray(part, float) for part in MINIMA[name])
        assert constraint(x).shape == multipliers.shape
        np.testing.assert_allclose(constraint(x), 0, atol=1e-12)
        slope = jax.grad(lambda x: loss(x) + multipliers @ constraint(x))(x)
    np.testing.assert_allclose(slope, 0, atol=1e-12)
