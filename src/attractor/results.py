"""What a comparison found: tuned methods, their table, and what may be concluded from it."""

import os
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from attractor.names import unknown
from attractor.probe import Goal
from attractor.stats import Interval, mean, paired_difference, paired_ratio
from attractor.trace import SECONDS, Trace, describe

PENALTY = 10  # a run that never reaches the target counts as so many times the steps it had

Statistic = Literal["final", "steps_to_target", "flops_to_target", "seconds_to_target"]
By = Literal["steps", "seconds"]


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
        flops_per_step: By XLA's cost analysis; NaN for a `Loop`.
        seconds_per_step: Wall seconds per step and lane in the compiled program, probes included; in each run of
            a `Loop`, evaluations included.
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
        return _penalized(self.steps_to_target, float(self.trace.dataset["step"].values[-1]))

    @property
    def clock(self) -> np.ndarray:
        """Wall seconds since the start, per fresh seed and recorded step: measured in each run of a `Loop`."""
        if SECONDS in self.trace.metrics:
            return self.trace[SECONDS].values[0]
        steps = self.trace.dataset["step"].values
        return np.broadcast_to(steps * self.seconds_per_step, (len(self.final), len(steps)))

    @property
    def seconds_to_target(self) -> np.ndarray:
        """Per fresh seed, the `clock` at the target; infinite where it was not met."""
        at = self.trace.dataset["step"].values
        hit = np.searchsorted(at, np.where(self.reached, self.steps_to_target, at[0]))
        return np.where(self.reached, self.clock[np.arange(len(hit)), hit], np.inf)


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
        known = {
            "steps_to_target": entry.steps_to_target,
            "flops_to_target": entry.steps_to_target * entry.flops_per_step,
            "seconds_to_target": entry.seconds_to_target,
        }
        if what not in known:
            raise ValueError(f"what: expected final, {', '.join(known)}, got {what!r}")
        if self.target is None:
            raise ValueError(f"target: {what} needs a target; pass compare(…, target=…)")
        return known[what]

    def median(self, what: Statistic, name: str) -> float:
        """The median of a statistic over the fresh seeds; of an even number the upper one, which a run has attained."""
        values = np.sort(self.statistic(what, name))
        return float(values[len(values) // 2])

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
    def criterion(self) -> Literal["steps_to_target", "seconds_to_target", "final"]:
        """What methods are ranked by, which is what they were tuned for.

        Steps (or seconds) to the target if there is one and somebody reached it; else the final metric.
        """
        if self.target is None or not any(e.reached.any() for e in self.entries.values()):
            return "final"
        return "seconds_to_target" if self.settings.get("by") == "seconds" else "steps_to_target"

    def _scores(self) -> dict[str, np.ndarray]:
        """A number per fresh seed, smaller is better, by method."""
        if self.criterion == "steps_to_target":
            return {name: entry.penalized_steps for name, entry in self.entries.items()}
        if self.criterion == "seconds_to_target":
            whole = max(float(np.nanmax(e.clock)) for e in self.entries.values())
            return {name: _penalized(entry.seconds_to_target, whole) for name, entry in self.entries.items()}
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

    @property
    def tied(self) -> list[str]:
        """Methods that share the first place: no other has a better mean of the criterion."""
        scores = {name: float(s.mean()) for name, s in self._scores().items()}
        best = scores[self.ranking[0]]
        return [name for name in self.ranking if np.isclose(scores[name], best, rtol=1e-12, atol=0)]

    def table(self) -> pd.DataFrame:
        """A row per method, best first: what it was tuned for, against the best; then the rest, and the costs.

        Columns: with a target ``steps to target`` (median) and ``times the steps of <best>``, or the same for seconds,
        and the final metric is marked as not tuned for; without one ``final <metric>`` and ``vs <best>``.
        """
        best, chance, criterion = self.ranking[0], self.probability_best(), self.criterion
        counted = any(np.isfinite(e.flops_per_step) for e in self.entries.values())
        costs: tuple[Statistic, ...] = ("steps_to_target", "flops_to_target", "seconds_to_target")
        rows = []
        for name in self.ranking:
            entry = self[name]
            row: dict[str, Any] = {"method": name}
            if criterion != "final":
                row[criterion.replace("_", " ")] = self.median(criterion, name)
                against = None if name == best else self.ratio(criterion, name, best)
                row[f"times the {criterion.split('_')[0]} of {best}"] = against
            else:
                row[f"final {self.metric}"] = mean(entry.final)
                row[f"vs {best}"] = None if name == best else self.difference(name, best)
            row["best with probability"] = chance[name]
            if any(e.trace.diverged.any() for e in self.entries.values()):
                row["diverged"] = f"{int(entry.trace.diverged.sum())}/{entry.final.size}" + _reason(entry.trace)
            if self.target is not None:
                row["reached target"] = f"{int(entry.reached.sum())}/{entry.reached.size}"
            if criterion != "final":
                row[f"final {self.metric} (not tuned for)"] = mean(entry.final)
                for what in costs if counted else costs[::2]:
                    row[what.replace("_", " ")] = self.median(what, name)
            if counted:
                row["MFLOP per step"] = entry.flops_per_step / 1e6
            row["ms per step"] = entry.seconds_per_step * 1e3
            row["tuned"] = describe(entry.winner)
            rows.append(row)
        return pd.DataFrame(rows).set_index("method")

    def tuning_scores(self, name: str) -> np.ndarray:
        """Per configuration tried, what it was chosen by: mean steps (or seconds) to the target, or mean final value.

        Infinite where a run diverged.
        """
        tuning, metric = self[name].tuning, self.settings["tuned_on"]
        finals = tuning.last(metric).values.mean(1)
        if self.target is None:
            return finals
        sign = 1.0 if self.goal == "min" else -1.0
        costs = tuning_costs(tuning, metric, self.target, sign, self.settings.get("by", "steps"))
        return np.where(np.isfinite(finals), costs, np.inf)

    def _repr_html_(self) -> str:
        """In a notebook: the table as the report has it, under the sentence that sums it up."""
        from attractor.report import fragment

        return fragment(self)

    def export(self, path: str | os.PathLike[str]) -> str:
        """Write the table as CSV, Parquet, Markdown or LaTeX, by the file's ending, to a local file or any fsspec URL.

        See `attractor.tables.export`.
        """
        from attractor.tables import export

        return export(self.table(), path)

    def report(self, path: str | os.PathLike[str]) -> str:
        """Write a self-contained HTML page (works offline), to a local file or any fsspec URL; returns where."""
        from attractor.report import write

        return write(self, path)


class Incomplete(RuntimeError):
    """A method of `compare` raised an exception, which is the cause of this one; what was finished before is kept.

    Attributes:
        comparison: Of the methods that were measured.
        missing: The names of those that were not.
    """

    def __init__(self, comparison: Comparison, missing: list[str], error: Exception):
        done = ", ".join(comparison.entries)
        super().__init__(f"{missing[0]}: {type(error).__name__}: {error}\n.comparison of this exception keeps {done}")
        self.comparison, self.missing = comparison, missing


class Interrupted(KeyboardInterrupt):
    """`compare` was stopped; what it had finished is kept.

    Attributes:
        comparison: Of the methods that were measured.
        missing: The names of those that were not.
    """

    def __init__(self, comparison: Comparison, missing: list[str]):
        super().__init__(f"stopped before {', '.join(missing)}")
        self.comparison, self.missing = comparison, missing


def entry_of(
    name: str,
    tuning: Trace,
    chosen: int,
    winner: dict[str, Any],
    trace: Trace,
    metric: str,
    goal: Goal,
    target: float | None,
    flops_per_step: float = float("nan"),
) -> Entry:
    """An `Entry` from its traces: the tuning's, and the winner's on fresh seeds."""
    sign = 1.0 if goal == "min" else -1.0
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
        flops_per_step,
        (tuning.timing + trace.timing).seconds_per_step,
    )


def best_configuration(tuning: Trace, metric: str, target: float | None, goal: Goal, by: By = "steps") -> int:
    """The one with the least mean cost of reaching the target, ties broken by the mean final value."""
    sign = 1.0 if goal == "min" else -1.0
    finals = (sign * tuning.last(metric).values).mean(1)
    return int(np.lexsort((finals, tuning_costs(tuning, metric, target, sign, by)))[0])


def tuning_costs(tuning: Trace, metric: str, target: float | None, sign: float, by: By = "steps") -> np.ndarray:
    """Per configuration, the mean penalized steps or seconds to the target over the tuning seeds; zeros without one."""
    values = sign * tuning[metric].values  # (config, seed, step)
    if target is None:
        return np.zeros(len(values))
    at = np.broadcast_to(tuning.dataset["step"].values, values.shape)
    at = tuning[SECONDS].values if by == "seconds" else at
    hits = _first_hit(values.reshape(-1, values.shape[2]), at.reshape(-1, values.shape[2]), sign * target)
    return _penalized(hits, float(np.nanmax(at))).reshape(values.shape[:2]).mean(1)


def _penalized(costs: np.ndarray, whole: float) -> np.ndarray:
    return np.where(np.isfinite(costs), costs, PENALTY * whole)


def _first_hit(curves: np.ndarray, at: np.ndarray, target: float | None) -> np.ndarray:
    """Per curve, where (the recorded step, say) its value is first at most the target; infinite if it never is."""
    if target is None:
        return np.full(len(curves), np.inf)
    with np.errstate(invalid="ignore"):
        hit = curves <= target
    first = np.take_along_axis(np.broadcast_to(at, curves.shape), hit.argmax(1)[:, None], 1)[:, 0]
    return np.where(hit.any(1), first, np.inf)


def _reason(trace: Trace) -> str:
    """Why most of the failed runs failed, if that is known."""
    reasons = [failure["reason"] for failure in trace.failures]
    return f": {max(reasons, key=reasons.count)}" if reasons else ""
