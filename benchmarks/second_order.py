"""What papers claim as speed, measured: second-order steps beside the costlier step that each replaces.

Every row is one compiled scan of whole steps, gradients and curvature included; the two methods take turns and the
ratio is of their fastest rounds.

    python benchmarks/second_order.py
    python benchmarks/second_order.py --json
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

from attractor import problems
from attractor.method import Method
from attractor.problem import Minimization
from attractor.progress import task
from attractor.second_order import GaussNewton, Kfac, LazyNewton, Mkor
from attractor.trees import as_vector

ROUNDS = 3


class DenseGaussNewton(GaussNewton):
    """The same step from the d x d matrix: formed, damped and solved."""

    def step(self, problem: Any, x: Any, state: Any, key: Any) -> Any:
        batch = problem.sample(key)
        flat, unravel = as_vector(x)
        outputs = lambda z: problem.inner(unravel(z), batch).ravel()  # noqa: E731
        outer = lambda y: problem.outer(y.reshape(-1, 10), batch)  # noqa: E731
        y, jacobian = outputs(flat), jax.jacrev(outputs)(flat)
        matrix = jacobian.T @ jax.hessian(outer)(y) @ jacobian + self.damping * jnp.eye(flat.size)
        direction = jnp.linalg.solve(matrix, jacobian.T @ jax.grad(outer)(y))
        return unravel(flat - self.learning_rate * direction), state


def smooth_regression(dim: int = 500) -> Minimization:
    """A convex function of many variables with a dense Hessian: logistic regression on random data."""
    features = jr.normal(jr.key(0), (2 * dim, dim)) / dim**0.5
    labels = jnp.sign(features[:, 0] + 0.1)

    def loss(x: Any, _: Any) -> Any:
        return jnp.mean(jax.nn.softplus(-labels * (features @ x))) + 1e-3 * x @ x

    return Minimization(loss, jnp.zeros(dim))


# The row's name, the problem, the paper's method, the method it is to beat, steps per round.
PAIRS: dict[str, tuple[Callable[[], Minimization], Method, Method, int]] = {
    "exact Gauss-Newton over the batch's 320 outputs / dense Gauss-Newton (d = 2,410)": (
        lambda: problems.digits_mlp(width=32, batch_size=32), GaussNewton(0.1),
        DenseGaussNewton(0.1, 1e-2, 0.0, False), 3,
    ),
    "lazy Newton, one Hessian in 25 steps / Newton (d = 500)": (
        smooth_regression, LazyNewton(1.0, every=25), LazyNewton(1.0), 25,
    ),
    "MKOR / K-FAC, factors renewed every step (layers 512 wide)": (
        lambda: problems.digits_mlp(width=512, depth=2), Mkor(1e-3), Kfac(1e-3), 10,
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = {}
    with task("timing", len(PAIRS), "pair") as advance:
        for name, pair in PAIRS.items():
            rows[name] = measure(*pair)
            advance(1)
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'ms a step':>10} {'theirs':>9} {'speed-up':>9}")
    for name, row in rows.items():
        print(f"{row['ms']:10.2f} {row['reference_ms']:9.2f} {row['speed_up']:8.1f}x  {name}")


def measure(build: Callable[[], Minimization], ours: Method, theirs: Method, steps: int) -> dict[str, float]:
    """Milliseconds a step of both, and their ratio."""
    problem = build()
    first, second = stepper(problem, ours, steps), stepper(problem, theirs, steps)
    times = [(first(), second()) for _ in range(ROUNDS)]
    mine, other = (min(column) * 1e3 for column in zip(*times, strict=True))
    return {"ms": round(mine, 3), "reference_ms": round(other, 3), "speed_up": round(other / mine, 2)}


def stepper(problem: Minimization, method: Method, steps: int) -> Callable[[], float]:
    """A function that runs the compiled steps and returns the seconds that one took."""
    x = problem.init(jr.key(0))
    state = method.init(problem, x, jr.key(1))

    @jax.jit
    def several(x: Any, state: Any) -> Any:
        return jax.lax.scan(lambda c, k: (method.step(problem, *c, k), None), (x, state), jr.split(jr.key(2), steps))[0]

    def go() -> float:
        begun = time.perf_counter()
        jax.block_until_ready(several(x, state))
        return (time.perf_counter() - begun) / steps

    go()  # compiles
    return go


if __name__ == "__main__":
    main()
