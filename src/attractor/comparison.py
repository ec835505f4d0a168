"""Honest comparisons: every method tuned with the same budget, then measured on fresh paired seeds."""

import contextlib
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import attractor
from attractor import progress as _progress
from attractor import registry
from attractor.backends import carry, require_backend
from attractor.checkpoint import folder_of
from attractor.engine import flops_per_step, run
from attractor.loops import Loop, decisive
from attractor.method import as_method, require
from attractor.outcomes import file_name
from attractor.places import Place
from attractor.plan import Candidate, Plan, called, candidates, plan, source
from attractor.probe import Goal, as_probe
from attractor.problem import Problem
from attractor.results import By, Comparison, Entry, Incomplete, Interrupted, best_configuration, entry_of
from attractor.units import Units

TUNING_SEEDS = (1_000_003, 1_000_033)  # disjoint from the seeds 0, 1, 2 … of the final measurement


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
    never does counting ten times all its steps); without a target, or in a tie, the one with the best final metric.

    Arguments:
        method: A registered name, a factory such as ``optax.adam`` (searched over its registered space), a pair
            ``(factory, space)``, or a made method (nothing to tune).
        name: What the entry is called; default: the method's own name.

    The others are those of `compare`.
    """
    name = name or called(method)
    how = plan(steps, seeds, budget, metric, target, goal, "steps", tuned_on, tuning_seeds)
    return _Programs(problem, candidates({name: method}), how, probes, every, None, progress).measure(name)


def compare(
    problem: Problem | Loop,
    methods: Sequence[Any] | Mapping[str, Any],
    *,
    steps: int | None = None,
    seeds: int | Sequence[int] = 8,
    budget: int = 16,
    metric: str | None = None,
    target: float | None = None,
    goal: Goal | None = None,
    by: By = "steps",
    probes: Mapping[str, Any] | None = None,
    every: int | None = None,
    tuned_on: str | None = None,
    tuning_seeds: Sequence[int] = TUNING_SEEDS,
    label: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    backend: str = "local",
    address: str | None = None,
    stop_hopeless: bool = False,
    progress: bool | None = None,
) -> Comparison:
    """Compare methods on a problem, all with the same tuning budget.

    Each method tries ``budget`` quasi-random configurations of its search space on the tuning seeds; see `tune` for
    which one wins. The winner is run again on ``seeds`` fresh seeds, which all methods share. Methods are ranked by
    what they were tuned for.

    Arguments:
        problem: What to solve, or a `Loop`: a training loop in any framework.
        methods: Registered names, factories and pairs ``(factory or name, space)``, or ``{name: what}`` where ``what``
            is one of these or a made method (nothing to tune). A factory such as ``optax.adam`` is searched over its
            registered space. For a `Loop`, a factory may make anything, such as ``torch.optim.SGD``.
        steps: Iterations per run, by default 1,000; of a `Loop`, how many dicts to take, by default all it yields.
        seeds: Fresh seeds for the final measurement: how many, or which. One seed gives no interval.
        budget: Configurations each method may try.
        metric: Which probe decides; default: the problem's first.
        target: A value of the metric to be reached.
        goal: ``"min"`` or ``"max"``; default: the probe's own direction, or the loop's.
        by: With a target, what to tune for and to rank by: ``"steps"`` to it, or for a `Loop` wall ``"seconds"``.
        probes: Measurements; default: the problem's own. A `Loop` measures itself.
        every: Steps between recordings, which is also the resolution of steps-to-target; default: steps / 100.
        tuned_on: The probe that chooses configurations; default: ``validation_…`` where the metric is ``test_…`` and
            the problem records both, so that nothing is chosen by the data that grade it; else the metric.
        tuning_seeds: Seeds of the tuning runs, none of them fresh.
        label: What the report calls the problem.
        checkpoint: A folder, or any fsspec URL of one. What is done is kept there; the same call again goes on from
            it, here or on a cluster, to the same result.
            Every run of a `Loop` has its own file, which counts as long as method, configuration, seed, steps, and the
            source of the loop with what it uses of the user's own code are the same.
        jobs: Processes for the runs of a `Loop`; a problem is one program, which uses all cores by itself.
        backend: ``"local"``, or ``"ray"``: on a Ray cluster the unit of work is a run of a `Loop`, and of a problem a
            method with all its configurations; see `attractor.cluster.spread`.
        address: ``host:port`` of a running cluster; default: this machine's cores.
        stop_hopeless: While a `Loop` is tuned, stop configurations that are far behind: the first half of a method's
            configurations run whole, and of the others a run ends when, from a quarter of its steps on, its best value
            so far is worse than the median of theirs at that step. Every method is treated so, on its own runs; fresh
            seeds are always run whole.
        progress: As in `run`.

    Raises:
        ValueError: for an argument out of range, an unknown name (with a suggestion) or an unknown metric; if every run
            of a `Loop` fails at the same place, or it yields no numbers.
        TypeError: if a method does not fit the problem.
        CheckpointError: if ``checkpoint`` holds the state of another comparison, or a damaged file.
        Incomplete: if a method raises an exception once another has been measured; it holds the comparison of those.
        Interrupted: on Ctrl-C once a method has been measured; it holds the comparison of those that have. While JAX is
            at work, the first Ctrl-C takes effect where that is safe, at the latest when a program has been compiled.
    """
    found = candidates(methods)
    how = plan(steps, seeds, budget, metric, target, goal, by, tuned_on, tuning_seeds)
    require_backend(backend, address)
    folder = None if checkpoint is None else folder_of(checkpoint)
    if isinstance(problem, Loop):
        if probes is not None or every is not None:
            raise ValueError("probes, every: a Loop measures what it yields, when it yields it; leave them out")
        work = Units(problem, found, how, stop_hopeless, jobs, folder, backend, address)
    else:
        for name, given, only in (("jobs", jobs, 1), ("stop_hopeless", stop_hopeless, False), ("by", by, "steps")):
            if given != only:
                raise ValueError(f"{name}: expected {only!r}, got {given!r}; others are for a Loop")
        work = _Programs(problem, found, how, probes, every, folder, progress, backend, address)
    begun = time.perf_counter()

    def measured() -> Comparison:
        entries = work.entries()
        settings = {
            "problem": label or (problem.name if isinstance(problem, Loop) else type(problem).__name__),
            "methods": {n: {"space": {k: repr(d) for k, d in c.space.items()}} for n, c in found.items()},
            "steps": how.steps,
            "seeds": len(how.seeds),
            "budget": budget,
            "target": target,
            "by": by,
            "fresh_seeds": how.seeds,
            "tuning_seeds": how.tuning_seeds,
            "versions": {
                "attractor": attractor.__version__,
                "jax": jax.__version__,
                "python": platform.python_version(),
            },
            "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count() or 1} cores",
        } | work.settings()
        settings["again"] = _again(
            problem, found, settings, {"goal": goal, "tuned_on": tuned_on, "every": every}, probes
        )
        if not any(np.isfinite(e.final).any() for e in entries.values()):
            settings["not_finite"] = work.why()
        return Comparison(entries, settings["metric"], settings["goal"], target, settings, time.perf_counter() - begun)

    try:
        work.run(progress)
    except (KeyboardInterrupt, Exception) as stop:
        done = work.entries()
        missing = [name for name in found if name not in done]
        if not done or (isinstance(stop, Exception) and not missing):  # nothing to keep, or the fault is in all of it
            raise
        if isinstance(stop, Exception):
            raise Incomplete(measured(), missing, stop) from stop
        raise Interrupted(measured(), missing) from stop
    return measured()


def _again(
    problem: Problem | Loop,
    found: Mapping[str, Candidate],
    settings: dict[str, Any],
    others: dict[str, Any],
    probes: Mapping[str, Any] | None,
) -> str:
    """The call that repeats a comparison, under the imports it takes and the names that only its author can define."""
    imports, own = {"from attractor import compare"}, []

    def write(what: Any, name: str, kind: str) -> str:
        if (text := source(what)) is None:
            own.append(f"# {name}: {kind}, an object of your program; define it here")
            return name
        imports.update(text[1])
        return text[0]

    if isinstance(problem, Loop):
        imports.add("from attractor import Loop")
        where = f"Loop({write(problem.train, problem.name, 'the training loop')})"
        steps, more = settings["records"], ("by", "stop_hopeless")
    else:
        where = write(problem, "problem", f"the {type(problem).__name__}")
        steps, more = settings["steps"], ()
    names = [(n, write(c.given, "my_" + re.sub(r"\W", "_", n), f"the method {n!r}")) for n, c in found.items()]
    plain = all(text == repr(name) for name, text in names)
    methods = ", ".join(text if plain else f"{name!r}: {text}" for name, text in names)
    seeds = settings["fresh_seeds"]
    arguments = {"steps": steps, "seeds": len(seeds) if seeds == list(range(len(seeds))) else seeds}
    arguments |= {k: settings[k] for k in ("budget", "metric", "target", *more)} | others
    if settings["tuning_seeds"] != list(TUNING_SEEDS):
        arguments["tuning_seeds"] = settings["tuning_seeds"]
    usual = {"by": "steps", "stop_hopeless": False}
    told = "".join(f", {k}={v!r}" for k, v in arguments.items() if v is not None and v != usual.get(k))
    if probes is not None:
        told += f", probes={write(dict(probes), 'probes', 'the measurements')}"
    call = f"compare({where}, {f'[{methods}]' if plain else f'{{{methods}}}'}{told})"
    return "\n".join([*sorted(imports), *own, call])


class _Programs:
    """The work of a comparison in JAX: a compiled program per method, which tunes it and then measures the winner."""

    def __init__(
        self,
        problem: Problem,
        found: Mapping[str, Candidate],
        how: Plan,
        probes: Mapping[str, Any] | None,
        every: int | None,
        folder: Place | None,
        progress: bool | None,
        backend: str = "local",
        address: str | None = None,
    ):
        if not isinstance(problem, Problem):
            raise TypeError(f"problem: expected an attractor Problem or Loop, got {type(problem).__name__}")
        measured = {k: as_probe(p) for k, p in (problem.probes if probes is None else probes).items()}
        self.metric, self.tuned_on = decisive(measured, how.metric, how.tuned_on)
        self.goal: Goal = how.goal or measured[self.metric].goal
        self.problem, self.found, self.how, self.folder = problem, found, how, folder
        self._done: dict[str, Entry] = {}
        self._backend, self._address = backend, address
        self._run = {
            "steps": 1_000 if how.steps is None else how.steps, "probes": measured, "every": every,
            "lanes": len(how.seeds), "progress": progress,
        }  # fmt: skip

    def run(self, progress: bool | None) -> None:
        """Measure all methods, one after another, once it is known that all of them fit."""
        for name, candidate in self.found.items():
            make = registry.with_horizon(candidate.factory, self._run["steps"])
            for config in registry.sample(self.found[name].space, self.how.budget):
                require(self.problem, as_method(make(**config)))
        far = self._backend != "local"  # there nothing of JAX runs in this process
        task = _progress.task("compare", len(self.found), "method", progress)
        with contextlib.nullcontext() if far else _progress.interruptible(), task as advance:
            for name, entry in self._far() if far else ((name, self.measure(name)) for name in self.found):
                self._done[name] = entry
                advance(1)

    def _far(self) -> Iterator[tuple[str, Entry]]:
        where = {"backend": self._backend, "address": self._address}
        return carry(self._unit, ((n, n) for n in self.found), self.folder, _is_of, **where)

    def _unit(self, name: str, again: str, folder: Place | None) -> Entry:
        """What a process of a cluster does: its folder is the one that travels with it."""
        self.folder = folder
        return self.measure(name)

    def measure(self, name: str) -> Entry:
        """Tune one method, and run its winner on fresh seeds."""
        make, how = registry.with_horizon(self.found[name].factory, self._run["steps"]), self.how
        folder = self.folder and self.folder / file_name(name)
        configs = registry.sample(self.found[name].space, how.budget)
        kept = folder and folder / "tuning"
        tuning = run(self.problem, make, sweep=configs, seeds=how.tuning_seeds, checkpoint=kept, **self._run)
        chosen = best_configuration(tuning, self.tuned_on, how.target, self.goal)
        winner = configs[chosen]
        kept = folder and folder / f"winner-{chosen}"  # with more steps another one may win
        trace = run(self.problem, make, sweep=[winner], seeds=how.seeds, checkpoint=kept, **self._run)
        flops = flops_per_step(self.problem, as_method(make(**winner)))
        return entry_of(name, tuning, chosen, winner, trace, self.metric, self.goal, how.target, flops)

    def entries(self) -> dict[str, Entry]:
        """The methods that have been measured."""
        return {name: self._done[name] for name in self.found if name in self._done}

    def settings(self) -> dict[str, Any]:
        """What was not given, but follows from the problem."""
        return {"metric": self.metric, "tuned_on": self.tuned_on, "goal": self.goal, "steps": self._run["steps"]}

    def why(self) -> str:
        """Why nothing was finite, if the problem shows it."""
        return where_not_finite(self.problem)


def _is_of(method: str, name: str) -> bool:
    """Whether a checkpoint's file is of a method."""
    return name.startswith(f"{file_name(method)}/")


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
