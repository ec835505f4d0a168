"""Honest comparisons: every method tuned with the same budget, then measured on fresh paired seeds."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import optax
import pandas as pd

from attractor import progress as _progress
from attractor import registry
from attractor.engine import flops_per_step, run
from attractor.method import Method, as_method
from attractor.names import unknown
from attractor.probe import Goal, as_probe
from attractor.problem import Problem
from attractor.registry import Space
from attractor.stats import Interval, bootstrap, paired_difference, paired_ratio
from attractor.trace import Trace, describe

TUNING_SEEDS = (1_000_003, 1_000_033)  # disjoint from the seeds 0, 1, 2 … of the final measurement

Statistic = Literal["final", "steps_to_target", "flops_to_target", "seconds_to_target"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One method's part in a comparison.

    Attributes:
        name: Its name.
        tuning: The tuning runs, on `TUNING_SEEDS`.
        chosen: Which of its configurations won.
        winner: That configuration.
        trace: The winner on the fresh seeds.
        steps_to_target: Per fresh seed, the first recorded step that meets the target; infinite if none does.
        final: Per fresh seed, the last value of the metric; infinitely bad where the run diverged.
        flops_per_step: By XLA's cost analysis.
        seconds_per_step: Wall seconds per step and lane in the compiled program, probes included.
    """

    name: str
    tuning: Trace
    chosen: int
    winner: dict[str, Any]
    trace: Trace
    steps_to_target: np.ndarray
    final: np.ndarray
    flops_per_step: float
    seconds_per_step: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found.

    Attributes:
        entries: By method name, in the order given.
        metric: The compared measurement.
        goal: ``"min"`` or ``"max"``.
        target: The value to be reached, or `None`.
        settings: Everything needed to do it again.
        seconds: Wall time of the whole comparison.
    """

    entries: dict[str, Entry]
    metric: str
    goal: Goal
    target: float | None
    settings: dict[str, Any] = field(repr=False)
    seconds: float = 0.0

    def __str__(self) -> str:
        return self.table().to_string()

    def __getitem__(self, name: str) -> Entry:
        if name not in self.entries:
            raise unknown("method", name, self.entries)
        return self.entries[name]

    def statistic(self, what: Statistic, name: str) -> np.ndarray:
        """A number per fresh seed: ``final``, or ``steps_``/``flops_``/``seconds_to_target``.

        Raises:
            ValueError: for an unknown statistic, or one that needs a target when there was none.
        """
        entry = self[name]
        if what == "final":
            return entry.final
        per_step = {
            "steps_to_target": 1.0,
            "flops_to_target": entry.flops_per_step,
            "seconds_to_target": entry.seconds_per_step,
        }
        if what not in per_step:
            raise ValueError(f"what: expected final, {', '.join(per_step)}, got {what!r}")
        if self.target is None:
            raise ValueError(f"target: {what} needs a target; pass compare(…, target=…)")
        return entry.steps_to_target * per_step[what]

    def ratio(self, what: Statistic, name: str, baseline: str) -> Interval:
        """Median over seeds of a statistic for ``name`` over that for ``baseline``, with its paired bootstrap bounds.

        Below 1 means ``name`` needs less. If neither reaches the target the ratio is not a number and its bounds are
        infinite, so that no claim can be read from it.
        """
        return paired_ratio(self.statistic(what, name), self.statistic(what, baseline))

    def difference(self, name: str, baseline: str) -> Interval:
        """Mean paired difference of the final metric, ``name`` minus ``baseline``, with its bounds."""
        return paired_difference(self[name].final, self[baseline].final)

    def probability_best(self) -> dict[str, float]:
        """Per method, how often it comes first when the seeds are resampled (ties are shared)."""
        finals = np.stack([e.final for e in self.entries.values()])
        score = finals if self.goal == "min" else -finals
        index = np.random.default_rng(0).integers(0, score.shape[1], (4_000, score.shape[1]))
        means = score[:, index].mean(-1)  # (methods, draws)
        first = means == means.min(0)
        return dict(zip(self.entries, (first / first.sum(0)).mean(1).tolist(), strict=True))

    @property
    def ranking(self) -> list[str]:
        """Method names, best mean final metric first."""
        sign = 1 if self.goal == "min" else -1
        return sorted(self.entries, key=lambda n: sign * float(self[n].final.mean()))

    def table(self) -> pd.DataFrame:
        """A row per method, best first: final metric, difference to the best, cost, probability of being best."""
        best, chance = self.ranking[0], self.probability_best()
        rows = []
        for name in self.ranking:
            entry = self[name]
            row: dict[str, Any] = {
                "method": name,
                f"final {self.metric}": bootstrap(lambda s: s.mean(-1), entry.final),
                f"vs {best}": None if name == best else self.difference(name, best),
                "best with probability": chance[name],
            }
            if any(e.trace.diverged.any() for e in self.entries.values()):
                row["diverged"] = f"{int(entry.trace.diverged.sum())}/{entry.final.size}"
            if self.target is not None:
                reached = np.isfinite(entry.steps_to_target)
                row["reached target"] = f"{int(reached.sum())}/{reached.size}"
                for what in ("steps_to_target", "flops_to_target", "seconds_to_target"):
                    row[what.replace("_", " ")] = float(np.median(self.statistic(what, name)))
            row["MFLOP per step"] = entry.flops_per_step / 1e6
            row["ms per step"] = entry.seconds_per_step * 1e3
            row["tuned"] = describe(entry.winner)
            rows.append(row)
        return pd.DataFrame(rows).set_index("method")

    def report(self, path: str) -> str:
        """Write a self-contained HTML page (works offline); returns where."""
        from attractor.report import write

        return write(self, path)


def compare(
    problem: Problem,
    methods: Sequence[str] | Mapping[str, Any],
    *,
    steps: int = 1_000,
    seeds: int = 8,
    budget: int = 16,
    metric: str | None = None,
    target: float | None = None,
    goal: Goal | None = None,
    probes: Mapping[str, Any] | None = None,
    every: int | None = None,
    label: str | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Compare methods on a problem, all with the same tuning budget.

    Each method tries ``budget`` quasi-random configurations of its search space on two tuning seeds. The one that
    reaches the target in the fewest steps (without a target, or where none reaches it: that has the best final
    metric) is run again on ``seeds`` fresh seeds, which all methods share.

    Arguments:
        problem: What to solve.
        methods: Registered names, or ``{name: what}`` where ``what`` is a registered name, a factory such as
            ``optax.adam`` (searched over its registered space), a pair ``(factory, space)``, or a made method
            (nothing to tune).
        steps: Iterations per run.
        seeds: Fresh seeds for the final measurement.
        budget: Configurations each method may try.
        metric: Which probe decides; default: the problem's first.
        target: A value of the metric to be reached.
        goal: ``"min"`` or ``"max"``; default: the probe's own direction.
        probes: Measurements; default: the problem's own.
        every: Steps between recordings, which is also the resolution of steps-to-target; default: steps / 100.
        label: What the report calls the problem.
        progress: As in `run`.

    Raises:
        ValueError: for an argument out of range, an unknown name (with a suggestion) or an unknown metric.
        TypeError: if a method does not fit the problem.
        Interrupted: on Ctrl-C once a method has been measured; it holds the comparison of those that have.
    """
    for name, count in (("seeds", seeds), ("budget", budget), ("steps", steps)):
        if count < 1:
            raise ValueError(f"{name}: expected a whole number >= 1, got {count}")
    probes = {k: as_probe(p) for k, p in (problem.probes if probes is None else probes).items()}
    metric = next(iter(probes)) if metric is None else metric
    if metric not in probes:
        raise ValueError(f"metric: expected one of {', '.join(probes)}, got {metric!r}")
    goal = goal or probes[metric].goal
    if goal not in ("min", "max"):
        raise ValueError(f"goal: expected 'min' or 'max', got {goal!r}")
    sign = 1.0 if goal == "min" else -1.0
    candidates = _resolve(methods)
    settings = {
        "problem": label or type(problem).__name__,
        "methods": {n: {"space": {k: repr(d) for k, d in s.items()}} for n, (_, s) in candidates.items()},
        "steps": steps,
        "seeds": seeds,
        "budget": budget,
        "metric": metric,
        "goal": goal,
        "target": target,
        "tuning_seeds": list(TUNING_SEEDS),
    }
    begun = time.perf_counter()
    entries: dict[str, Entry] = {}
    shared = {"steps": steps, "probes": probes, "every": every, "lanes": seeds, "progress": progress}

    def measured() -> Comparison:
        return Comparison(entries, metric, goal, target, settings, time.perf_counter() - begun)

    try:
        with _progress.task("compare", len(candidates), "method", progress) as advance:
            for name, (factory, space) in candidates.items():
                entries[name] = _measure(name, problem, factory, space, budget, seeds, metric, sign, target, shared)
                advance(1)
    except KeyboardInterrupt as stop:
        if not entries:
            raise
        raise Interrupted(measured(), [name for name in candidates if name not in entries]) from stop
    return measured()


class Interrupted(KeyboardInterrupt):
    """`compare` was stopped; what it had finished is kept.

    Attributes:
        comparison: Of the methods that were measured.
        missing: The names of those that were not.
    """

    def __init__(self, comparison: Comparison, missing: list[str]):
        super().__init__(f"stopped before {', '.join(missing)}")
        self.comparison, self.missing = comparison, missing


def _measure(
    name: str,
    problem: Problem,
    factory: Any,
    space: Space,
    budget: int,
    seeds: int,
    metric: str,
    sign: float,
    target: float | None,
    shared: dict[str, Any],
) -> Entry:
    """Tune one method, and run its winner on fresh seeds."""
    made = isinstance(factory, Method | optax.GradientTransformation)
    make: Callable[..., Any] = functools.partial(_given, factory) if made else factory
    configs = registry.sample(space, budget)
    tuning = run(problem, make, sweep=configs, seeds=TUNING_SEEDS, **shared)
    chosen = _winner(tuning, metric, sign, target)
    winner = configs[chosen]
    trace = run(problem, make, sweep=[winner], seeds=seeds, **shared)
    curves = sign * trace[metric].values[0]
    bad = trace.diverged.values[0] | ~np.isfinite(curves[:, -1])
    final = np.where(bad, np.inf, curves[:, -1])
    return Entry(
        name,
        tuning,
        chosen,
        winner,
        trace,
        _first_hit(curves, trace.dataset["step"].values, None if target is None else sign * target),
        sign * final,
        flops_per_step(problem, as_method(make(**winner))),
        (tuning.timing + trace.timing).seconds_per_step,
    )


def _given(method: Any) -> Any:
    return method


def _resolve(methods: Sequence[str] | Mapping[str, Any]) -> dict[str, tuple[Any, Space]]:
    if isinstance(methods, str):
        raise ValueError(f"methods: expected a list of names or a dict, got the string {methods!r}")
    named = methods if isinstance(methods, Mapping) else {name: name for name in methods}
    if not named:
        raise ValueError("methods: expected at least one method, got none")
    candidates: dict[str, tuple[Any, Space]] = {}
    for name, what in named.items():
        if isinstance(what, str):
            entry = registry.find_method(what)
            candidates[name] = (entry.factory, entry.space)
        elif isinstance(what, tuple) and len(what) == 2 and isinstance(what[1], Mapping):
            candidates[name] = what
        else:
            candidates[name] = (what, registry.space_of(what))
    return candidates


def _winner(tuning: Trace, metric: str, sign: float, target: float | None) -> int:
    """Fewest mean steps to the target, ties broken by the mean final value."""
    values = sign * tuning[metric].values  # (config, seed, step)
    finals = np.where(np.isfinite(values[:, :, -1]) & ~tuning.diverged.values, values[:, :, -1], np.inf).mean(1)
    steps = np.zeros_like(finals)
    if target is not None:
        hits = _first_hit(values.reshape(-1, values.shape[2]), tuning.dataset["step"].values, sign * target)
        steps = hits.reshape(values.shape[:2]).mean(1)
    return int(np.lexsort((finals, steps))[0])


def _first_hit(curves: np.ndarray, steps: np.ndarray, target: float | None) -> np.ndarray:
    """Per curve, the first recorded step whose value is at most the target; infinite if none is."""
    if target is None:
        return np.full(len(curves), np.inf)
    with np.errstate(invalid="ignore"):
        hit = curves <= target
    return np.where(hit.any(1), steps[hit.argmax(1)], np.inf)
