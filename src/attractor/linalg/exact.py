"""Linear systems over the rationals, exactly: elimination modulo primes, remainders and fractions put together."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import isqrt, lcm
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from attractor.checks import in_range
from attractor.registry import part

Rational = int | Fraction
_WORD = 2**31  # products of two remainders below it fit into 64 bits with a sign


class Reduced(NamedTuple):
    """A reduced row echelon form modulo a prime."""

    matrix: Int[np.ndarray, "m n"]
    pivots: tuple[int, ...]  # columns


class Solution(NamedTuple):
    """What a system has for solutions."""

    status: Literal["unique", "many", "none"]
    x: list[Fraction]  # one of them, free unknowns at zero; empty if there is none
    free: tuple[int, ...]  # unknowns that may have any value
    primes: int  # that were used, dropped ones included


def rref_mod(A: Int[np.ndarray, "m n"], p: int) -> Reduced:
    r"""The reduced row echelon form of integers modulo a prime.

    Every remainder is $x - \lfloor x / p \rfloor p$: NumPy divides by a number that is the same for all entries by
    multiplication and shift, which is what a compiler makes of a constant prime, without compiling.

    Arguments:
        A: Any 64-bit integers.
        p: A prime below 2^31.

    Raises:
        ValueError: if p is no prime below 2^31.
    """
    if not 2 <= p < _WORD or not _is_prime(p):
        raise ValueError(f"p: expected a prime below 2^31, got {p}")
    rest = A.astype(np.int64) % p
    pivots: list[int] = []
    for column in range(rest.shape[1]):
        row = len(pivots)
        below = np.flatnonzero(rest[row:, column])
        if not below.size:
            continue
        if below[0]:
            rest[[row, row + below[0]]] = rest[[row + below[0], row]]
        rest[row, column:] = rest[row, column:] * pow(int(rest[row, column]), -1, p) % p
        rows = np.flatnonzero(rest[:, column])
        rows = rows[rows != row]
        new = rest[rows, column:] - rest[rows, column, None] * rest[row, column:]
        rest[rows, column:] = new - new // p * p
        pivots.append(column)
        if len(pivots) == len(rest):
            break
    return Reduced(rest, tuple(pivots))


def eliminate_mod(A: Int[Array, "n m"], p: int | Int[Array, ""]) -> Int[Array, "n m"]:
    """Gauss-Jordan elimination of a matrix with invertible leading columns modulo a prime, for compiled programs.

    Where p is a Python integer it is part of the program, and remainders become multiplications and shifts; a traced
    one is divided by. Pivots are not chosen: a zero one gives zeros, which is to be looked for.

    Arguments:
        A: 64-bit remainders, at least as many columns as rows.
        p: A prime below 2^31.

    Paper: FiniteFieldSolve: Exactly Solving Large Linear Systems in High-Energy Theory (Mangan, 2023).
    """

    def inverse(x: Int[Array, ""]) -> Int[Array, ""]:
        def square(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            power, result = carry
            return power * power % p, jnp.where((p - 2) >> i & 1, result * power % p, result)

        return jax.lax.fori_loop(0, 31, square, (x, jnp.ones_like(x)))[1]

    def step(i: Array, rest: Int[Array, "n m"]) -> Int[Array, "n m"]:
        row = rest[i] * inverse(rest[i, i]) % p
        factors = rest[:, i].at[i].set(0)
        return ((rest - factors[:, None] * row) % p).at[i].set(row)

    return jax.lax.fori_loop(0, A.shape[0], step, A)


def crt(residues: Sequence[int], primes: Sequence[int]) -> tuple[int, int]:
    """``(x, M)``: the x in [0, M) with these remainders, M the primes' product.

    Arguments:
        residues: One for each prime.
        primes: Different ones, as many.

    Raises:
        ValueError: for lists of different lengths, none, or primes that are not coprime.
    """
    if len(residues) != len(primes) or not primes:
        raise ValueError(f"residues: expected as many as primes and at least one, got {len(residues)}, {len(primes)}")
    x, product = 0, 1
    for residue, p in zip(residues, primes, strict=True):
        try:
            x += product * ((residue - x) * pow(product, -1, p) % p)
        except ValueError as error:
            raise ValueError(f"primes: expected different primes, got {p} beside its divisors") from error
        product *= p
    return x, product


def rational_reconstruct(a: int, m: int) -> Fraction | None:
    r"""The fraction $r / t \equiv a$ modulo m with $|r|, t \le \sqrt{m / 2}$, of which there is at most one.

    Arguments:
        a: A remainder.
        m: The modulus, at least 2.

    Raises:
        ValueError: for a modulus below 2.
    """
    in_range("m", m, 2)
    bound = isqrt(m // 2)
    (r, t), (later, further) = (m, 0), (a % m, 1)
    while later > bound:
        quotient = r // later
        (r, t), (later, further) = (later, further), (r - quotient * later, t - quotient * further)
    if further == 0 or abs(further) > bound:
        return None
    found = Fraction(later, further)
    return found if found.denominator == abs(further) else None


def primes_below(limit: int = _WORD) -> Iterator[int]:
    """Primes below a limit of at most 2^31, from the largest down.

    Arguments:
        limit: The first prime is below it.
    """
    yield from filter(_is_prime, range(min(limit, _WORD) - 1, 1, -1))


def solve_rational(
    A: Sequence[Sequence[Rational]],
    b: Sequence[Rational],
    *,
    primes: Iterator[int] | None = None,
    max_primes: int = 1_000,
) -> Solution:
    r"""Solve $A x = b$ exactly: elimination modulo primes, the Chinese remainder theorem, and fractions.

    A prime whose pivots are not those of most others (a divisor of a minor) is dropped: more pivots are right, and of
    as many the ones further left. After 1, 2, 3, 4, 6, 8, 12 … primes the fractions are reconstructed and tried:
    a solution is returned only if $A x = b$ holds in integers. That there is none is believed after three primes agree;
    each is wrong with a chance of about the number of bits of a minor over 2^36.

    Arguments:
        A: m rows of n integers or fractions.
        b: m of them.
        primes: Where to take primes below 2^31 from; default: the largest.
        max_primes: Give up after so many, at least 1.

    Raises:
        ValueError: for rows of different lengths, entries that are not rational, or ``max_primes`` below 1.
        ArithmeticError: if so many primes were not enough.

    Paper: FiniteFieldSolve: Exactly Solving Large Linear Systems in High-Energy Theory (Mangan, 2023).
    """
    in_range("max_primes", max_primes, 1)
    rows = _integer_rows(A, b)
    n = len(rows[0]) - 1
    big = np.array(rows, dtype=object)
    best: tuple[int, ...] = ()
    product, kept, tried, next_try = 1, 0, 0, 1
    together = np.zeros(len(rows), dtype=object)
    for p in itertools.islice(primes or primes_below(), max_primes):
        tried += 1
        matrix, pivots = rref_mod((big % p).astype(np.int64), p)
        if kept and _rank(pivots) < _rank(best):
            continue
        if not kept or pivots != best:
            best, product, kept, next_try = pivots, 1, 0, 1
            together = np.zeros(len(pivots), dtype=object)
        together = together + product * ((matrix[: len(pivots), n] - together) * pow(product, -1, p) % p)
        product, kept = product * p, kept + 1
        if n in pivots:
            if kept == 3:
                return Solution("none", [], (), tried)
            continue
        if kept >= next_try:
            next_try = max(kept + 1, kept * 4 // 3)
            if (x := _tried(rows, together, product, pivots)) is not None:
                free = tuple(j for j in range(n) if j not in pivots)
                return Solution("many" if free else "unique", x, free, tried)
    raise ArithmeticError(f"max_primes: {max_primes} were not enough; allow more")


def solve_by_fractions(A: Sequence[Sequence[Rational]], b: Sequence[Rational]) -> list[Fraction]:
    """The unique solution by Gauss-Jordan elimination with Python's fractions: what `solve_rational` is to beat.

    Arguments:
        A: n rows of n integers or fractions.
        b: n of them.

    Raises:
        ValueError: for a matrix that is not square or has no inverse.
    """
    rows = [[Fraction(v) for v in row] for row in _integer_rows(A, b)]
    if len(rows) != len(rows[0]) - 1:
        raise ValueError(f"A: expected as many rows as columns, got {len(rows)} and {len(rows[0]) - 1}")
    for i in range(len(rows)):
        if (j := next((j for j in range(i, len(rows)) if rows[j][i]), None)) is None:
            raise ValueError("A: expected a matrix with an inverse; solve_rational takes others")
        rows[i], rows[j] = rows[j], rows[i]
        first = [v / rows[i][i] for v in rows[i]]
        rows = [r if not r[i] else [v - r[i] * w for v, w in zip(r, first, strict=True)] for r in rows]
        rows[i] = first
    return [row[-1] for row in rows]


def _rank(pivots: tuple[int, ...]) -> tuple[int, ...]:
    """Larger for better pivots."""
    return (len(pivots), *(-c for c in pivots))


def _tried(rows: list[list[int]], together: np.ndarray, product: int, pivots: tuple[int, ...]) -> list[Fraction] | None:
    x = [Fraction(0)] * (len(rows[0]) - 1)
    for column, remainder in zip(reversed(pivots), reversed(together.tolist()), strict=True):
        if (value := rational_reconstruct(remainder, product)) is None:
            return None
        x[column] = value
    common = functools.reduce(lcm, (value.denominator for value in x), 1)
    scaled = [value.numerator * (common // value.denominator) for value in x]
    right = all(sum(a * s for a, s in zip(row[:-1], scaled, strict=True)) == row[-1] * common for row in rows)
    return x if right else None


def _integer_rows(A: Sequence[Sequence[Rational]], b: Sequence[Rational]) -> list[list[int]]:
    """The augmented matrix, each row times its common denominator."""
    if len(A) != len(b) or not len(A) or not len(A[0]) or len({len(row) for row in A}) != 1:
        raise ValueError("A, b: expected as many rows of one length as right-hand sides, at least one of each")
    rows = []
    for row, right in zip(A, b, strict=True):
        try:
            entries = [Fraction(int(v)) if isinstance(v, np.integer) else Fraction(v) for v in (*row, right)]
        except (TypeError, ValueError) as error:
            raise ValueError("A, b: expected integers or fractions") from error
        common = functools.reduce(lcm, (v.denominator for v in entries))
        rows.append([v.numerator * (common // v.denominator) for v in entries])
    return rows


@functools.cache
def _is_prime(n: int) -> bool:
    """By Miller and Rabin's test, to the bases that leave no doubt below 2^32."""
    if n < 2 or any(n % p == 0 for p in (2, 3, 5, 7, 11, 13)):
        return n in (2, 3, 5, 7, 11, 13)
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7):
        x = pow(base, odd, n)
        if x not in (1, n - 1) and not any((x := x * x % n) == n - 1 for _ in range(twos - 1)):
            return False
    return True


def _example() -> tuple[float, float]:
    x = solve_rational([[2, 1], [1, Fraction(1, 3)]], [1, 2]).x
    return float(abs(x[0] - 5) + abs(x[1] + 9)), 1e-300


part("solver", "solve-rational", example=lambda: _example)(solve_rational)
