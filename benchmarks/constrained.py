"""CONFIG beside BoTorch's constrained expected improvement: the same problems, candidates, processes and calls.

    python benchmarks/constrained.py                                          # prints a table
    python benchmarks/constrained.py --write docs/data/constrained.md

Draws from the prior are those of the claims of ``config-constrained-bo``: every rule is given the process that made
them. The other two problems are known ones, with a window that is moved a little for each instance; values are scaled
to the size of the prior, whose length is 0.2 of the window. *Fitted* is BoTorch as it comes: Gaussian processes whose
lengths are fitted at each call, after five random candidates. BoTorch and what it needs is in no extra; ``make env``
installs it where it finds the CPU build of PyTorch.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import torch
from botorch import fit_gpytorch_mll  # pyright: ignore[reportMissingImports]
from botorch.acquisition.analytic import LogConstrainedExpectedImprovement  # pyright: ignore[reportMissingImports]
from botorch.models import ModelListGP, SingleTaskGP  # pyright: ignore[reportMissingImports]
from botorch.models.transforms import Standardize  # pyright: ignore[reportMissingImports]
from gpytorch.kernels import RBFKernel  # pyright: ignore[reportMissingImports]
from gpytorch.means import ZeroMean  # pyright: ignore[reportMissingImports]
from gpytorch.mlls import SumMarginalLogLikelihood  # pyright: ignore[reportMissingImports]
from jaxtyping import Float

from attractor.blackbox import constrained_search, expected_improvement, optimistic, squared_exponential
from attractor.papers.blackbox.config_constrained_bo import SIDE, draws
from attractor.progress import task
from attractor.stats import mean

NOISE, RANDOM = 1e-6, 5
Kernel = Callable[[jax.Array, jax.Array], jax.Array]
AXIS = np.linspace(0.0, 1.0, SIDE)
GRID = np.stack(np.meshgrid(AXIS, AXIS), -1).reshape(-1, 2)


class Instance(NamedTuple):
    """Candidates are those of `GRID`; f in the first row of the table, the constraints in the others."""

    table: Float[np.ndarray, "functions n"]
    length: float


def from_the_prior(number: int) -> Instance:
    with jax.enable_x64(True):
        return Instance(np.asarray(draws("quick")[1])[number], 0.15)


def gardner(number: int) -> Instance:
    """sin x + y where sin x sin y ≤ -0.95: some per cent of the window can be used, in two places."""
    x, y = 6.0 * GRID.T + np.random.default_rng(number).uniform(0.0, 0.4, (2, 1))
    return _scaled(np.sin(x) + y, np.sin(x) * np.sin(y) + 0.95)


def gramacy(number: int) -> Instance:
    """x + y between a wave and a circle: two constraints, one of which holds at the minimum with equality."""
    x, y = GRID.T + np.random.default_rng(number).uniform(-0.05, 0.05, (2, 1))
    wave = 1.5 - x - 2 * y - 0.5 * np.sin(2 * np.pi * (x**2 - 2 * y))
    return _scaled(x + y, wave, x**2 + y**2 - 1.5)


def _scaled(objective: np.ndarray, *constraints: np.ndarray) -> Instance:
    centered = (objective - objective.mean()) / objective.std()
    return Instance(np.array([centered, *(c / c.std() for c in constraints)]), 0.2)


PROBLEMS = {"draws from the prior": from_the_prior, "sines, a small feasible set": gardner,
            "between a wave and a circle": gramacy}  # fmt: skip


def ours(rule: Callable, instance: Instance, budget: int, number: int) -> list[int]:
    where = {tuple(point): i for i, point in enumerate(GRID)}

    def kernel(a: jax.Array, b: jax.Array) -> jax.Array:
        return squared_exponential(a, b, instance.length)

    asked: list[int] = []

    def f(x: np.ndarray) -> list[float]:
        asked.append(where[tuple(x)])
        return instance.table[:, asked[-1]].tolist()

    constrained_search(f, GRID, budget=budget, kernel=kernel, rule=rule, noise=NOISE)
    return asked


def botorch(fitted: bool, instance: Instance, budget: int, number: int) -> list[int]:
    """Log constrained expected improvement over the candidates, of given processes or of fitted ones."""
    grid, table = torch.as_tensor(GRID), torch.as_tensor(instance.table.copy())
    asked = np.random.default_rng(number).choice(len(GRID), RANDOM, replace=False).tolist() if fitted else []
    sides: dict[int, tuple[float | None, float | None]] = {i: (None, 0.0) for i in range(1, len(table))}
    while len(asked) < budget:
        if not asked:
            asked.append(0)  # all candidates are equal, and the first is taken
            continue
        told = table[:, asked]
        model = ModelListGP(*(_process(grid[asked], row[:, None], fitted, instance.length) for row in told))
        if fitted:
            fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        feasible = told[0][(told[1:] <= 0).all(0)]
        with torch.no_grad():
            if len(feasible):
                rule = LogConstrainedExpectedImprovement(model, feasible.min(), 0, sides, maximize=False)
                score = rule(grid[:, None])
            else:  # until then the probability of being feasible alone
                seen = model.posterior(grid)
                score = torch.special.log_ndtr(-seen.mean[:, 1:] / seen.variance[:, 1:].sqrt()).sum(1)
        if fitted:
            score[asked] = -torch.inf  # nothing is learned by asking again
        asked.append(int(score.argmax()))
    return asked


def _process(x: torch.Tensor, y: torch.Tensor, fitted: bool, length: float) -> SingleTaskGP:
    if fitted:
        return SingleTaskGP(x, y, outcome_transform=Standardize(1))
    kernel = RBFKernel()
    kernel.lengthscale = torch.tensor(length)
    given = torch.full_like(y, NOISE)
    return SingleTaskGP(x, y, given, covar_module=kernel, mean_module=ZeroMean(), outcome_transform=None).double()


SEARCHES: dict[str, Callable[[Instance, int, int], list[int]]] = {
    "CONFIG (`optimistic`)": lambda *given: ours(optimistic, *given),
    "`expected_improvement`": lambda *given: ours(expected_improvement, *given),
    "BoTorch, the same processes": lambda *given: botorch(False, *given),
    "BoTorch, fitted": lambda *given: botorch(True, *given),
}


def measured(instance: Instance, asked: list[int], budget: int) -> list[float]:
    """The best feasible value's gap after half of the calls and after all, regret and violation a call.

    In per cent of what f spans, the violation in the constraint's standard deviations: the largest of an instance's.
    A search that ends because nothing can be feasible keeps its last gap.
    """
    f, g = instance.table[0], instance.table[1:]
    best, span = f[(g <= 0).all(0)].min(), np.ptp(f)
    at = np.asarray(asked)
    so_far = np.minimum.accumulate(np.where((g[:, at] <= 0).all(0), f[at], np.inf))
    gaps = [100 * min((so_far[min(calls, len(at)) - 1] - best) / span, 1.0) for calls in (budget // 2, budget)]
    regret = 100 * np.maximum(f[at] - best, 0).mean() / span
    return [*gaps, regret, float(np.maximum(g[:, at], 0).max(0).mean())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=40, help="calls of each search")
    parser.add_argument("--instances", type=int, default=8, help="of each problem, at most 40")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", module="botorch")
    torch.set_num_threads(1)
    half = given.budget // 2
    head = [
        "problem",
        "search",
        f"gap after {half}, %",
        f"after {given.budget}, %",
        "regret a call, %",
        "violation a call",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    with task("searches", len(given.problems) * given.instances * len(SEARCHES), "search") as advance:
        for name in given.problems:
            rows: dict[str, list[list[float]]] = {search: [] for search in SEARCHES}
            same = []
            for number in range(given.instances):
                instance, paths = PROBLEMS[name](number), {}
                for search, asks in SEARCHES.items():
                    paths[search] = asks(instance, given.budget, number)
                    rows[search].append(measured(instance, paths[search], given.budget))
                    advance(1)
                _, mine, theirs, _ = (np.asarray(path) for path in paths.values())
                same.append(np.mean(mine == theirs))
            for search, found in rows.items():
                cells = (mean(column) for column in np.transpose(found))
                shown = (f"{c.value:.3g} [{max(c.low, 0):.2g}, {c.high:.3g}]" for c in cells)
                lines.append(f"| {name} | {search} | " + " | ".join(shown) + " |")
            print(f"{name}: `expected_improvement` and BoTorch ask the same in {100 * np.mean(same):.1f} % of calls")
    what = f"{given.instances} instances of each on {SIDE} x {SIDE} candidates, means with 95 % intervals"
    text = "\n".join([*lines, "", f"({what}; a gap is the best feasible value's, of what the objective spans)"]) + "\n"
    print(text)
    if given.write:
        given.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
