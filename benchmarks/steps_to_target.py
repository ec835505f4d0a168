"""How many steps every registered optimizer needs on the shared problems: the data behind the table in the docs.

Each method is tuned with the same budget, then measured on fresh seeds that all methods share (`attractor.compare`).
Results are kept as they come, in one JSON file; a second run measures what is missing.

    python benchmarks/steps_to_target.py                               # all methods on all shared problems
    python benchmarks/steps_to_target.py --problems digits-mlp --methods adam lion --fresh
"""

import argparse
import functools
import inspect
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import optax

from attractor import comparison, registry
from attractor.backends import spread
from attractor.engine import flops_per_step
from attractor.method import as_method, require
from attractor.progress import task
from attractor.stats import mean, median

OUT = Path(__file__).parents[1] / "src" / "attractor" / "data" / "steps_to_target.json"
PROBLEMS = ("logistic-regression", "rotated-quadratic", "rosenbrock", "digits-mlp")
SEEDS, BUDGET, POINTS = 8, 16, 50
COSTLIEST = 300  # gradients a step; what costs more is left out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, help="registered problems that state a target")
    parser.add_argument("--methods", nargs="+", help="registered methods; default: all that fit a problem")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--fresh", action="store_true", help="measure again what is on record")
    options = parser.parse_args()
    known = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    names = options.methods or list(registry.methods())
    wanted = [(p, m) for p in options.problems for m in names if fits(p, m)]
    missing = [(p, m) for p, m in wanted if options.fresh or m not in known.get(p, {})]
    with task("measuring", len(missing), "method") as advance:
        for (problem, method), result in spread(measure, missing, options.jobs):
            known.setdefault(problem, {})[method] = result
            save(known)
            advance(1)


@functools.cache
def build(problem: str) -> Any:
    """The problem itself, once per process."""
    return registry.find_problem(problem).factory()


def fits(problem: str, method: str) -> bool:
    """Whether the method can work on that kind of problem, and without an argument that only its user can give."""
    entry = registry.find_method(method)
    arguments = inspect.signature(entry.factory).parameters.values()
    if {a.name for a in arguments if a.default is a.empty} - set(entry.space):
        return False
    try:
        require(build(problem), entry.make())
    except TypeError:
        return False
    return True


def measure(pair: tuple[str, str]) -> dict[str, Any]:
    """A method on a problem; an error is the result, so that one method cannot lose the others."""
    problem, method = pair
    entry = registry.find_problem(problem)
    settings = {"steps": entry.steps, "metric": entry.metric, "target": entry.target, "seeds": SEEDS, "budget": BUDGET}
    try:
        step = registry.find_method(method).make()
        cost = flops_per_step(build(problem), step) / flops_per_step(build(problem), as_method(optax.sgd(0.1)))
        if cost > COSTLIEST:
            return {"skipped": f"a step costs {cost:.0f} gradients"}
        found = comparison.compare(build(problem), [method], **settings)[method]
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    steps = median(found.steps_to_target)
    final = mean(found.final)
    curve = np.median(found.trace[str(entry.metric)].values[0], axis=0)
    chosen = np.linspace(0, len(curve) - 1, POINTS).round().astype(int)
    return {
        "steps": [number(v) for v in (steps.value, steps.low, steps.high)],
        "reached": int(np.isfinite(found.steps_to_target).sum()),
        "seeds": SEEDS,
        "final": [number(v) for v in (final.value, final.low, final.high)],
        "flops_per_step": found.flops_per_step,
        "tuned": found.winner,
        "at": found.trace.dataset["step"].values[chosen].tolist(),
        "curve": [number(v) for v in curve[chosen]],
    }


def number(value: Any) -> float | None:
    """Rounded for the file; `None` where it is not finite."""
    return float(f"{float(value):.4g}") if math.isfinite(value) else None


def save(known: dict[str, Any]) -> None:
    """Sorted, a line per method."""
    lines = [
        f" {json.dumps(p)}: {{\n"
        + ",\n".join(f"  {json.dumps(m)}: {json.dumps(v)}" for m, v in sorted(rows.items()))
        + "\n }"
        for p, rows in sorted(known.items())
    ]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
