"""Continued fractions against mpmath's constants, and evaluated from the end with fractions."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from attractor.linalg import certified, convergents, dynamics, limits, recognize

E = ([1, 1], [0, 1])  # 1 + 1 / (2 + 2 / (3 + …)) = 1 / (e - 2)
PI = ([1, 2], [0, 0, 1])  # 1 + 1 / (3 + 4 / (5 + …)) = 4 / pi
LN2 = ([3, 6], [0, 0, -1])  # 2 / ln 2


def backward(a, b, terms):
    """From the last term to the first."""
    at = lambda c, n: sum(Fraction(x) * n**i for i, x in enumerate(c))  # noqa: E731
    x = at(a, terms)
    for n in range(terms, 0, -1):
        x = at(a, n - 1) + at(b, n) / x
    return x


def test_convergents_are_those_from_the_end():
    for a, b in (E, PI, LN2, ([2, 0, 1], [3, -1, 2])):
        for terms, (p, q) in zip((1, 4, 9), convergents(a, b, (1, 4, 9)), strict=True):
            assert Fraction(p, q) == backward(a, b, terms)
            assert math.gcd(p, q) == 1


def test_limits_of_many_are_the_constants():
    found = limits(np.array([E[0], PI[0], LN2[0], [1, 0]]), np.array([[0, 1, 0], PI[1], LN2[1], [-5, 0, 0]]), terms=60)
    np.testing.assert_allclose(found.value[:3], [1 / (math.e - 2), 4 / math.pi, 2 / math.log(2)], rtol=1e-13)
    assert found.converged.tolist() == [True, True, True, False]
    slow = limits(np.array([[1, 0]]), np.array([[0, 1]]), terms=8)
    assert float(slow.value[0]) == pytest.approx(float(backward([1, 0], [0, 1], 8)))
    assert not slow.converged[0]


def test_dynamics_follow_their_formulas_and_the_blind_delta_is_near():
    for (a, b), over, c in ((PI, 4, mpmath.pi), (LN2, 2, mpmath.ln2)):
        with mpmath.workdps(400):
            exact = over / c
        blind, known = dynamics(a, b, 60), dynamics(a, b, 60, exact)
        assert blind.delta == pytest.approx(known.delta, abs=1e-10)
        early, late = convergents(a, b, (30, 60))
        with mpmath.workdps(100):
            first, second = (abs(mpmath.mpf(p) / q - exact) for p, q in (early, late))
            assert known.delta == pytest.approx(float(-1 - mpmath.log(second) / mpmath.log(abs(late[1]))))
            assert known.digits == pytest.approx(float(mpmath.log10(first / second) / 30))
            assert known.growth == pytest.approx(float(mpmath.log(abs(late[1])) / 60))
    # |x|² of x² = 2 x + 1, by which errors shrink: 2 log10 (1 + sqrt 2)
    assert dynamics(*PI, 200).digits == pytest.approx(2 * math.log10(1 + math.sqrt(2)), rel=0.01)


def test_values_are_recognized_and_certified():
    values = np.array([1 / (math.e - 2), 1.2345678, (3 - 2 * math.pi) / (1 + math.pi), 0.5, 4 / math.pi])
    found = recognize(values, {"pi": math.pi, "e": math.e})
    assert [(m.index, m.constant, tuple(abs(c) for c in m.coefficients)) for m in found] == [
        (0, "e", (1, 0, 2, 1)), (2, "pi", (3, 2, 1, 1)), (4, "pi", (4, 0, 0, 1)),
    ]  # fmt: skip
    assert certified(*PI, (4, 0, 0, 1), mpmath.pi)
    assert not certified(*PI, (4, 0, 0, 1), mpmath.e)
    assert not certified(*PI, (4001, 0, 0, 1000), mpmath.pi)
    assert not certified([0, 0], [1, 0, 1], (4, 0, 0, 1), mpmath.pi, digits=5)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("b", lambda: limits(np.ones((2, 1), int), np.ones((1, 1), int))),
        ("terms", lambda: limits(np.ones((1, 1), int), np.ones((1, 1), int), terms=5)),
        ("terms", lambda: convergents([1], [1], (3, 2))),
        ("terms", lambda: dynamics([1], [1], 2)),
        ("a, b", lambda: dynamics([1], [0], 20)),
        ("values", lambda: recognize(np.array([np.nan]), {"pi": math.pi})),
        ("digits", lambda: certified(*PI, (4, 0, 0, 1), mpmath.pi, 0)),
    ],
)
def test_bad_input_is_named(argument, call):
    with pytest.raises((ValueError, TypeError), match=argument):
        call()
