"""Clusters: where they are, and which outputs are cut off."""

import numpy as np
import pytest

from attractor.problems import gaussian_clusters


def test_the_clusters():
    points, labels, cut = gaussian_clusters(4, 3, outputs=5, dim=6, examples=300)
    assert (points.shape, labels.shape) == ((300, 6), (300, 5))
    np.testing.assert_array_equal(labels.sum(0), [100, 100, 100, 0, 0])
    np.testing.assert_array_equal(cut, [0, 0, 0, -1e9, -1e9])
    means = np.stack([points[labels[:, c] == 1].mean(0) for c in range(3)])
    np.testing.assert_allclose(means @ means.T, 9 * np.eye(3), atol=0.3)
    assert (points - labels[:, :3] @ means).std() == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("bad", [{"classes": 9}, {"dim": 0}, {"examples": 0}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        gaussian_clusters(0, **({"classes": 3} | bad))
