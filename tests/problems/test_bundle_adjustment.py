"""Rotations and projections against SciPy, and scenes that fit their measurements."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from attractor.problems.bundle_adjustment import (
    bundle_adjustment,
    random_scene,
    reprojection_residuals,
    rotated,
    views,
)


@pytest.mark.parametrize("turn", [[0.3, -1.0, 0.4], [1e-9, 0.0, 0.0], [0.0, 0.0, 0.0]])
def test_rotation(turn):
    points = np.random.default_rng(0).standard_normal((5, 3))
    with jax.enable_x64(True):
        got = rotated(jnp.asarray(turn), jnp.asarray(points))
        slope = jax.jacobian(lambda turn: rotated(turn, jnp.asarray(points)))(jnp.asarray(turn))
    np.testing.assert_allclose(got, Rotation.from_rotvec(turn).apply(points), atol=1e-12)
    assert jnp.isfinite(slope).all()


def test_views():
    rng = np.random.default_rng(1)
    poses, points = 0.2 * rng.standard_normal((2, 6)) + [0, 0, 0, 0, 0, 4], rng.uniform(-1, 1, (4, 3))
    with jax.enable_x64(True):
        got = views(jnp.asarray(np.concatenate([poses.ravel(), points.ravel()])), 2)
    for pose, view in zip(poses, got, strict=True):
        seen = Rotation.from_rotvec(pose[:3]).apply(points) + pose[3:]
        np.testing.assert_allclose(view, seen[:, :2] / seen[:, 2:], atol=1e-12)


def test_a_scene_without_errors_fits_up_to_its_noise():
    measured, start = random_scene(jr.key(0), cameras=4, points=50, noise=1e-2, error=0.0)
    residuals = reprojection_residuals(start, measured)
    assert residuals.shape == (4 * 50 * 2,)
    assert 0.8e-2 < float(residuals.std()) < 1.2e-2


def test_errors():
    for name in ("cameras", "points", "error"):
        with pytest.raises(ValueError, match=name):
            bundle_adjustment(**{name: -1})


def test_cameras_stand_on_the_arc_asked_for():
    scenes = [random_scene(jr.key(2), cameras=3, points=30, noise=0.0, error=0.0, arc=arc) for arc in (0.1, 0.5)]
    (near, near_truth), (wide, wide_truth) = scenes
    turns = [np.asarray(truth)[:18].reshape(3, 6)[:, 1] for truth in (near_truth, wide_truth)]
    np.testing.assert_allclose(turns[1] - turns[0], [-0.4, 0.0, 0.4], atol=1e-6)
    assert np.abs(near[0] - near[2]).mean() < np.abs(wide[0] - wide[2]).mean()
