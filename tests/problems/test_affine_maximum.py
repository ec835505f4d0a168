"""The least maximum against a dual certificate; the recorded gap; errors."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems import affine_maximum, least_maximum


def test_the_minimizer_has_zero_in_the_hull_of_its_active_rows():
    problem = affine_maximum(60, 3, seed=2)
    rows, offsets = map(np.asarray, problem.full)
    x, value = least_maximum(rows.astype(float), offsets.astype(float))
    values = rows @ x + offsets
    assert values.max() == pytest.approx(value, abs=1e-6)
    active = rows[values > value - 1e-5]
    weights = np.linalg.lstsq(np.vstack([active.T, np.ones(len(active))]), [0, 0, 0, 1], rcond=None)[0]
    assert (weights > 0).all()
    np.testing.assert_allclose(weights @ active, 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    gap = problem.probes["gap"](problem, jnp.asarray(x) + jnp.array([0.0, 0.2, 0.0]), jr.key(0))
    assert float(gap) == pytest.approx((values + 0.2 * rows[:, 1]).max() - value, abs=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="losses"):
        affine_maximum(3, 3)
    with pytest.raises(ValueError, match="bounded below"):
        least_maximum(np.array([[1.0, 0.0], [1.0, 0.1]]), np.zeros(2))
