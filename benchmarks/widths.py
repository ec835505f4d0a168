"""Does a learning rate that was tuned on a narrow network hold on wide ones? Two problems, two parametrizations.

For every width Adam trains at every rate; the table has the rate with the lowest loss after all steps, that loss, and
the loss at the rate that was best on the narrowest network.

    python benchmarks/widths.py            # a table
    python benchmarks/widths.py --record   # writes docs/data/widths.md, which the docs show
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optax

from attractor import registry, run
from attractor.progress import task

RECORD = Path(__file__).parents[1] / "docs" / "data" / "widths.md"
PARAMETRIZATIONS = ("standard", "mup")


class Experiment(NamedTuple):
    """What is tried on a problem; the narrowest width is the base of ``mup``."""

    widths: tuple[int, ...]
    rates: tuple[float, ...]
    steps: int
    seeds: int
    measure: str


EXPERIMENTS = {
    "digits-wide-mlp": Experiment((64, 128, 256, 512), tuple(2.0**k for k in range(-9, -3)), 100, 2, "loss"),
    "text-transformer": Experiment((32, 64, 128), tuple(2.0**k for k in range(-9, -3)), 100, 2, "validation_loss"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", nargs="+", default=list(EXPERIMENTS), choices=EXPERIMENTS, help="default: both")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    options = parser.parse_args()
    lines = [
        "| problem | parametrization | width | best rate | loss there | loss at the narrowest's best rate |",
        "|---|---|---|---|---|---|",
    ]
    wanted = [(p, q) for p in options.problem for q in PARAMETRIZATIONS]
    with task("training", sum(len(EXPERIMENTS[p].widths) for p, _ in wanted), "width") as advance:
        for name, parametrization in wanted:
            how, kept = EXPERIMENTS[name], None
            for width in how.widths:
                losses = final_losses(name, parametrization, width, how)
                best = int(np.nanargmin(losses))
                kept = best if kept is None else kept
                lines.append(
                    f"| {name} | {parametrization} | {width} | {how.rates[best]:.3g} | {losses[best]:.3f} "
                    f"| {losses[kept]:.3f} |"
                )
                advance(1)
    text = "\n".join(lines) + "\n"
    if options.record:
        RECORD.write_text(text, encoding="utf-8")
    print(text)


def final_losses(name: str, parametrization: str, width: int, how: Experiment) -> np.ndarray:
    """The loss at the end for every rate, its mean over seeds; infinite where one of them diverged."""
    make = registry.find_problem(name).factory
    problem = make(width=width, base_width=how.widths[0], parametrization=parametrization)
    probes = {how.measure: problem.probes[how.measure]}
    sweep = {"learning_rate": list(how.rates)}
    trace = run(problem, optax.adam, sweep=sweep, steps=how.steps, every=how.steps, seeds=how.seeds, probes=probes)
    losses = trace.last(how.measure).values.mean(1)
    return np.where(np.isfinite(losses), losses, np.inf)


if __name__ == "__main__":
    main()
