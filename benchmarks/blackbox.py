"""Which search finds the smallest value of a plain function within a budget: the 24 noiseless functions of BBOB.

    python benchmarks/blackbox.py --dim 5 --budget 100 --instances 2 --write docs/data/blackbox.md

Beside the table, ``--write`` puts the shares after each number of calls into a JSON file of the same name, for a plot.

As in COCO, what counts is the share of (function, instance, target) that is reached, the targets being 10, 1, 0.1 and
0.01 above the optimum; a budget is so many calls per dimension. The functions are those of the package ``cma``. Our
methods are tried with three lengths each, and the table names the best: they are tuned here, the others are not.
"""

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from cma import bbobbenchmarks
from rich.progress import track

from attractor import minimize_blackbox
from attractor.blackbox import AcceleratedZerothOrder, ConsensusBasedOptimization, ConsensusHopping

TARGETS = np.array([10.0, 1.0, 0.1, 0.01])
GROUPS = {"separable": range(1, 6), "moderate": range(6, 10), "ill-conditioned": range(10, 15),
          "multimodal": range(15, 20), "weakly structured": range(20, 25)}  # fmt: skip
SEARCHES = {
    "random": ["random"],
    "differential-evolution (SciPy)": ["differential-evolution"],
    "cma-es (cma)": ["cma-es"],
    "consensus-based-optimization": [
        ConsensusBasedOptimization(alpha=1e4, noise=1.0, spread=spread, particles=20) for spread in (0.1, 0.3, 1.0)
    ],
    "consensus-hopping": [ConsensusHopping(alpha=1e4, spread=spread, particles=20) for spread in (0.03, 0.1, 0.3)],
    "accelerated-zeroth-order": [AcceleratedZerothOrder(rate, radius=0.01, pairs=5) for rate in (1e-6, 1e-5, 1e-4)],
}

LENGTHS = {"consensus-based-optimization": "spread", "consensus-hopping": "spread",
           "accelerated-zeroth-order": "learning_rate"}  # fmt: skip


def reached(method, number: int, instance: int, dim: int, budget: int) -> np.ndarray:
    """The share of the targets that one search of one function has met, after each call."""
    f, optimum = bbobbenchmarks.instantiate(number, instance)
    found = minimize_blackbox(f, [(-5.0, 5.0)] * dim, method=method, budget=budget, seed=instance, progress=False)
    return (found.best_so_far()[:, None] - optimum <= TARGETS).mean(1)


def paths(method, dim: int, budget: int, instances: int) -> np.ndarray:
    """The shares after each call, (functions, calls), a mean over instances."""
    return np.array([
        [reached(method, number, i, dim, budget * dim) for number in range(1, 25)] for i in range(1, instances + 1)
    ]).mean(0)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=5)
    parser.add_argument("--budget", type=int, default=100, help="calls per dimension")
    parser.add_argument("--instances", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time, each in a process of its own")
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    given = parser.parse_args()
    rows, curves = [], {}
    at = np.unique(np.geomspace(1, given.budget * given.dim, 60).round().astype(int))
    tried = [(name, method) for name, methods in SEARCHES.items() for method in methods]
    of = partial(paths, dim=given.dim, budget=given.budget, instances=given.instances)
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        found = list(track(pool.map(of, [method for _, method in tried]), "searches", len(tried)))
    for name in SEARCHES:
        own = []
        for (_, method), shares in ((t, f) for t, f in zip(tried, found, strict=True) if t[0] == name):
            groups = [shares[np.array(group) - 1, -1].mean() for group in GROUPS.values()]
            own.append((shares[:, -1].mean(), groups, method, shares.mean(0)))
        share, groups, best, path = max(own, key=lambda entry: entry[0])
        length = getattr(best, LENGTHS.get(name, ""), None)
        label = name if length is None else f"{name}, {LENGTHS[name].replace('_', ' ')} {length:g}"
        curves[label] = [round(100 * float(path[calls - 1]), 2) for calls in at]
        rows.append((share, [label, *(f"{100 * g:.0f}" for g in groups), f"**{100 * share:.0f}**"]))
    lines = ["| percent of targets reached | " + " | ".join(GROUPS) + " | all |", "|---" * (len(GROUPS) + 2) + "|"]
    lines += ["| " + " | ".join(cells) + " |" for _, cells in sorted(rows, key=lambda row: -row[0])]
    what = f"24 functions of BBOB, {given.dim} dimensions, {given.instances} of each, {given.budget} calls a dimension"
    text = "\n".join([*lines, "", f"({what}; targets 10, 1, 0.1, 0.01 above the optimum)"]) + "\n"
    print(text)
    if given.write:
        given.write.write_text(text, encoding="utf-8")
        data = {"what": what, "calls": at.tolist(), "percent": curves}
        given.write.with_suffix(".json").write_text(json.dumps(data) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
