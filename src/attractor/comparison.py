"""Honest comparisons: every method tuned with the same budget, then measured on fresh paired seeds."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from attractor import progress as _progress
from attractor import registry
from attractor.engine import flops_per_step, run
from attractor.method import Method, as_method, name_of
from attractor.names import unknown
from attractor.probe import Goal, as_probe
from attractor.problem import Problem
from attractor.registry import Space
from attractor.stats import Interval, mean, paired_difference, paired_ratio
from attractor.trace import Trace, describe

TUNING_SEEDS = (1_000_003, 1_000_033)  # disjoint from the seeds 0, 1, 2 … of the final measurement
PENALTY = 10  # a run that never reaches the target counts as so many times the steps it had

Statistic = Literal["final", "steps_to_target", "flops_to_target", "seconds_to_target"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One method, tuned and measured.

    Attributes:
        name: Its name.
        tuning: The tuning runs, on the tuning seeds.
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

    @property
    def reached(self) -> np.ndarray:
        """Per fresh seed, whether it met the target."""
        return np.isfinite(self.steps_to_target)

    @property
    def penalized_steps(self) -> np.ndarray:
        """Per fresh seed, the steps to the target, `PENALTY` times all steps where it was not met (PAR10)."""
        return _penalized(self.steps_to_target, int(self.trace.dataset["step"].values[-1]))


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
        """How many times the baseline's a statistic of ``name`` is, paired by seed; see `attractor.stats.paired_ratio`.

        Below 1 means ``name`` needs less. If neither reaches the target the ratio is not a number and its bounds are
        infinite, so that no claim can be read from it.
        """
        return paired_ratio(self.statistic(what, name), self.statistic(what, baseline))

    def difference(self, name: str, baseline: str) -> Interval:
        """Mean paired difference of the final metric, ``name`` minus ``baseline``, with its bounds."""
        return paired_difference(self[name].final, self[baseline].final)

    @property
    def criterion(self) -> Literal["steps_to_target", "final"]:
        """What methods are ranked by, which is what they were tuned for.

        Steps to the target if there is one and somebody reached it; else the final metric.
        """
        reached = self.target is not None and any(e.reached.any() for e in self.entries.values())
        return "steps_to_target" if reached else "final"

    def _scores(self) -> dict[str, np.ndarray]:
        """A number per fresh seed, smaller is better, by method."""
        if self.criterion == "steps_to_target":
            return {name: entry.penalized_steps for name, entry in self.entries.items()}
        sign = 1.0 if self.goal == "min" else -1.0
        return {name: sign * entry.final for name, entry in self.entries.items()}

    def probability_best(self) -> dict[str, float]:
        """Per method, how likely it is the best on average, by the criterion (ties are shared).

        Means are drawn from their posterior under a flat prior, Student's t with the seeds' covariance between methods,
        so that for two methods it says what the paired t-interval says. NaN where nothing can be said: with one seed,
        or when no method has a finite result.
        """
        scores = np.stack(list(self._scores().values()))
        usable, n = np.isfinite(scores).all(1), scores.shape[1]
        if n < 2 or not usable.any():
            return dict.fromkeys(self.entries, float("nan"))
        rng = np.random.default_rng(0)
        centered = scores[usable] - scores[usable].mean(1, keepdims=True)
        spread = centered @ rng.standard_normal((n, 8_000)) / np.sqrt(n * (n - 1))
        means = scores[usable].mean(1, keepdims=True) + spread / np.sqrt(rng.chisquare(n - 1, 8_000) / (n - 1))
        first = np.isclose(means, means.min(0), rtol=1e-12, atol=0)
        chance = np.zeros(len(scores))
        chance[usable] = (first / first.sum(0)).mean(1)
        return dict(zip(self.entries, chance.tolist(), strict=True))

    @property
    def ranking(self) -> list[str]:
        """Method names, best first by the criterion, ties broken by the mean final metric."""
        sign = 1 if self.goal == "min" else -1
        scores = self._scores()
        return sorted(self.entries, key=lambda n: (float(scores[n].mean()), sign * float(self[n].final.mean())))

    def table(self) -> pd.DataFrame:
        """A row per method, best first: what it was tuned for, against the best; then the rest, and the costs.

        Columns: with a target ``steps to target`` (median) and ``times the steps of <best>``, and the final metric is
        marked as not tuned for; without one ``final <metric>`` and ``vs <best>``.
        """
        best, chance = self.ranking[0], self.probability_best()
        by_steps = self.criterion == "steps_to_target"
        rows = []
        for name in self.ranking:
            entry = self[name]
            row: dict[str, Any] = {"method": name}
            if by_steps:
                row["steps to target"] = float(np.median(entry.steps_to_target))
                against = None if name == best else self.ratio("steps_to_target", name, best)
                row[f"times the steps of {best}"] = against
            else:
                row[f"final {self.metric}"] = mean(entry.final)
                row[f"vs {best}"] = None if name == best else self.difference(name, best)
            row["best with probability"] = chance[name]
            if any(e.trace.diverged.any() for e in self.entries.values()):
                row["diverged"] = f"{int(entry.trace.diverged.sum())}/{entry.final.size}"
            if self.target is not None:
                row["reached target"] = f"{int(entry.reached.sum())}/{entry.reached.size}"
            if by_steps:
                row[f"final {self.metric} (not tuned for)"] = mean(entry.final)
                for what in ("flops_to_target", "seconds_to_target"):
                    row[what.replace("_", " ")] = float(np.median(self.statistic(what, name)))
            row["MFLOP per step"] = entry.flops_per_step / 1e6
            row["ms per step"] = entry.seconds_per_step * 1e3
            row["tuned"] = describe(entry.winner)
            rows.append(row)
        return pd.DataFrame(rows).set_index("method")

    def tuning_scores(self, name: str) -> np.ndarray:
        """Per configuration tried, what it was chosen by: mean steps to the target, or the mean final value.

        Infinite where a run diverged.
        """
        tuning, metric = self[name].tuning, self.settings["tuned_on"]
        finals = tuning.last(metric).values.mean(1)
        if self.target is None:
            return finals
        steps = _tuning_steps(tuning, metric, self.target, 1.0 if self.goal == "min" else -1.0)
        return np.where(np.isfinite(finals), steps, np.inf)

    def report(self, path: str) -> str:
        """Write a self-contained HTML page (works offline); returns where."""
        from attractor.report import write

        return write(self, path)


def tune(
    problem: Problem,
    method: Any,
    *,
    steps: int = 1_000,
    seeds: int | Sequence[int] = 8,
    budget: int = 16,
    metric: str | None = None,
    target: float | None = None,
    goal: Goal | None = None,
    probes: Mapping[str, Any] | None = None,
    every: int | None = None,
    tuned_on: str | None = None,
    tuning_seeds: Sequence[int] = TUNING_SEEDS,
    name: str | None = None,
    progress: bool | None = None,
) -> Entry:
    """Tune one method, and measure the winner on fresh seeds: what `compare` does with each of its methods.

    The configuration that reaches the target in the fewest steps wins (on average over the tuning seeds, a run that
    never does counting `PENALTY` times all its steps); without a target, or in a tie, the one with the best final
    metric.

    Arguments:
        method: A registered name, a factory such as ``optax.adam`` (searched over its registered space), a pair
            ``(factory, space)``, or a made method (nothing to tune).
        name: What the entry is called; default: the method's own name.

    The others are those of `compare`.
    """
    how = _how(problem, steps, seeds, budget, metric, target, goal, probes, every, tuned_on, tuning_seeds, progress)
    name = name or (method if isinstance(method, str) else name_of(method[0] if isinstance(method, tuple) else method))
    return _measure(name, problem, *_resolve({name: method})[name], how)


def compare(
    problem: Problem,
    methods: Sequence[str] | Mapping[str, Any],
    *,
    steps: int = 1_000,
    seeds: int | Sequence[int] = 8,
    budget: int = 16,
    metric: str | None = None,
    target: float | None = None,
    goal: Goal | None = None,
    probes: Mapping[str, Any] | None = None,
    every: int | None = None,
    tuned_on: str | None = None,
    tuning_seeds: Sequence[int] = TUNING_SEEDS,
    label: str | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Compare methods on a problem, all with the same tuning budget.

    Each method tries ``budget`` quasi-random configurations of its search space on the tuning seeds; see `tune` for
    which one wins. The winner is run again on ``seeds`` fresh seeds, which all methods share. Methods are ranked by
    what they were tuned for.

    Arguments:
        problem: What to solve.
        methods: Registered names, or ``{name: what}`` where ``what`` is a registered name, a factory such as
            ``optax.adam`` (searched over its registered space), a pair ``(factory, space)``, or a made method
            (nothing to tune).
        steps: Iterations per run.
        seeds: Fresh seeds for the final measurement: how many, or which. One seed gives no interval.
        budget: Configurations each method may try.
        metric: Which probe decides; default: the problem's first.
        target: A value of the metric to be reached.
        goal: ``"min"`` or ``"max"``; default: the probe's own direction.
        probes: Measurements; default: the problem's own.
        every: Steps between recordings, which is also the resolution of steps-to-target; default: steps / 100.
        tuned_on: The probe that chooses configurations; default: ``validation_…`` where the metric is ``test_…`` and
            the problem records both, so that nothing is chosen by the data that grade it; else the metric.
        tuning_seeds: Seeds of the tuning runs, none of them fresh.
        label: What the report calls the problem.
        progress: As in `run`.

    Raises:
        ValueError: for an argument out of range, an unknown name (with a suggestion) or an unknown metric.
        TypeError: if a method does not fit the problem.
        Interrupted: on Ctrl-C once a method has been measured; it holds the comparison of those that have.
    """
    how = _how(problem, steps, seeds, budget, metric, target, goal, probes, every, tuned_on, tuning_seeds, progress)
    candidates = _resolve(methods)
    settings = {
        "problem": label or type(problem).__name__,
        "methods": {n: {"space": {k: repr(d) for k, d in s.items()}} for n, (_, s) in candidates.items()},
        "steps": steps,
        "seeds": len(how.seeds),
        "budget": budget,
        "metric": how.metric,
        "tuned_on": how.tuned_on,
        "goal": how.goal,
        "target": target,
        "fresh_seeds": how.seeds,
        "tuning_seeds": how.tuning_seeds,
    }
    begun = time.perf_counter()
    entries: dict[str, Entry] = {}

    def measured() -> Comparison:
        if not any(np.isfinite(e.final).any() for e in entries.values()):
            settings["not_finite"] = where_not_finite(problem)
        return Comparison(entries, how.metric, how.goal, target, settings, time.perf_counter() - begun)

    try:
        with _progress.task("compare", len(candidates), "method", progress) as advance:
            for name, (factory, space) in candidates.items():
                entries[name] = _measure(name, problem, factory, space, how)
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


@dataclass(frozen=True)
class _How:
    """What all methods of a comparison share."""

    budget: int
    seeds: list[int]
    tuning_seeds: list[int]
    metric: str
    tuned_on: str
    goal: Goal
    target: float | None
    run: dict[str, Any]

    @property
    def sign(self) -> float:
        return 1.0 if self.goal == "min" else -1.0


def _how(
    problem: Problem,
    steps: int,
    seeds: int | Sequence[int],
    budget: int,
    metric: str | None,
    target: float | None,
    goal: Goal | None,
    probes: Mapping[str, Any] | None,
    every: int | None,
    tuned_on: str | None,
    tuning_seeds: Sequence[int],
    progress: bool | None,
) -> _How:
    if not isinstance(problem, Problem):
        raise TypeError(f"problem: expected an attractor Problem, got {type(problem).__name__}")
    fresh = list(range(int(seeds))) if isinstance(seeds, int | np.integer) else [int(s) for s in seeds]
    for name, count in (("seeds", len(fresh)), ("budget", budget), ("steps", steps)):
        if count < 1:
            raise ValueError(f"{name}: expected a whole number >= 1, got {count}")
    if shared := set(fresh) & set(tuning_seeds):
        raise ValueError(f"tuning_seeds: expected other seeds than the fresh ones, both have {sorted(shared)[0]}")
    measured = {k: as_probe(p) for k, p in (problem.probes if probes is None else probes).items()}
    metric = next(iter(measured), "") if metric is None else metric
    if tuned_on is None:
        twin = metric.replace("test_", "validation_", 1)
        tuned_on = twin if metric.startswith("test_") and twin in measured else metric
    for name, given in (("metric", metric), ("tuned_on", tuned_on)):
        if given not in measured:
            raise ValueError(f"{name}: expected one of {', '.join(measured)}, got {given!r}")
    goal = goal or measured[metric].goal
    if goal not in ("min", "max"):
        raise ValueError(f"goal: expected 'min' or 'max', got {goal!r}")
    shared_arguments = {"steps": steps, "probes": measured, "every": every, "lanes": len(fresh), "progress": progress}
    return _How(budget, fresh, list(tuning_seeds), metric, tuned_on, goal, target, shared_arguments)


def _measure(name: str, problem: Problem, factory: Any, space: Space, how: _How) -> Entry:
    """Tune one method, and run its winner on fresh seeds."""
    made = isinstance(factory, Method | optax.GradientTransformation)
    make: Callable[..., Any] = functools.partial(_given, factory) if made else factory
    make = registry.with_horizon(make, how.run["steps"])
    configs = registry.sample(space, how.budget)
    tuning = run(problem, make, sweep=configs, seeds=how.tuning_seeds, **how.run)
    chosen = _winner(tuning, how)
    winner = configs[chosen]
    trace = run(problem, make, sweep=[winner], seeds=how.seeds, **how.run)
    curves = how.sign * trace[how.metric].values[0]
    bad = trace.diverged.values[0] | ~np.isfinite(curves[:, -1])
    final = np.where(bad, np.inf, curves[:, -1])
    return Entry(
        name,
        tuning,
        chosen,
        winner,
        trace,
        _first_hit(curves, trace.dataset["step"].values, None if how.target is None else how.sign * how.target),
        how.sign * final,
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


def _winner(tuning: Trace, how: _How) -> int:
    """Fewest mean steps to the target, ties broken by the mean final value."""
    finals = (how.sign * tuning.last(how.tuned_on).values).mean(1)
    return int(np.lexsort((finals, _tuning_steps(tuning, how.tuned_on, how.target, how.sign)))[0])


def _tuning_steps(tuning: Trace, metric: str, target: float | None, sign: float) -> np.ndarray:
    """Per configuration, the mean penalized steps to the target over the tuning seeds; zeros without a target."""
    values = sign * tuning[metric].values  # (config, seed, step)
    if target is None:
        return np.zeros(len(values))
    at = tuning.dataset["step"].values
    hits = _first_hit(values.reshape(-1, values.shape[2]), at, sign * target)
    return _penalized(hits, int(at[-1])).reshape(values.shape[:2]).mean(1)


def _penalized(steps_to_target: np.ndarray, steps: int) -> np.ndarray:
    return np.where(np.isfinite(steps_to_target), steps_to_target, PENALTY * steps)


def where_not_finite(problem: Problem) -> str:
    """In words, where a problem's data or its loss at the start are not finite numbers; "" where they are."""
    named = jax.tree_util.tree_leaves_with_path(getattr(problem, "full", None))
    start = problem.init(jax.random.key(0))
    named = [("data", *row) for row in named]
    named += [("starting point", *row) for row in jax.tree_util.tree_leaves_with_path(start)]
    for what, path, leaf in named:
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) and (bad := np.argwhere(~np.isfinite(leaf))).size:
            at = ", ".join(map(str, bad[0].tolist()))
            return f"{what}{jax.tree_util.keystr(path)} is {leaf[tuple(bad[0])]} at [{at}] ({len(bad)} such entries)"
    return ""


def _first_hit(curves: np.ndarray, steps: np.ndarray, target: float | None) -> np.ndarray:
    """Per curve, the first recorded step whose value is at most the target; infinite if none is."""
    if target is None:
        return np.full(len(curves), np.inf)
    with np.errstate(invalid="ignore"):
        hit = curves <= target
    return np.where(hit.any(1), steps[hit.argmax(1)], np.inf)
