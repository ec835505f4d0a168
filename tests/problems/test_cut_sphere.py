"""The constraints on points of the cut sphere and beside it; starts; errors."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems import on_cut_sphere


def test_a_circle_of_the_sphere_meets_the_constraints():
    problem = on_cut_sphere(lambda x: x.sum(), 4, planes=2, seed=1)
    rng = np.random.default_rng(1)
    rows, point = rng.standard_normal((2, 4)) / 2, rng.standard_normal(4)
    point /= np.linalg.norm(point)
    # Along the null space, the foot of the perpendicular from the origin is the circle's center.
    foot = np.linalg.lstsq(rows, rows @ point, rcond=None)[0]
    along = np.linalg.svd(rows)[2][2:]
    for angle in (0.3, 2.0):
        x = foot + np.sqrt(1 - foot @ foot) * (np.cos(angle) * along[0] + np.sin(angle) * along[1])
        np.testing.assert_allclose(problem.constraint(jnp.asarray(x)), 0, atol=1e-6)
    away = problem.constraint(jnp.asarray(point) + jnp.array([0.5, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(away[:2], 0.5 * rows[:, 0], atol=1e-6)
    assert float(away[2]) == pytest.approx((0.25 + point[0]) / 2, abs=1e-6)
    starts = np.stack([problem.init(jr.key(i)) for i in range(200)])
    assert np.mean(starts**2) == pytest.approx(0.25, rel=0.15)


def test_errors():
    with pytest.raises(ValueError, match="dim"):
        on_cut_sphere(jnp.sum, 5)
    with pytest.raises(ValueError, match="planes"):
        on_cut_sphere(jnp.sum, 5, planes=0)
