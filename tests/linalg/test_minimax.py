"""Remez' polynomials against linear programs and closed forms."""

import numpy as np
import pytest
from scipy.optimize import linprog

from attractor.linalg import remez


@pytest.mark.parametrize(("degree", "relative"), [(0, False), (1, True), (3, False), (4, True)])
def test_it_is_the_least_largest_error_of_a_linear_program(degree, relative):
    f = lambda x: np.exp(x) / (1.2 + np.sin(3 * x))  # noqa: E731
    found = remez(f, degree, -0.5, 1.1, relative=relative, points=201)
    x = -0.5 + 1.6 * (1 - np.cos(np.pi * np.arange(201) / 200)) / 2
    scale = f(x) if relative else np.ones(201)
    V = np.vander(x, degree + 1, increasing=True) / scale[:, None]
    one, goal = np.ones((201, 1)), f(x) / scale
    program = linprog(np.r_[np.zeros(degree + 1), 1], np.block([[V, -one], [-V, -one]]), np.r_[goal, -goal],
                      bounds=[(None, None)] * (degree + 2))  # fmt: skip
    np.testing.assert_allclose(found.error, program.fun, rtol=1e-6)
    np.testing.assert_allclose(found.lower, found.error, rtol=1e-6)
    errors = goal - V @ found.coefficients
    np.testing.assert_allclose(np.abs(errors).max(), found.error, rtol=1e-9)


def test_a_polynomial_is_itself_and_chebyshev_polynomials_are_errors():
    found = remez(lambda x: 2 - x + 3 * x**2, 3, 0.0, 2.0)
    np.testing.assert_allclose(found.coefficients, [2, -1, 3, 0], atol=1e-12)
    monomial = remez(lambda x: x**5, 4, -1.0, 1.0)  # x⁵ - T₅ / 16
    np.testing.assert_allclose(monomial.coefficients, [0, -5 / 16, 0, 20 / 16, 0], atol=1e-5)
    np.testing.assert_allclose(monomial.error, 1 / 16, rtol=1e-5)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("degree", lambda: remez(np.exp, -1, 0.0, 1.0)),
        ("points", lambda: remez(np.exp, 5, 0.0, 1.0, points=6)),
        ("max_exchanges", lambda: remez(np.exp, 5, 0.0, 1.0, max_exchanges=0)),
        ("high", lambda: remez(np.exp, 5, 1.0, 0.0)),
        ("f", lambda: remez(lambda x: 1 / x, 2, 0.0, 1.0)),
        ("f", lambda: remez(np.sin, 2, 0.0, 1.0, relative=True)),
    ],
)
def test_errors_name_the_argument(argument, call):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=f"^{argument}"):
        call()
