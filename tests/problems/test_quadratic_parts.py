"""The parts of a quadratic and its proxy: spectrum, norm, and noise of mean zero."""

import numpy as np
import pytest

from attractor.problems import minimizer_in_ball, similar_quadratics


def test_the_parts():
    matrix, other, center, noise = similar_quadratics(3, dim=5, mu=0.01, samples=200)
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix), np.geomspace(0.01, 1, 5), rtol=1e-9)
    np.testing.assert_array_equal(other, other.T)
    assert np.abs(np.linalg.eigvalsh(other)).max() == pytest.approx(1)
    assert np.linalg.eigvalsh(other).min() < 0  # it need not be a quadratic with a minimum
    np.testing.assert_allclose(noise.mean(0), 0, atol=1e-12)
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert center.shape == (5,)
    assert not np.allclose(center, similar_quadratics(4, dim=5)[2])


@pytest.mark.parametrize("bad", [{"dim": 1}, {"mu": 0.0}, {"mu": 2.0}, {"samples": 1}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        similar_quadratics(**bad)


def test_the_minimizer_in_a_ball():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((4, 4))
    matrix, center = np.eye(4) + root @ root.T, np.array([1.0, -2.0, 0.5, 0.3])
    x = minimizer_in_ball(matrix, center, 0.7)
    assert np.linalg.norm(x) == pytest.approx(0.7)
    pull = matrix @ (center - x)  # along x, outwards
    np.testing.assert_allclose(pull, x * (pull @ x) / 0.49, atol=1e-9)
    assert pull @ x > 0
    np.testing.assert_array_equal(minimizer_in_ball(matrix, center, 3.0), center)
    with pytest.raises(ValueError, match="radius"):
        minimizer_in_ball(matrix, center, 0.0)
