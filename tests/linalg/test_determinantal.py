"""Determinantal points against the determinants that define them, fits against least squares."""

import itertools

import numpy as np
import pytest

from attractor.linalg import (
    christoffel,
    independent_points,
    legendre,
    orthonormal,
    projection_dpp,
    repeated_dpp,
    volume_points,
    weighted_least_squares,
)

RNG = np.random.default_rng(0)
MASSES = np.array([0.1, 0.4, 0.2, 0.25, 0.05])
RAW = RNG.standard_normal((5, 2))
FEATURES = orthonormal(RAW, MASSES)


def test_features_become_orthonormal_and_keep_their_span():
    np.testing.assert_allclose((FEATURES * MASSES[:, None]).T @ FEATURES, np.eye(2), atol=1e-12)
    assert np.linalg.matrix_rank(np.c_[FEATURES, RAW], tol=1e-8) == 2
    x, features, masses = legendre(5, 40)
    np.testing.assert_allclose((features * masses[:, None]).T @ features, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(features[:, 1], np.sqrt(3) * x)


def test_pairs_come_with_the_probabilities_of_determinants():
    kernel = FEATURES @ FEATURES.T * np.sqrt(np.outer(MASSES, MASSES))
    counts, n = dict.fromkeys(itertools.combinations(range(5), 2), 0), 1_500
    for _ in range(n):
        counts[tuple(sorted(projection_dpp(FEATURES, MASSES, RNG).tolist()))] += 1
    for pair, count in counts.items():
        p = np.linalg.det(kernel[np.ix_(pair, pair)])
        assert abs(count / n - p) < 4 * np.sqrt(p * (1 - p) / n) + 1e-9
    assert sum(np.linalg.det(kernel[np.ix_(pair, pair)]) for pair in counts) == pytest.approx(1)


def test_independent_and_volume_points_have_their_laws():
    expected = MASSES * (FEATURES**2).sum(1) / 2
    np.testing.assert_allclose(christoffel(FEATURES, MASSES), expected)
    drawn = np.bincount(independent_points(FEATURES, MASSES, 20_000, RNG), minlength=5) / 20_000
    np.testing.assert_allclose(drawn, expected, atol=0.02)
    three = np.array([volume_points(FEATURES, MASSES, 3, RNG) for _ in range(600)])
    assert (three[:, 0] != three[:, 1]).all()
    np.testing.assert_allclose(np.bincount(three[:, 2], minlength=5) / 600, expected, atol=0.08)
    assert volume_points(FEATURES, MASSES, 2, RNG).size == 2
    assert repeated_dpp(FEATURES, MASSES, 3, RNG).size == 6


def test_the_fit_is_weighted_least_squares():
    x, features, masses = legendre(3, 30)
    points, values = np.array([2, 9, 15, 22, 28]), RNG.standard_normal(5)
    roots = np.sqrt(3 / (features[points] ** 2).sum(1))
    expected = np.linalg.lstsq(features[points] * roots[:, None], values * roots)[0]
    fit = weighted_least_squares(features, points, values)
    np.testing.assert_allclose(fit.coefficients, expected, atol=1e-10)
    singular = np.linalg.svd(features[points] * roots[:, None] / np.sqrt(5), compute_uv=False)
    assert fit.stability == pytest.approx(singular[-1] ** 2)
    assert x.size == masses.size == 30


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("features", lambda: orthonormal(np.ones((4, 2)), np.ones(4))),
        ("masses", lambda: orthonormal(RAW, -MASSES)),
        ("n", lambda: volume_points(FEATURES, MASSES, 1, RNG)),
        ("n", lambda: independent_points(FEATURES, MASSES, 0, RNG)),
        ("repeats", lambda: repeated_dpp(FEATURES, MASSES, 0, RNG)),
        ("values", lambda: weighted_least_squares(FEATURES, np.array([0, 1]), np.array([1.0, np.nan]))),
        ("points", lambda: weighted_least_squares(FEATURES, np.array([0]), np.array([1.0]))),
        ("m", lambda: legendre(0)),
    ],
)
def test_bad_input_is_named(argument, call):
    with pytest.raises(ValueError, match=argument):
        call()
