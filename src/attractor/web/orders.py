"""Orders for the worker, checked before they are queued: registered names and bounded numbers, nothing else."""

from typing import Any

from attractor.names import unknown
from attractor.papers import find, written

METHODS = 8  # compared at once
LIMITS = {"steps": (1, 5_000), "seeds": (2, 32), "budget": (1, 64)}
DEFAULTS = {"steps": 0, "seeds": 8, "budget": 8}  # no steps: the problem's own
ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".ndjson")
Registry = dict[str, list[dict[str, Any]]]


def whole(text: str, name: str) -> int:
    """A whole number within its limits; without one, the default.

    Raises:
        ValueError: for anything else.
    """
    low, high = LIMITS[name]
    if not text.strip():
        return DEFAULTS[name]
    if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= high):
        raise ValueError(f"{name}: expected a whole number from {low} to {high}, got {text[:20]!r}")
    return int(text)


def check(slug: str) -> dict[str, Any]:
    """Run a paper's claims.

    Raises:
        ValueError: for an unknown paper.
        LookupError: for one that nobody has written yet.
    """
    if not written(find(slug).slug):
        raise LookupError(f"no claim has been written yet for {slug}")
    return {"kind": "check", "slug": slug}


def compare(
    registry: Registry, problem: str, methods: list[str], steps: int = 0, seeds: int = 8, budget: int = 8
) -> dict[str, Any]:
    """Compare registered methods on a registered problem.

    Raises:
        ValueError: for unknown names, none or too many methods, or numbers out of range.
    """
    problems = {p["name"]: p for p in registry["problems"]}
    known = {m["name"] for m in registry["methods"]}
    if problem not in problems:
        raise unknown("problem", problem[:80], problems, "choose one from /problems")
    methods = list(dict.fromkeys(methods))
    if not 1 <= len(methods) <= METHODS:
        raise ValueError(f"methods: expected 1 to {METHODS}, got {len(methods)}")
    for name in methods:
        if name not in known:
            raise unknown("method", name[:80], known, "choose some from /methods")
    for name, value in (("steps", steps or 1), ("seeds", seeds), ("budget", budget)):
        low, high = LIMITS[name]
        if not low <= value <= high:
            raise ValueError(f"{name}: expected a whole number from {low} to {high}, got {value}")
    numbers = {"steps": steps, "seeds": seeds, "budget": budget}
    return {"kind": "compare", "problem": problem, "methods": methods, **numbers}


def fitting(registry: Registry, problem: str) -> list[str]:
    """All methods, those first that were measured on a problem."""
    from attractor.papers.rows import steps_to_target

    every = [m["name"] for m in registry["methods"]]
    first = [m for m, row in steps_to_target().get(problem, {}).items() if "steps" in row and m in every]
    return [*first, *(m for m in every if m not in first)]
