"""How many steps every registered optimizer needs on the shared problems: the data behind the table in the docs.

Each method is tuned with the same budget, then measured on fresh seeds that all methods share (`attractor.compare`).
Results are kept as they come, in one JSON file; a second run measures what is missing.

    python benchmarks/steps_to_target.py                               # all methods on all shared problems
    python benchmarks/steps_to_target.py --problem digits-mlp --methods adam lion --fresh
    python benchmarks/steps_to_target.py --problem text-transformer digits-resnet digits-diffusion \\
        --seeds 6 --budget 9 --records 20                              # the networks, as two cores carry them
    python benchmarks/steps_to_target.py --problem text-transformer --sizes width=192 depth=4 context=128 \\
        --steps 2000 --target 1.5 --minutes 8 --jobs 1 --out large.json  # on a GPU, with no network
"""

import argparse
import functools
import inspect
import json
import math
import time
from dataclasses import dataclass
from functools import partial
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
# Networks on which a step costs enough that only the names people ask for are tried, unless others are named.
NETWORKS = ("text-transformer", "digits-resnet", "digits-diffusion")
NAMES = (
    "sgd", "adamw", "adamw+cosine", "schedule-free-adamw", "muon", "normuon", "soap", "scion", "mars", "adam-mini",
    "lion", "prodigy", "kron", "shampoo", "sophia", "adafactor",
)  # fmt: skip
POINTS = 50
COSTLIEST = 300  # gradients a step; what costs more is left out


@dataclass(frozen=True)
class Settings:
    """What all methods share; ``steps`` and ``target`` are the problem's own where they are `None`."""

    seeds: int = 8
    budget: int = 16
    records: int = 100
    steps: int | None = None
    target: float | None = None
    sizes: tuple[tuple[str, Any], ...] = ()
    until: float = math.inf  # by `time.time`: no method is begun after it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--problem", "--problems", nargs="+", default=PROBLEMS, help="registered problems with a target"
    )
    parser.add_argument(
        "--methods", nargs="+", help="registered methods; default: all that fit, of networks those known"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes; 1 on a GPU, whose memory they would share")
    parser.add_argument("--fresh", action="store_true", help="measure again what is on record")
    parser.add_argument("--seeds", type=int, default=Settings.seeds, help="fresh seeds of the winner")
    parser.add_argument("--budget", type=int, default=Settings.budget, help="configurations each method may try")
    parser.add_argument("--records", type=int, default=Settings.records, help="recordings, the resolution of the steps")
    parser.add_argument("--steps", type=int, help="of a run; default: the problem's own")
    parser.add_argument("--target", type=float, help="of the problem's metric; default: the problem's own")
    parser.add_argument("--sizes", nargs="+", default=(), help="arguments of the problem, such as width=192 depth=4")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no method after so many")
    parser.add_argument("--out", type=Path, default=OUT, help="the file of results")
    options = parser.parse_args()
    sizes = tuple((name, _value(text)) for name, _, text in (size.partition("=") for size in options.sizes))
    changed = bool(sizes) or (options.steps, options.target) != (None, None)
    if changed and options.out == OUT:
        parser.error(f"--out: {OUT.name} holds problems as they are registered; name another file for other sizes")
    settings = Settings(
        options.seeds, options.budget, options.records, options.steps, options.target, sizes,
        time.time() + 60 * options.minutes,
    )  # fmt: skip
    known = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    names = {p: options.methods or (NAMES if p in NETWORKS else list(registry.methods())) for p in options.problem}
    wanted = [(p, m) for p in options.problem for m in names[p] if fits(p, m, sizes)]
    missing = [(p, m) for p, m in wanted if options.fresh or m not in known.get(p, {})]
    with task("measuring", len(missing), "method") as advance:
        for (problem, method), result in spread(partial(measure, settings=settings), missing, options.jobs):
            if result is not None:
                known.setdefault(problem, {})[method] = result
                save(known, options.out)
            advance(1)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:  # a name, such as parametrization=mup
        return text


@functools.cache
def build(problem: str, sizes: tuple[tuple[str, Any], ...] = ()) -> Any:
    """The problem itself, once per process."""
    return registry.find_problem(problem).factory(**dict(sizes))


def fits(problem: str, method: str, sizes: tuple[tuple[str, Any], ...] = ()) -> bool:
    """Whether the method can work on that kind of problem, and without an argument that only its user can give."""
    entry = registry.find_method(method)
    arguments = inspect.signature(entry.factory).parameters.values()
    if {a.name for a in arguments if a.default is a.empty and a.kind is not a.VAR_KEYWORD} - set(entry.space):
        return False
    try:
        require(build(problem, sizes), entry.make())
    except TypeError:
        return False
    return True


def measure(pair: tuple[str, str], settings: Settings = Settings()) -> dict[str, Any] | None:
    """A method on a problem; an error is the result, so that one method cannot lose the others. `None`: out of time."""
    if time.time() > settings.until:
        return None
    name, method = pair
    entry, problem = registry.find_problem(name), build(name, settings.sizes)
    steps = settings.steps or entry.steps
    how = {
        "steps": steps,
        "metric": entry.metric,
        "target": entry.target if settings.target is None else settings.target,
        "seeds": settings.seeds,
        "budget": settings.budget,
    }
    try:
        step = registry.find_method(method).make()
        cost = flops_per_step(problem, step) / flops_per_step(problem, as_method(optax.sgd(0.1)))
        if cost > COSTLIEST:
            return {"skipped": f"a step costs {cost:.0f} gradients"}
        found = comparison.compare(problem, [method], every=max(1, steps // settings.records), **how)[method]
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    needed = median(found.steps_to_target)
    final = mean(found.final)
    curve = np.median(found.trace[str(entry.metric)].values[0], axis=0)
    chosen = np.unique(np.linspace(0, len(curve) - 1, POINTS).round().astype(int))
    return {
        "steps": [number(v) for v in (needed.value, needed.low, needed.high)],
        "reached": int(np.isfinite(found.steps_to_target).sum()),
        "seeds": settings.seeds,
        "budget": settings.budget,
        "of": how["steps"],
        "target": how["target"],
        "final": [number(v) for v in (final.value, final.low, final.high)],
        "flops_per_step": found.flops_per_step,
        "tuned": found.winner,
        "at": found.trace.dataset["step"].values[chosen].tolist(),
        "curve": [number(v) for v in curve[chosen]],
    }


def number(value: Any) -> float | None:
    """Rounded for the file; `None` where it is not finite."""
    return float(f"{float(value):.4g}") if math.isfinite(value) else None


def save(known: dict[str, Any], out: Path) -> None:
    """Sorted, a line per method."""
    lines = [
        f" {json.dumps(p)}: {{\n"
        + ",\n".join(f"  {json.dumps(m)}: {json.dumps(v)}" for m, v in sorted(rows.items()))
        + "\n }"
        for p, rows in sorted(known.items())
    ]
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
