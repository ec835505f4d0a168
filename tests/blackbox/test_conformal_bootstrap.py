"""Crossing equations against mpmath and against theories that are solved."""

import mpmath
import numpy as np
import pytest

from attractor.blackbox import bps_square, crossed_block, free_square, interior_point, truncated_crossing

X = np.array([0.13, 0.5, 0.77])


@pytest.mark.parametrize("dimension", [1.136, 2.5, 17.3, 59.0])
def test_blocks_are_mpmaths(dimension):
    def block(x):
        series = mpmath.hyp2f1(dimension + 1, dimension + 2, 2 * dimension + 4, x)
        return mpmath.mpf(x) ** (dimension + 1) / (1 - dimension) * series

    expected = [float((1 - x) ** 2 * block(x) + x**2 * block(1 - x)) for x in X]
    np.testing.assert_allclose(crossed_block(dimension, X), expected, rtol=1e-10)


def test_protected_and_free_squares():
    # From the modified Bessel functions in 30 digits, and the first free ones as fractions.
    p = mpmath.pi * mpmath.mpf("0.4")
    i0, i1, i2 = (mpmath.besseli(k, 4 * p) for k in range(3))
    exact = 3 * i1 * ((2 * p**2 + 1) * i1 - 2 * p * i0) / (2 * p**2 * i2**2) - 1
    np.testing.assert_allclose(bps_square(0.4), float(exact), rtol=1e-12)
    np.testing.assert_allclose([bps_square(1e-3), bps_square(40.0)], [1, 2], atol=0.01)
    np.testing.assert_allclose([free_square(j) for j in (2, 3, 4)], [1 / 5, 1 / 7, 1 / 14], rtol=1e-13)


def test_the_function_at_coupling_zero_is_the_known_one():
    crossing = truncated_crossing(1.0, tail=2)  # all but the operator of dimension 1, whose part is x² / 2 of a series
    missing = 0.5 * 2.0**-40 * crossed_block(1 + 2.0**-40, crossing.x)
    np.testing.assert_allclose(crossing.known + missing, 0, atol=1e-12)


def test_squares_and_bounds_of_a_solved_theory():
    plain, with_tail = truncated_crossing(2.0), truncated_crossing(2.0, 9)
    low, high = plain.bounds(np.array([2.0]), gap=4.0)
    assert low <= 0.4 <= high + 1e-6
    assert high - low < 0.05
    found = with_tail.squares(np.array([2.0, 4.0, 6.0, 8.0]))
    np.testing.assert_allclose(found[:2], [0.4, 1 / 7], atol=2e-3)
    np.testing.assert_allclose(with_tail.residual(np.array([2.0, 4.0, 6.0, 8.0]), found), 0, atol=1e-3)
    with pytest.raises(RuntimeError, match="no such theory"):
        plain.bounds(np.array([2.0]), gap=11.0)


def test_the_interior_point_method_stops_at_a_bound():
    x, calls = interior_point(lambda p: (p[0] - 2) ** 2 + (p[1] - 0.3) ** 2, [(0, 1), (0, 1)], np.array([0.5, 0.5]))
    np.testing.assert_allclose(x, [1, 0.3], atol=1e-4)
    assert calls < 500


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: crossed_block(1.0, X), "dimension"),
        (lambda: crossed_block(2.0, np.array([0.0])), "x"),
        (lambda: bps_square(0.0), "coupling"),
        (lambda: free_square(1), "dimension"),
        (lambda: truncated_crossing(1.0, 1), "tail"),
        (lambda: truncated_crossing(4.0), "bps"),
        (lambda: truncated_crossing(2.0).bounds(np.array([2.0]), 13.0), "gap"),
        (lambda: interior_point(lambda p: 0.0, [(0, 1)], np.array([0.5]), 0), "steps"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_by_name(call, name):
    with pytest.raises(ValueError, match=f"^{name}:"):
        call()
