"""The parts of a quadratic and its proxy: spectrum, norm, and noise of mean zero."""

import numpy as np
import pytest

from attractor.problems import similar_quadratics


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
