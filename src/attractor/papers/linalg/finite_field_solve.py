"""Exact solutions of linear systems: eliminate modulo primes that the compiler knows, and put fractions together.

```python
from fractions import Fraction
from attractor.linalg import solve_rational

hilbert = [[Fraction(1, i + j + 1) for j in range(12)] for i in range(12)]
print(solve_rational(hilbert, [1] * 12).x)  # integers, all of them exact
```
"""

import itertools
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from attractor.extras import needs
from attractor.linalg import exact
from attractor.linalg.exact import solve_by_fractions, solve_rational
from attractor.papers.words import Evidence, claim, paired_ratio, seconds, seed, seeds

with needs("papers"):
    import flint

KINDS = {"dense": 1.0, "sparse": 0.25, "many": 1.0, "none": 1.0}  # shares of entries that are not zero
prime = next(exact.primes_below())
small = lambda A, b: solve_rational(A, b, primes=exact.primes_below(1_000))  # noqa: E731


def _system(seed, n, kind="dense"):
    """Integers from -9 to 9, as lists; of rank n - 2 where there are many solutions or none."""
    random = np.random.default_rng(seed)
    A = random.integers(-9, 10, (n, n)) * (random.random((n, n)) < KINDS[kind]) + 10 * np.eye(n, dtype=int)
    if kind in ("many", "none"):
        A[-2:] = random.integers(-2, 3, (2, n - 2)) @ A[:-2]
    b = A @ random.integers(-9, 10, n) if kind == "many" else random.integers(-9, 10, n)
    return A.tolist(), b.tolist()


def _holds(A, b, x):
    return all(sum(a * v for a, v in zip(row, x, strict=True)) == right for row, right in zip(A, b, strict=True))


def unchecked(A, b):
    chosen = list(itertools.islice(exact.primes_below(), 2))
    last = np.stack([exact.rref_mod(np.c_[A, b], p).matrix[:, -1] for p in chosen], 1).tolist()
    x = [exact.rational_reconstruct(*exact.crt(residues, chosen)) or 0 for residues in last]
    return solve_rational(A, b)._replace(status="unique", x=x)


@claim("24 integer systems of 10 to 40 unknowns, dense, sparse, with many solutions or none: all solved exactly",
       source="paper", broken={"two primes, not tried": {"solve": unchecked}})  # fmt: skip
def solutions_are_exact(solve=solve_rational):
    right = []
    for s, (n, kind) in zip(seeds(24), itertools.cycle(itertools.product((10, 20, 40), KINDS)), strict=False):
        A, b = _system(s, n, kind)
        status, x, free, _ = solve(A, b)
        told = status == (kind if kind in ("many", "none") else "unique") and len(free) == 2 * (kind == "many")
        right.append(told and (status == "none" or _holds(A, b, x)))
    return Evidence(float(np.mean(right)), at_least=1.0)


@claim("32 systems in which the first prime divides a pivot: the prime is dropped, and the solutions are exact",
       source="scaled", broken={"two primes, not tried": {"solve": unchecked}})  # fmt: skip
def primes_that_divide_a_pivot_are_dropped(solve=solve_rational):
    right = []
    for s in seeds(32, stream=1):
        a, b, c, *sides = (int(x) for x in np.random.default_rng(s).integers(1, 100, 5))
        A = [[prime * a, b], [prime * a + c, prime + b]]
        right.append(_holds(A, sides, solve(A, sides).x))
    return Evidence(float(np.mean(right)), at_least=1.0)


@claim("elimination of 200 x 201 remainders: a prime known to the compiler makes it at least 1.5 times faster",
       source="ours", broken={"known to neither": {"known": False}},
       reason="1.2 to 1.4 times, since memory and the 62-bit products cost the same either way")  # fmt: skip
def a_compiled_prime_is_faster(known=True):
    with jax.enable_x64(True):
        A = jnp.asarray(np.random.default_rng(seed()).integers(1, prime, (200, 201)))
        traced = partial(jax.jit(exact.eliminate_mod), A, jnp.asarray(prime))
        ours = partial(jax.jit(exact.eliminate_mod, static_argnums=1), A, prime) if known else traced
        return Evidence(paired_ratio(*seconds(traced, ours, clock=time.process_time)), at_least=1.5)


def _times_faster(rival, solve, n):
    A, b = _system(seed(), n)
    return paired_ratio(*seconds(partial(rival, A, b), partial(solve, A, b), rounds=5, clock=time.process_time))


@claim("dense systems of 20 and 40 unknowns: at least 20 times faster than elimination with Python's fractions",
       source="ours", broken={"primes of 10 bits": {"solve": small}},
       reason="6 times with 20 unknowns, 11 with 40; the ratio grows with the fractions' length")  # fmt: skip
def faster_than_fractions(solve=solve_rational):
    return Evidence.of_cases({f"n = {n}": _times_faster(solve_by_fractions, solve, n) for n in (20, 40)}, at_least=20.0)


@claim("a dense system of 40 unknowns: at least 10 times faster than python-flint, an established exact solver",
       source="scaled", broken={"by fractions": {"solve": solve_by_fractions}},
       reason="30 times slower: python-flint is compiled C, and this is NumPy and Python's integers")  # fmt: skip
def faster_than_an_established_solver(solve=solve_rational):
    flints = lambda A, b: flint.fmpz_mat(A).solve(flint.fmpz_mat(len(A), 1, b))  # noqa: E731
    return Evidence(_times_faster(flints, solve, 40), at_least=10.0)
