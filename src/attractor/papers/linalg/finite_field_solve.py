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
from fractions import Fraction
from functools import partial

import flint
import jax
import jax.numpy as jnp
import numpy as np

from attractor.linalg.exact import crt, eliminate_mod, primes_below, rational_reconstruct, rref_mod, solve_rational
from attractor.papers.words import Evidence, claim, paired_ratio, proportion, seconds, seeds

KINDS = {"dense": 1.0, "sparse": 0.25, "many solutions": 1.0, "none": 1.0}
prime = next(primes_below())


def _system(seed, n, kind="dense"):
    """Integers from -9 to 9, as lists; of rank n - 2 where there are many solutions or none."""
    random = np.random.default_rng(seed)
    A = random.integers(-9, 10, (n, n)) * (random.random((n, n)) < KINDS[kind]) + 10 * np.eye(n, dtype=int)
    if kind in ("many solutions", "none"):
        A[-2:] = random.integers(-2, 3, (2, n - 2)) @ A[:-2]
    b = random.integers(-9, 10, n) if kind in ("dense", "sparse", "none") else A @ random.integers(-9, 10, n)
    return A.tolist(), b.tolist()


def by_fractions(A, b):
    """Gaussian elimination with Python's fractions."""
    rows = [[Fraction(v) for v in (*row, right)] for row, right in zip(A, b, strict=True)]
    for i in range(len(rows)):
        j = next(j for j in range(i, len(rows)) if rows[j][i])
        rows[i], rows[j] = rows[j], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        rows = [r if k == i or not r[i] else [v - r[i] * w for v, w in zip(r, rows[i], strict=True)]
                for k, r in enumerate(rows)]  # fmt: skip
    return [row[-1] for row in rows]


def by_flint(A, b):
    n = len(A)
    return flint.fmpz_mat(A).solve(flint.fmpz_mat(n, 1, b))


def unchecked(A, b, count=2):
    """Reconstructs from two primes whatever their pivots are, and tries nothing."""
    chosen = list(itertools.islice(primes_below(), count))
    reduced = [rref_mod(np.c_[A, b], p) for p in chosen]
    together = [crt(entries, chosen) for entries in np.stack([r.matrix[:, -1] for r in reduced], 1).tolist()]
    return solve_rational(A, b)._replace(status="unique", x=[rational_reconstruct(*pair) or 0 for pair in together])


@claim("24 integer systems of 10 to 40 unknowns, dense, sparse, with many solutions or none: all solved exactly",
       source="paper", broken={"two primes, not tried": {"solve": unchecked}})  # fmt: skip
def solutions_are_exact(solve=solve_rational):
    right = []
    for s, (n, kind) in zip(seeds(24), itertools.cycle(itertools.product((10, 20, 40), KINDS)), strict=False):
        A, b = _system(s, n, kind)
        found = solve(A, b)
        if found.status == "none":
            right.append(kind == "none")
        else:
            free = {"dense": 0, "sparse": 0, "many solutions": 2}.get(kind, -1)
            exact = all(sum(a * x for a, x in zip(row, found.x, strict=True)) == v for row, v in zip(A, b, strict=True))
            right.append(exact and len(found.free) == free)
    return Evidence(np.mean(right), at_least=1.0)
