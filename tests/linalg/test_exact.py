"""Exact solutions against python-flint's, and against the equations themselves."""

import itertools
from fractions import Fraction

import flint
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.linalg import (
    crt,
    eliminate_mod,
    primes_below,
    rational_reconstruct,
    rref_mod,
    solve_by_fractions,
    solve_rational,
)

RNG = np.random.default_rng(0)


def test_reduced_forms_are_those_of_flint():
    for shape in ((4, 6), (6, 4), (5, 5)):
        A = RNG.integers(-50, 50, shape) * RNG.integers(0, 2, shape)
        A[2] = A[1] * 3 - A[0]
        for p in (7, 2147483647):
            found = rref_mod(A, p)
            expected, rank = flint.nmod_mat(*shape, A.ravel().tolist(), p).rref()
            assert found.matrix.tolist() == [[int(v) for v in row] for row in expected.tolist()]
            assert len(found.pivots) == rank
            assert found.matrix[range(rank), found.pivots].tolist() == [1] * rank


@pytest.mark.parametrize("static", [True, False])
def test_the_compiled_elimination_is_the_same(static):
    A, p = RNG.integers(1, 1000, (5, 7)), 2147483629
    with jax.enable_x64(True):
        run = jax.jit(eliminate_mod, static_argnums=1) if static else jax.jit(eliminate_mod)
        found = run(jnp.asarray(A), p if static else jnp.asarray(p))
    np.testing.assert_array_equal(found, rref_mod(A, p).matrix)


def test_remainders_and_fractions_come_back():
    primes = list(itertools.islice(primes_below(100), 6))
    assert primes == [97, 89, 83, 79, 73, 71]
    x = 123456789
    assert crt([x % p for p in primes], primes) == (x, 97 * 89 * 83 * 79 * 73 * 71)
    m = 10**9 + 7
    for value in (Fraction(-22, 7), Fraction(355, 113), Fraction(0), Fraction(-20000, 3)):
        assert rational_reconstruct(value.numerator * pow(value.denominator, -1, m) % m, m) == value
    assert next(primes_below()) == 2**31 - 1
    assert rational_reconstruct(5, 12) is None  # 1/5 or 5/1, and sqrt(6) is less


@pytest.mark.parametrize("seed", range(3))
def test_solutions_are_those_of_flint(seed):
    random = np.random.default_rng(seed)
    A = [[Fraction(int(a), int(d)) for a, d in zip(r, s, strict=True)]
         for r, s in zip(random.integers(-9, 9, (8, 8)), random.integers(1, 5, (8, 8)), strict=True)]  # fmt: skip
    b = [Fraction(int(v), 3) for v in random.integers(-9, 9, 8)]
    found = solve_rational(A, b)
    exact = flint.fmpq_mat(8, 8, [flint.fmpq(a.numerator, a.denominator) for r in A for a in r]).solve(
        flint.fmpq_mat(8, 1, [flint.fmpq(v.numerator, v.denominator) for v in b])
    )
    assert found.status == "unique"
    assert [(int(v.p), int(v.q)) for v in exact.entries()] == [(v.numerator, v.denominator) for v in found.x]
    assert found.primes > 1
    assert solve_by_fractions(A, b) == found.x


def test_many_solutions_or_none_are_told_and_bad_primes_dropped():
    A = [[1, 2, 3], [2, 4, 7], [3, 6, 10]]
    found = solve_rational(A, [6, 13, 19])
    assert (found.status, found.x, found.free) == ("many", [3, 0, 1], (1,))
    assert solve_rational(A, [6, 13, 20]).status == "none"
    bad, good = 2147483647, 2147483629
    # Modulo the first prime the matrix is singular, and the system has no solution.
    found = solve_rational([[bad, 1], [0, 1]], [1, 3], primes=iter([bad, good, 2147483587, 2147483579]))
    assert found.x == [Fraction(-2, bad), 3]
    # Its pivots would be others, as many: with another prime first they are dropped.
    found = solve_rational([[bad, 1]], [2], primes=iter([good, bad, 2147483587, 2147483579]))
    assert (found.x, found.free, found.primes) == ([Fraction(2, bad), 0], (1,), 4)
    found = solve_rational([[2 * bad, 1], [1, 1]], [1, 3], primes=iter([good, 2147483587, bad, 2147483579]))
    assert found.x == [Fraction(-2, 2 * bad - 1), Fraction(6 * bad - 1, 2 * bad - 1)]


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("p", lambda: rref_mod(np.eye(2, dtype=int), 6)),
        ("residues", lambda: crt([1], [2, 3])),
        ("primes", lambda: crt([1, 1], [3, 3])),
        ("m", lambda: rational_reconstruct(1, 1)),
        ("A, b", lambda: solve_rational([[1, 2], [3]], [1, 2])),
        ("A, b", lambda: solve_rational([], [])),
        ("A", lambda: solve_by_fractions([[1, 2], [2, 4]], [1, 2])),
        ("A", lambda: solve_by_fractions([[1, 2]], [1])),
        ("max_primes", lambda: solve_rational([[1]], [1], max_primes=0)),
    ],
)
def test_bad_input_is_named(argument, call):
    with pytest.raises(ValueError, match=argument):
        call()
    with pytest.raises(ArithmeticError, match="allow more"):
        solve_rational([[3**60]], [5**60], max_primes=2)
