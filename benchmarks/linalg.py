"""What papers of linear algebra claim as speed, measured: processor seconds as ratios, both sides in one run.

python benchmarks/linalg.py
python benchmarks/linalg.py --json
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import flint
import jax
import jax.numpy as jnp
import numpy as np

from attractor.linalg import (
    greedy_order,
    parallel_evaluation,
    solve_by_fractions,
    solve_rational,
    solve_sequence,
    sqrtm,
    sqrtm_eigh,
    sqrtm_newton_schulz,
)
from attractor.papers.words import seconds
from attractor.problems import feedforward
from attractor.problems.elliptic import darcy_matrix, gaussian_field
from attractor.progress import task

Pair = tuple[Callable[[], Any], Callable[[], Any]]  # the rival and ours


def recycling(side: int = 24, count: int = 24, tol: float = 1e-10) -> Pair:
    fields = np.stack([gaussian_field(s, side, 0.3) for s in range(count)])
    systems = [(darcy_matrix(field), np.ones(side**2)) for field in fields]
    return (
        lambda: solve_sequence(systems, k=0, tol=tol),
        lambda: solve_sequence(systems, greedy_order(fields), tol=tol),
    )


def sweeps(name: str) -> Pair:
    if name == "pixels":
        weights = feedforward.masked_autoencoder(jax.random.key(0))[0] | {
            "noise": jax.random.logistic(jax.random.key(1), (64,))
        }
        step, shape, tol = feedforward.pixel_step, (64,), 0.0
    elif name == "adjoints":
        weights, step, shape, tol = feedforward.rnn_adjoints(0), feedforward.adjoint_step, (64, 32), 1e-4
    else:
        weights, step, shape, tol = feedforward.dense_net(0), feedforward.dense_step, (32, 8), 1e-4
    run = lambda w, block, tol: parallel_evaluation(partial(step, w), jnp.zeros(shape), block=block, tol=tol).states  # noqa: E731
    compiled = jax.jit(run, static_argnums=1)
    return partial(compiled, weights, shape[0], 0.0), partial(compiled, weights, 1, tol)


def roots(rival: Callable[..., Any], n: int, count: int) -> Pair:
    factors = np.random.default_rng(0).standard_normal((count, n, 2 * n))
    A = jnp.asarray(factors @ factors.swapaxes(1, 2) / n, jnp.float32)
    both = [jax.jit(jax.grad(lambda a, f=f: jnp.sum(f(a) ** 3))) for f in (rival, sqrtm)]
    return partial(both[0], A), partial(both[1], A)


def exact(rival: Callable[..., Any], n: int = 40) -> Pair:
    random = np.random.default_rng(0)
    A, b = random.integers(-9, 10, (n, n)).tolist(), random.integers(-9, 10, n).tolist()
    return lambda: rival(A, b), lambda: solve_rational(A, b)


def by_flint(A: list[list[int]], b: list[int]) -> Any:
    return flint.fmpz_mat(A).solve(flint.fmpz_mat(len(b), 1, b))


# The row's name, the paper's figure, the two calls.
ROWS: dict[str, tuple[str, Callable[[], Pair]]] = {
    "24 Darcy systems to 1e-10: GMRES(30) / sorted and recycled": ("up to 13.9", recycling),
    "64 pixels of a masked autoencoder: one by one / sweeps": ("2.1 to 26, on a GPU", lambda: sweeps("pixels")),
    "64 adjoints of a recurrent network: in sequence / sweeps": ("2.1 to 26, on a GPU", lambda: sweeps("adjoints")),
    "32 dense layers: in sequence / sweeps": ("2.1 to 26, on a GPU", lambda: sweeps("layers")),
    "root and gradient of 256 16 x 16: eigenvalues / Pade": ("faster, on a GPU", lambda: roots(sqrtm_eigh, 16, 256)),
    "root and gradient of 32 64 x 64: eigenvalues / Pade": ("faster, on a GPU", lambda: roots(sqrtm_eigh, 64, 32)),
    "root and gradient of 32 64 x 64: 8 Newton-Schulz steps / Pade": (
        "faster, on a GPU", lambda: roots(partial(sqrtm_newton_schulz, iterations=8), 64, 32),
    ),
    "40 rational unknowns: Python's fractions / primes": ("-", lambda: exact(solve_by_fractions)),
    "40 rational unknowns: python-flint / primes": ("about 100, over Mathematica", lambda: exact(by_flint)),
}  # fmt: skip


def measure(pair: Pair, rounds: int = 3) -> float:
    """How many times as long the rival takes: medians of processor seconds, in turns."""
    rival, ours = seconds(*pair, rounds=rounds, clock=time.process_time)
    return float(np.median(rival) / np.median(ours))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = {}
    with task("timing", len(ROWS), "pair") as advance:
        for name, (claimed, make) in ROWS.items():
            rows[name] = {"paper": claimed, "ratio": measure(make())}
            advance(1)
    if options.json:
        print(json.dumps(rows))
        return
    for name, row in rows.items():
        print(f"{row['ratio']:8.2f}  {name}  (paper: {row['paper']})")


if __name__ == "__main__":
    main()
