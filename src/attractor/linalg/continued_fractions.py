r"""Polynomial continued fractions $a_0 + b_1 / (a_1 + b_2 / (a_2 + …))$: many at once, how each converges, and to what.

Coefficients are integers by increasing power, $a_n = \sum_i a_i n^i$, with a row for each fraction.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from attractor.checks import in_range
from attractor.extras import needs
from attractor.linalg.matrices import require_finite
from attractor.registry import part

_SAFE = 1e100  # numerators and denominators are scaled down beyond it


class Limits(NamedTuple):
    """Values of many continued fractions in double precision."""

    value: Float[np.ndarray, " n"]
    converged: Bool[np.ndarray, " n"]  # whether the second half of the terms changed less than the tolerance


class Dynamics(NamedTuple):
    """How one continued fraction converges, seen without its limit."""

    delta: float  # 1 + delta is the exponent with which its convergents approximate, by their reduced denominators
    digits: float  # correct decimal digits per term, at the end
    growth: float  # logarithm of the reduced denominator per term


class Match(NamedTuple):
    """A continued fraction's value as $(i + j c) / (k + l c)$."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    constant: str
    coefficients: tuple[int, int, int, int]


def limits(a: Int[np.ndarray, "n i"], b: Int[np.ndarray, "n j"], terms: int = 200, tol: float = 1e-13) -> Limits:
    r"""Evaluate many fractions by $p_n = a_n p_{n-1} + b_n p_{n-2}$, the same for q, scaled as they grow.

    Arguments:
        a: Coefficients of the partial denominators.
        b: Those of the partial numerators, as many rows.
        terms: How many, at least 4 and even.
        tol: Relative change over the second half below which a value has converged; positive.

    Raises:
        ValueError: for different numbers of rows, or numbers out of range.
    """
    in_range("tol", tol, 0.0, open_low=True)
    if terms < 4 or terms % 2:
        raise ValueError(f"terms: expected an even number of at least 4, got {terms}")
    if len(a) != len(b):
        raise ValueError(f"b: expected {len(a)} rows, as many as a has, got {len(b)}")
    p, q, before, under = a[:, 0].astype(float), np.ones(len(a)), np.ones(len(a)), np.zeros(len(a))
    half = p
    with np.errstate(all="ignore"):
        for n in range(1, terms + 1):
            top, bottom = (c @ float(n) ** np.arange(c.shape[1]) for c in (b, a))
            p, before = bottom * p + top * before, p
            q, under = bottom * q + top * under, q
            if n % 4 == 0:
                scale = np.where(np.maximum(np.abs(p), np.abs(q)) > _SAFE, np.maximum(np.abs(p), np.abs(q)), 1.0)
                p, q, before, under = p / scale, q / scale, before / scale, under / scale
            if n == terms // 2:
                half = p / q
        value = p / q
        return Limits(value, np.abs(value - half) <= tol * np.abs(value))


def convergents(a: Sequence[int], b: Sequence[int], terms: Sequence[int]) -> list[tuple[int, int]]:
    """Exact ``(p, q)`` after so many terms, without common divisors.

    Arguments:
        a: Coefficients of one fraction's partial denominators.
        b: Those of its partial numerators.
        terms: After how many to look, increasing and positive.

    Raises:
        ValueError: for numbers of terms that do not increase from 1 on.
    """
    if not terms or terms[0] < 1 or any(s >= t for s, t in itertools.pairwise(terms)):
        raise ValueError(f"terms: expected increasing numbers from 1 on, got {terms}")
    p, before, q, under, found = int(a[0]), 1, 1, 0, []
    for n in range(1, terms[-1] + 1):
        bottom, top = (sum(int(c) * n**i for i, c in enumerate(x)) for x in (a, b))
        p, before, q, under = bottom * p + top * before, p, bottom * q + top * under, q
        if n in terms:
            common = math.gcd(p, q) or 1
            found.append((p // common, q // common))
    return found


def dynamics(a: Sequence[int], b: Sequence[int], terms: int = 60, limit: Any = None, digits: int = 400) -> Dynamics:
    r"""Metrics of convergence, computed blindly: the limit is the convergent of twice as many terms.

    $\delta = -1 - \log \lvert p_n / q_n - L \rvert / \log q_n$ for reduced $q_n$; a positive one for all n would prove
    that L is irrational.

    Arguments:
        a: Coefficients of one fraction's partial denominators.
        b: Those of its partial numerators.
        terms: n, at least 8.
        limit: L where it is known.
        digits: Decimal digits of the arithmetic, at least 15: more than the convergents have.

    Raises:
        ValueError: for numbers out of range, or a fraction whose convergents are equal or infinite.

    Paper: Unsupervised Discovery of Formulas for Mathematical Constants (Shalyt et al., 2024).
    """
    in_range("terms", terms, 8)
    in_range("digits", digits, 15)
    with needs("papers"):
        import mpmath
    early, late, far = convergents(a, b, (terms // 2, terms, 2 * terms))
    with mpmath.workdps(digits):
        if 0 in (early[1], late[1], far[1]):
            raise ValueError("a, b: expected convergents with a value, got a denominator of 0")
        x = mpmath.mpf(far[0]) / far[1] if limit is None else limit
        first, second = (abs(mpmath.mpf(p) / q - x) for p, q in (early, late))
        if not first or not second or abs(late[1]) == 1:
            raise ValueError("a, b: expected convergents that differ, got a fraction that ends")
        size = mpmath.log(abs(late[1]))
        delta = -1 - mpmath.log(second) / size
        return Dynamics(float(delta), float(mpmath.log10(first / second) / (terms - terms // 2)), float(size / terms))


def recognize(
    values: Float[np.ndarray, " n"], constants: Mapping[str, float], bound: int = 4, tol: float = 1e-11
) -> list[Match]:
    r"""Which values are $(i + j c) / (k + l c)$ for a constant c and small integers, by a sorted table of those.

    A value is matched once, with the smallest sum of sizes. In double precision a match is a guess; `certified`
    tests it with as many digits as one likes.

    Arguments:
        values: Finite numbers.
        constants: By name.
        bound: Largest size of the integers, at least 1.
        tol: Relative difference that counts as none; positive.

    Raises:
        ValueError: for values that are not finite, or numbers out of range.
    """
    in_range("bound", bound, 1)
    in_range("tol", tol, 0.0, open_low=True)
    require_finite("values", values, 1)
    grid = np.array(list(itertools.product(range(-bound, bound + 1), repeat=4)))
    grid = grid[grid[:, 0] * grid[:, 3] != grid[:, 1] * grid[:, 2]]
    grid = grid[np.gcd.reduce(grid, axis=1) == 1]
    grid = grid[np.argsort(np.abs(grid).sum(1), kind="stable")]
    found: dict[int, tuple[int, Match]] = {}
    for name, c in constants.items():
        table = (grid[:, 0] + grid[:, 1] * c) / (grid[:, 2] + grid[:, 3] * c)
        order = np.argsort(table, kind="stable")
        near = np.clip(np.searchsorted(table[order], values - tol * np.abs(values)), 0, len(order) - 1)
        for index in np.flatnonzero(np.abs(table[order[near]] - values) <= tol * np.abs(values)).tolist():
            same = order[near[index] : np.searchsorted(table[order], values[index] + tol * abs(values[index]), "right")]
            best = grid[same.min()]  # the grid is in the order of sizes
            size = int(np.abs(best).sum())
            if index not in found or size < found[index][0]:
                i, j, k, l = best.tolist()
                found[index] = size, Match(index, name, (i, j, k, l))
    return [found[index][1] for index in sorted(found)]


def certified(
    a: Sequence[int],
    b: Sequence[int],
    coefficients: tuple[int, int, int, int],
    constant: Any,
    digits: int = 50,
) -> bool:
    """Whether a fraction equals $(i + j c) / (k + l c)$ in so many digits, by exact convergents.

    Arguments:
        a: Coefficients of its partial denominators.
        b: Those of its partial numerators.
        coefficients: i, j, k and l.
        constant: c, of mpmath's such as ``mpmath.pi`` and ``mpmath.catalan``, or a number with enough digits.
        digits: Decimal digits, at least 1; False as well where 4,000 terms do not give so many.

    Raises:
        ValueError: for ``digits`` below 1.
    """
    in_range("digits", digits, 1)
    with needs("papers"):
        import mpmath
    with mpmath.workdps(digits + 15):
        i, j, k, l = coefficients
        exact, goal = (i + j * constant) / (k + l * constant), mpmath.mpf(10) ** -digits
        for terms in (250, 1_000, 4_000):
            (p, q), (r, s) = convergents(a, b, (terms, terms + 1))
            if q and s and abs(mpmath.mpf(p) / q - mpmath.mpf(r) / s) < goal * abs(exact) / 100:
                return bool(abs(mpmath.mpf(r) / s - exact) < goal * abs(exact))
    return False


def fraction_grid() -> tuple[Int[np.ndarray, "n 3"], Int[np.ndarray, "n 5"]]:
    r"""The coefficients of 126,726 fractions: linear $a_n$ with quadratic $b_n$, quadratic $a_n$ with $c n^3 (n + k)$.

    Linear: from -5 to 5, slopes from 1 to 6, with all quadratics from -5 to 5. Quadratic: from 0 to 11, 0 to 11 and 1
    to 5, with c from -4 to 4 and k from 0 to 5.
    """
    linear = np.array(list(itertools.product(range(-5, 6), range(1, 7), *(range(-5, 6),) * 3)))
    quartic = np.array(list(itertools.product(range(12), range(12), range(1, 6), range(-4, 5), range(6))))
    a = np.concatenate([np.pad(linear[:, :2], ((0, 0), (0, 1))), quartic[:, :3]])
    b = np.zeros((len(a), 5), int)
    b[: len(linear), :3] = linear[:, 2:]
    b[len(linear) :, 3], b[len(linear) :, 4] = quartic[:, 3] * quartic[:, 4], quartic[:, 3]
    return a, b


def _example() -> tuple[float, float]:
    found = limits(np.array([[1, 2]]), np.array([[0, 0, 1]]))
    return abs(float(found.value[0]) * math.pi - 4), 1e-12


part("solver", "continued-fractions", example=lambda: _example)(limits)
