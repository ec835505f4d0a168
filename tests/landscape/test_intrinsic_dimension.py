"""Where scores in random subspaces reach a share of the full one."""

import numpy as np
import pytest

from attractor.landscape import intrinsic_dimension

DIMENSIONS = (2, 8, 32)


def test_it_interpolates_over_logarithms():
    scores = np.array([[0.1, 0.4, 0.7], [0.6, 0.7, 0.8], [0.1, 0.2, 0.3], [0.1, 0.9, 0.2]])
    found = intrinsic_dimension(DIMENSIONS, scores, np.array([0.5, 0.6, 0.5, 0.5]), 0.8)
    np.testing.assert_allclose(found[0], 8, rtol=1e-12)  # just reached: 0.8 of 0.5 is 0.4
    np.testing.assert_allclose(found[1:3], [2, np.inf])
    np.testing.assert_allclose(found[3], 2 * 4 ** (0.3 / 0.8), rtol=1e-12)
    np.testing.assert_allclose(intrinsic_dimension(DIMENSIONS, [0.0, 0.4, 0.7], 0.6), 8 * 4 ** (0.14 / 0.3), rtol=1e-12)


@pytest.mark.parametrize(
    ("bad", "arguments"),
    [
        ("dimensions", ((2, 2, 3), [0.1, 0.2, 0.3], 1.0)),
        ("dimensions", ((0, 2, 3), [0.1, 0.2, 0.3], 1.0)),
        ("share", (DIMENSIONS, [0.1, 0.2, 0.3], 1.0, 0.0)),
        ("share", (DIMENSIONS, [0.1, 0.2, 0.3], 1.0, 1.1)),
    ],
)
def test_bad_input_is_refused(bad, arguments):
    with pytest.raises(ValueError, match=f"^{bad}:"):
        intrinsic_dimension(*arguments)
