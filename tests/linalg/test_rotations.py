"""Rotations against 50 digits, at ordinary and extreme sizes, and each formula against itself without scaling."""

import mpmath
import numpy as np
import pytest

from attractor.linalg import givens

RNG = np.random.default_rng(0)
ONE, OTHER = (RNG.standard_normal((40, 2)) @ np.array([1, 1j]) for _ in range(2))


def exact(f, g):
    """By mpmath, as complex numbers of twice the precision."""
    with mpmath.workdps(50):
        f, g = mpmath.mpc(complex(f)), mpmath.mpc(complex(g))
        h = mpmath.sqrt(abs(f) ** 2 + abs(g) ** 2)
        sign = f / abs(f)
        return abs(f) / h, sign * mpmath.conj(g) / h, sign * h


@pytest.mark.parametrize("formula", ["short", "divide", "reciprocal"])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128, np.float32, np.float64])
@pytest.mark.parametrize(("up", "down"), [(1.0, 1.0), (1e30, 1e30), (1e-30, 1e-30), (1e-25, 1e25), (1e25, 1e-12)])
def test_entries_are_right_to_rounding(formula, dtype, up, down):
    part = (lambda z: z) if np.issubdtype(dtype, np.complexfloating) else np.real
    f, g = (part(ONE) * up).astype(dtype), (part(OTHER) * down).astype(dtype)
    found = givens(f, g, formula)
    assert found.r.dtype == found.s.dtype == dtype
    eps = np.finfo(dtype).eps
    for i in range(0, 40, 8):
        for x, y in zip((found.c[i], found.s[i], found.r[i]), exact(f[i], g[i]), strict=True):
            if abs(y) > np.finfo(dtype).tiny:
                assert abs(mpmath.mpc(complex(x)) - y) <= 5 * eps * abs(y)


def test_formulas_are_those_of_the_table():
    f, g = ONE.astype(np.complex64), OTHER.astype(np.complex64)
    f2, g2 = (z.real * z.real + z.imag * z.imag for z in (f, g))
    h2 = f2 + g2
    c = np.sqrt(f2 / h2)
    assert all(
        (x == y).all() for x, y in zip(givens(f, g), (c, np.conj(g) * (f / np.sqrt(f2 * h2)), f / c), strict=True)
    )
    d = np.sqrt(f2 * h2)
    other = (f2 / d, np.conj(g) * (f / d), f * (h2 / d))
    assert all((x == y).all() for x, y in zip(givens(f, g, "divide"), other, strict=True))
    p = 1 / d
    other = (f2 * p, np.conj(g) * (f * p), f * (h2 * p))
    assert all((x == y).all() for x, y in zip(givens(f, g, "reciprocal"), other, strict=True))
    f, g = f.real, g.real
    d = np.sqrt(f * f + g * g)
    r = np.copysign(d, f)
    assert all((x == y).all() for x, y in zip(givens(f, g), (abs(f) / d, g / r, r), strict=True))
    other = (abs(f) * (1 / d), g * np.copysign(1 / d, f), r)
    assert all((x == y).all() for x, y in zip(givens(f, g, "reciprocal"), other, strict=True))


def test_zeros_and_bad_input():
    c, s, r = givens(np.array([0.0, -2.0, 0.0]), np.array([-3.0, 0.0, 0.0]))
    assert (c.tolist(), s.tolist(), r.tolist()) == ([0.0, 1.0, 1.0], [-1.0, 0.0, 0.0], [3.0, -2.0, 0.0])
    with pytest.raises(ValueError, match="f: expected finite"):
        givens(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(ValueError, match="f, g"):
        givens(np.array([1]), np.array([2]))
    with pytest.raises((ValueError, TypeError), match="formula"):
        givens(1.0, 1.0, "long")  # pyright: ignore[reportArgumentType]
