"""What a comparison compares, and how: methods and their spaces, seeds and budget, resolved and checked."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from attractor import registry
from attractor.method import name_of
from attractor.probe import Goal
from attractor.registry import Space
from attractor.results import By
from attractor.transformations import is_transformation


class Candidate(NamedTuple):
    """A method to be compared: a factory, what is searched, and its registered name if that is how it was given."""

    factory: Callable[..., Any]
    space: Space
    registered: str | None = None


@dataclass(frozen=True)
class Plan:
    """What all methods of a comparison share; ``metric``, ``tuned_on`` and ``goal`` may be left to a loop's records."""

    budget: int
    seeds: list[int]
    tuning_seeds: list[int]
    steps: int | None
    metric: str | None
    tuned_on: str | None
    goal: Goal | None
    target: float | None
    by: By = "steps"


def plan(
    steps: int | None,
    seeds: int | Sequence[int],
    budget: int,
    metric: str | None,
    target: float | None,
    goal: Goal | None,
    by: By,
    tuned_on: str | None,
    tuning_seeds: Sequence[int],
) -> Plan:
    """A `Plan`; the arguments are those of `attractor.compare`.

    Raises:
        ValueError: for a number out of range, or seeds that both tune and grade.
    """
    fresh = list(range(int(seeds))) if isinstance(seeds, int | np.integer) else [int(s) for s in seeds]
    for name, count in (("seeds", len(fresh)), ("budget", budget), ("steps", steps)):
        if count is not None and count < 1:
            raise ValueError(f"{name}: expected a whole number >= 1, got {count}")
    if shared := set(fresh) & set(tuning_seeds):
        raise ValueError(f"tuning_seeds: expected other seeds than the fresh ones, both have {sorted(shared)[0]}")
    for name, given, known in (("goal", goal, ("min", "max", None)), ("by", by, ("steps", "seconds"))):
        if given not in known:
            raise ValueError(f"{name}: expected {known[0]!r} or {known[1]!r}, got {given!r}")
    return Plan(budget, fresh, list(tuning_seeds), steps, metric, tuned_on, goal, target, by)


def decisive(measured: Iterable[str], metric: str | None, tuned_on: str | None) -> tuple[str, str]:
    """Which measurement grades, and which chooses configurations, among those ``measured``.

    Raises:
        ValueError: if the one or the other is not measured.
    """
    known = list(measured)
    metric = next(iter(known), "") if metric is None else metric
    if tuned_on is None:
        twin = metric.replace("test_", "validation_", 1)
        tuned_on = twin if metric.startswith("test_") and twin in known else metric
    for name, given in (("metric", metric), ("tuned_on", tuned_on)):
        if given not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {given!r}")
    return metric, tuned_on


def candidates(methods: Sequence[Any] | Mapping[str, Any]) -> dict[str, Candidate]:
    """The methods of a comparison by name, as `attractor.compare` accepts them.

    Raises:
        ValueError: for none, an unknown name, two of one name, or a factory whose search space nobody knows.
    """
    if isinstance(methods, str):
        raise ValueError(f"methods: expected a list of names or a dict, got the string {methods!r}")
    named = list(methods.items()) if isinstance(methods, Mapping) else [(called(what), what) for what in methods]
    if not named:
        raise ValueError("methods: expected at least one method, got none")
    found = {name: _candidate(what) for name, what in named}
    if len(found) < len(named):
        twice = next(name for i, (name, _) in enumerate(named) if name in dict(named[:i]))
        raise ValueError(f"methods: two are called {twice!r}; give a dict, with a name for each")
    return found


def called(what: Any) -> str:
    """What a method is called that was given without a name."""
    what = what[0] if _is_pair(what) else what
    return what if isinstance(what, str) else name_of(what)


def _is_pair(what: Any) -> bool:  # a made optax transformation is a tuple, too
    return isinstance(what, tuple) and len(what) == 2 and isinstance(what[1], Mapping)


def _candidate(what: Any) -> Candidate:
    space = what[1] if _is_pair(what) else None
    what = what[0] if _is_pair(what) else what
    if isinstance(what, str):
        entry = registry.find_method(what)
        return Candidate(entry.factory, entry.space if space is None else space, what)
    space = registry.space_of(what) if space is None else space
    return Candidate(what if callable(what) and not is_transformation(what) else partial(_given, what), space)


def _given(method: Any) -> Any:
    return method
