"""The runs of a comparison of loops, a (method, configuration, seed) each: where they run, and what they add up to."""

import math
import os
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from attractor import progress as _progress
from attractor import registry
from attractor.backends import spread
from attractor.loops import Loop, LoopError, MakeOptimizer, Unit, complete, execute, goal_of
from attractor.method import Method
from attractor.outcomes import Outcome, keep, kept, path_of, text_of
from attractor.places import Place
from attractor.plan import Candidate, Plan, decisive
from attractor.probe import Goal
from attractor.results import Entry, best_configuration, entry_of
from attractor.trace import SECONDS, Timing, Trace, build
from attractor.transformations import is_transformation


class Units:
    """The work of a comparison of loops; see `attractor.compare` for the arguments.

    Raises:
        TypeError: for a registered method that is no optax transformation.
    """

    def __init__(
        self,
        loop: Loop,
        found: Mapping[str, Candidate],
        how: Plan,
        stop_hopeless: bool = False,
        jobs: int = 1,
        folder: Place | None = None,
        backend: str = "local",
        address: str | None = None,
    ):
        goal = how.goal or (loop.goal if how.metric in (None, loop.metric) else None)
        self.loop, self.how = loop, replace(how, metric=how.metric or loop.metric, goal=goal)
        self.stop_hopeless, self.jobs, self.folder = stop_hopeless, jobs, folder
        self.cluster = {"backend": backend, "address": address}
        self.makes = {
            name: [
                MakeOptimizer(name, config, c.factory, c.registered) for config in registry.sample(c.space, how.budget)
            ]
            for name, c in found.items()
        }
        for name, makes in self.makes.items():
            checked = makes[0].registered and complete(makes[0].factory, makes[0].config)
            made = makes[0](steps=1) if checked else None
            if isinstance(made, Method) and not is_transformation(made):
                raise TypeError(
                    f"methods: {name!r} needs an attractor Problem, which a Loop is not; "
                    "a Loop takes optax transformations, and factories of anything with (factory, space)"
                )
        self.outcomes: dict[tuple[str, int, int], Outcome] = {}
        self._measured: list[str] = []  # what the first run yielded, of those that yielded something
        self.chosen: dict[str, int] = {}
        self._texts: dict[str, str] = {}  # of the loop's code, under "", and of the factories'

    def run(self, progress: bool | None = None) -> None:
        """Tune all methods and measure the winners.

        Raises:
            LoopError: if the loop cannot be compared.
            ValueError: if every run fails at the same place, or something cannot be sent to another process.
        """
        names, how = list(self.makes), self.how
        # One after another where that loses nothing: stopped in the middle, the first methods are done.
        groups = [[name] for name in names] if self.jobs == 1 else [names]
        total = sum(len(makes) * len(how.tuning_seeds) + len(how.seeds) for makes in self.makes.values())
        with _progress.task("compare", total, "run", progress) as advance:
            for group in groups:
                tuned = {n: range(len(self.makes[n])) for n in group}
                first = {n: r[: (len(r) + 1) // 2] if self.stop_hopeless else r for n, r in tuned.items()}
                self._do([u for n in group for u in self._units(n, first[n], how.tuning_seeds)], advance)
                if self.stop_hopeless:
                    rest = {n: r[len(first[n]) :] for n, r in tuned.items()}
                    bars = {n: self._bar(n, first[n]) for n in group}
                    self._do([u for n in group for u in self._units(n, rest[n], how.tuning_seeds, bars[n])], advance)
                self.chosen |= {name: self._best(name) for name in group}
                if group == names:
                    self._refuse_what_is_no_result()
                self._do([u for n in group for u in self._units(n, [self.chosen[n]], how.seeds)], advance)
            self._refuse_what_is_no_result()

    def entries(self) -> dict[str, Entry]:
        """The methods that have been measured whole."""
        fresh = {name: self._of(name, [self.chosen[name]], self.how.seeds) for name in self.chosen}
        fresh = {name: outcomes for name, outcomes in fresh.items() if len(outcomes) == len(self.how.seeds)}
        metric, _, goal = self._decided
        at = _axis(o for outcomes in fresh.values() for o in outcomes)  # one for all, or penalties would differ
        return {
            name: entry_of(
                name,
                self._tuning(name),
                self.chosen[name],
                self.makes[name][self.chosen[name]].config,
                self._trace(name, [self.chosen[name]], self.how.seeds, outcomes, at),
                metric,
                goal,
                self.how.target,
            )
            for name, outcomes in fresh.items()
        }

    def settings(self) -> dict[str, Any]:
        """What was not given, but follows from what the loop yielded."""
        metric, tuned_on, goal = self._decided
        fresh = [o for name in self.chosen for o in self._of(name, [self.chosen[name]], self.how.seeds)]
        told = {"loop": self.loop.name, "records": self.how.steps, "steps": _axis(fresh)[-1]}
        told |= {"metric": metric, "tuned_on": tuned_on, "goal": goal}
        return told | {"stop_hopeless": self.stop_hopeless, "jobs": self.jobs, "backend": self.cluster["backend"]}

    def why(self) -> str:
        """The commonest of the failures."""
        reasons = Counter(o.described for o in self.outcomes.values() if o.failure)
        return f"most often: {reasons.most_common(1)[0][0]}" if reasons else ""

    @property
    def _decided(self) -> tuple[str, str, Goal]:
        """Metric, what chooses configurations, and the metric's goal."""
        how, names = self.how, self._measured
        if not names:  # nothing was measured at all
            metric = how.metric or "metric"
            return metric, how.tuned_on or metric, how.goal or goal_of(metric)
        metric, tuned_on = decisive(names, how.metric, how.tuned_on)
        return metric, tuned_on, self.how.goal or goal_of(metric)

    def _units(
        self, name: str, indices: Sequence[int], seeds: Sequence[int], bar: dict[int, float] | None = None
    ) -> list[Unit]:
        return [Unit(self.makes[name][i], i, seed, bar or {}) for i in indices for seed in seeds]

    def _of(self, name: str, indices: Sequence[int], seeds: Sequence[int]) -> list[Outcome]:
        """The outcomes so far of some of a method's units, by configuration and then seed."""
        places = [unit.place for unit in self._units(name, indices, seeds)]
        return [self.outcomes[place] for place in places if place in self.outcomes]

    def _tuning(self, name: str) -> Trace:
        indices = range(len(self.makes[name]))
        outcomes = self._of(name, indices, self.how.tuning_seeds)
        return self._trace(name, indices, self.how.tuning_seeds, outcomes, _axis(outcomes))

    def _trace(
        self, name: str, indices: Sequence[int], seeds: list[int], outcomes: list[Outcome], at: list[int]
    ) -> Trace:
        metric, tuned_on, goal = self._decided
        configs = [self.makes[name][i].config for i in indices]
        trace = trace_of(outcomes, configs, seeds, at, (metric, tuned_on))
        trace.dataset.attrs |= {"problem": self.loop.name, "method": name}
        for measured in (metric, tuned_on):
            trace.dataset[measured].attrs["goal"] = goal
        return trace

    def _best(self, name: str) -> int:
        _, tuned_on, goal = self._decided
        return best_configuration(self._tuning(name), tuned_on, self.how.target, goal, self.how.by)

    def _bar(self, name: str, indices: Sequence[int]) -> dict[int, float]:
        """By step, the median of the best values so far of runs that were not stopped; see `attractor.compare`."""
        outcomes = self._of(name, indices, self.how.tuning_seeds)
        _, tuned_on, goal = self._decided
        at = _axis(outcomes)
        curves = np.stack([_on(o, o.values.get(tuned_on, []), at) for o in outcomes]) * (1 if goal == "min" else -1)
        bars = np.median(np.minimum.accumulate(np.where(np.isnan(curves), np.inf, curves), axis=1), axis=0)
        return {step: float(bar) for step, bar in zip(at, bars, strict=True) if step >= at[-1] / 4}

    def _refuse_what_is_no_result(self) -> None:
        """Where every run raised at one place, or yielded nothing, the fault is in the loop and not in a method."""
        outcomes = list(self.outcomes.items())
        kinds = {(o.failure.split(":")[0], o.place) if o.place or not o.at else None for _, o in outcomes}
        if len(kinds) == 1 and None not in kinds:
            (name, index, seed), first = outcomes[0]
            unit = Unit(self.makes[name][index], index, seed, {})
            raise LoopError(
                f"train: every run of every method failed alike: {first.described}; the first was that of {unit}"
            )

    def _do(self, units: Sequence[Unit], advance: Callable[[float], None]) -> None:
        """Run units, those whose outcome is kept in a file excepted."""
        waiting = []
        for unit in units:
            file = self._file(unit)
            if file is not None and (found := kept(file)) is not None:
                self.outcomes[unit.place] = found
                advance(1)
            else:
                waiting.append((unit, file))
        threads, far = None, self.cluster["backend"] != "local"
        if self.jobs > 1 and waiting and not far:
            self._require_importable([unit.make for unit, _ in waiting])
            threads = max((os.cpu_count() or 1) // self.jobs, 1)
        try:
            work = partial(_work, self.loop, self.how, 1 if far else threads)
            files = {unit.place: file for unit, file in waiting} if far else {}  # what runs far off is kept here
            items = [(unit, None) for unit, _ in waiting] if far else waiting
            for (unit, _), outcome in spread(work, items, self.jobs, lost=_lost, **self.cluster):
                if outcome.refused and not any(o.values for o in self.outcomes.values()):
                    raise LoopError(f"{outcome.failure}; met in the run of {unit}")
                _keep(files.get(unit.place), unit, outcome)
                self.outcomes[unit.place] = outcome
                advance(1)
        except BrokenProcessPool as error:
            raise RuntimeError(
                "jobs: no other process could begin; a script that compares with jobs has to do so below "
                "`if __name__ == '__main__':`"
            ) from error
        self._agree([unit.place for unit in units])

    def _agree(self, places: Sequence[tuple[str, int, int]]) -> None:
        """Where no metric was given, the first of all runs decides, and one that does not yield the same has failed."""
        outcomes = {place: self.outcomes[place] for place in places if self.outcomes[place].values}
        self._measured = self._measured or next((list(o.values) for o in outcomes.values()), [])
        decide = dict.fromkeys(self._decided[:2])
        for place, outcome in outcomes.items():
            absent = [name for name in decide if name not in outcome.values]
            if absent and not outcome.failure:
                told = f"metric: {self.loop.name} yielded {', '.join(outcome.values)}, and no {absent[0]} as elsewhere"
                self.outcomes[place] = Outcome(failure=told, refused=True)

    def _file(self, unit: Unit) -> Place | None:
        """Where a unit's outcome is kept: named by all that it depends on."""
        if self.folder is None:
            return None
        for name, code in (("", self.loop.train), (unit.make.name, unit.make.factory)):
            if name not in self._texts:
                self._texts[name] = text_of(code)
        identity = {
            "train": self._texts[""],
            "factory": self._texts[unit.make.name],
            "config": unit.make.config,
            "seed": unit.seed,
            "bar": unit.bar,
            "how": [self.how.steps, self.how.metric, self.how.tuned_on, self.how.goal],
        }
        return path_of(self.folder, unit.make.name, identity)

    def _require_importable(self, makes: Iterable[MakeOptimizer]) -> None:
        """Processes are started afresh: what they work on has to be found by its name there."""
        typed = getattr(self.loop.train, "__module__", "") == "__main__" and not hasattr(
            sys.modules["__main__"], "__file__"
        )
        for what, thing in ((f"train ({self.loop.name})", self.loop), *((make.name, make) for make in makes)):
            try:
                pickle.dumps(thing)
                reason = "it was typed into a notebook or at a prompt" if typed else ""
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                reason = str(error)
            if reason:
                raise ValueError(
                    f"jobs: {what} cannot be sent to another process: {reason}; define it at the top level of a file, "
                    "or take jobs=1"
                )


def _work(loop: Loop, how: Plan, threads: int | None, item: tuple[Unit, Place | None]) -> Outcome:
    """Run a unit and keep its outcome: what a process does."""
    unit, file = item
    if threads is not None and (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)  # or every process would take all cores
    outcome = execute(loop, unit, how)
    _keep(file, unit, outcome)
    return outcome


def _lost(item: tuple[Unit, Place | None], ended: str) -> Outcome:
    """Of a run that ended its process, twice; it is not kept, as another time there may be more memory."""
    return Outcome(failure=f"its process ended: {ended}")


def _keep(file: Place | None, unit: Unit, outcome: Outcome) -> None:
    if file is not None and not outcome.refused:
        keep(file, outcome, {"method": unit.make.name, "config": unit.make.config, "seed": unit.seed})


def trace_of(
    outcomes: Sequence[Outcome], configs: list[dict[str, Any]], seeds: list[int], at: list[int], names: Iterable[str]
) -> Trace:
    """Outcomes, in the order of configurations and then seeds, as a `Trace`.

    Arguments:
        outcomes: C times S of them.
        configs: C configurations.
        seeds: S seeds.
        at: The trace's steps. A run that ended well before the last of them keeps its last values.
        names: Measurements that are in the trace even if no run has them.
    """
    shape = (len(configs), len(seeds), len(at))
    measured = dict.fromkeys([*(name for o in outcomes for name in o.values), *names])
    values = {n: np.stack([_on(o, o.values.get(n, []), at) for o in outcomes]).reshape(shape) for n in measured}
    values[SECONDS] = np.stack([_on(o, o.seconds, at) for o in outcomes]).reshape(shape)
    ends = np.asarray([_end(o, at) for o in outcomes])
    finite = (np.asarray(at) < ends[:, None]).reshape(shape)
    failures = [
        {"config": i // len(seeds), "seed": seeds[i % len(seeds)], "reason": o.failure, "place": o.place}
        for i, o in enumerate(outcomes)
        if o.failure
    ]
    started = [o for o in outcomes if o.at]
    timing = Timing(run_seconds=sum(o.seconds[-1] for o in started), lane_steps=sum(o.at[-1] for o in started))
    trace = build(values, finite, at, configs, seeds, {"failures": failures}, None, timing)
    for name in measured:
        trace.dataset[name].attrs["goal"] = goal_of(name)
    return trace


def _end(outcome: Outcome, at: list[int]) -> float:
    """The first step of the axis that a failed run did not record well; the last, if it recorded all of them."""
    if not outcome.failure:
        return math.inf
    well = outcome.at if outcome.place else outcome.at[:-1]  # what raised did so after its last record
    return next((step for step in at if not well or step > well[-1]), at[-1])


def _on(outcome: Outcome, values: Sequence[float], at: list[int]) -> np.ndarray:
    """A run's values on an axis, each kept until the next; NaN before the first, and after a failure."""
    if not outcome.at or not values:
        return np.full(len(at), np.nan)
    found = np.searchsorted(outcome.at, at, side="right") - 1
    late = np.asarray(at) > (outcome.at[-1] if outcome.failure else math.inf)
    return np.where((found < 0) | late, np.nan, np.asarray(values, float)[np.maximum(found, 0)])


def _axis(outcomes: Iterable[Outcome]) -> list[int]:
    """All steps that any of the runs recorded; ``[0]`` if none did."""
    return sorted({step for o in outcomes for step in o.at}) or [0]
