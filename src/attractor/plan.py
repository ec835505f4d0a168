"""What a comparison compares, and how: methods and their spaces, seeds and budget, resolved and checked."""

import sys
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
    """A method to be compared: a factory, what is searched, its registered name if given so, and what was given."""

    factory: Callable[..., Any]
    space: Space
    registered: str | None = None
    given: Any = None


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


def _candidate(given: Any) -> Candidate:
    what, space = given if _is_pair(given) else (given, None)
    if isinstance(what, str):
        entry = registry.find_method(what)
        return Candidate(entry.factory, entry.space if space is None else space, what, given)
    space = registry.space_of(what) if space is None else space
    return Candidate(
        what if callable(what) and not is_transformation(what) else partial(_given, what), space, None, given
    )


def source(what: Any) -> tuple[str, set[str]] | None:
    """What was given as Python source, and the imports it takes; `None` if no import of another program gives it.

    Names, importable functions and classes (by the shortest public path), pairs ``(factory, space)``, partials, search
    ranges and literals can be written. What a script defines itself, lambdas and made methods cannot.
    """
    if _is_pair(what):
        parts = {"": what[0], **what[1]}
        if None in (found := [source(part) for part in parts.values()]):
            return None
        first, *ranges = [f for f in found if f is not None]
        space = ", ".join(f"{k!r}: {r[0]}" for k, r in zip(what[1], ranges, strict=True))
        return f"({first[0]}, {{{space}}})", set().union(first[1], *(r[1] for r in ranges))
    if isinstance(what, partial):
        parts = [
            (f"{k}=" if k else "", source(v))
            for k, v in [("", what.func), *(("", a) for a in what.args), *what.keywords.items()]
        ]
        if any(s is None for _, s in parts):
            return None
        text = ", ".join(f"{k}{s[0]}" for k, s in parts if s is not None)
        return f"functools.partial({text})", {"import functools"}.union(*(s[1] for _, s in parts if s is not None))
    if isinstance(what, registry.LogUniform | registry.Uniform | registry.Choice):
        values = source(list(vars(what).values()))
        kind = type(what).__name__
        return values and (f"{kind}({values[0][1:-1]})", {f"from attractor import {kind}"} | values[1])
    if isinstance(what, list | tuple) and type(what) in (list, tuple):
        found = [source(part) for part in what]
        if None in found:
            return None
        text = ", ".join(f[0] for f in found if f is not None)
        closed = f"[{text}]" if isinstance(what, list) else f"({text}{',' * (len(what) == 1)})"
        return closed, set().union(*(f[1] for f in found if f is not None))
    if what is None or (isinstance(what, str | bool | int | float) and type(what) in (str, bool, int, float)):
        return repr(what), set()
    return _imported(what)


def _imported(what: Any) -> tuple[str, set[str]] | None:
    name, path = getattr(what, "__name__", None), str(getattr(what, "__module__", "")).split(".")
    if name is None or path[0] in ("__main__", "builtins"):
        return None
    for i in range(1, len(path) + 1):
        module = sys.modules.get(".".join(path[:i]))
        if vars(module or sys).get(name) is what:
            return f"{'.'.join(path[:i])}.{name}", {f"import {'.'.join(path[:i])}"}
    return None


def _given(method: Any) -> Any:
    return method
