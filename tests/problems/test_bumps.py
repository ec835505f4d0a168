"""Histograms of translated bumps: where they are, how wide, and how far their cells are apart."""

import numpy as np
import pytest

from attractor.problems import translated_bumps


def test_a_bump_is_where_it_was_drawn_and_as_wide_as_asked():
    tensor, cost = (np.asarray(a, float) for a in translated_bumps(4, count=5, side=40, width=0.05))
    np.testing.assert_allclose(tensor.sum((1, 2)), 1, rtol=1e-5)
    assert tensor.min() > 0
    cells, centers = np.linspace(0, 1, 40), np.random.default_rng(4).uniform(0.2, 0.8, (5, 1, 2))[:, 0]
    for axis, other in ((0, 2), (1, 1)):
        marginal = tensor.sum(other)
        mean = marginal @ cells
        np.testing.assert_allclose(mean, centers[:, axis], atol=2e-3)
        np.testing.assert_allclose(np.sqrt(marginal @ cells**2 - mean**2), 0.05, rtol=0.1)
    rows, columns = np.divmod(np.arange(1600), 40)
    np.testing.assert_allclose(cost[41], ((rows - 1) ** 2 + (columns - 1) ** 2) / 39**2, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="width"):
        translated_bumps(0, width=0.0)
