"""The catalogue: what papers claim, and the experiments that try it.

`claim` turns a function into a paper's claim, `Evidence` is what such a function returns, and `check` runs it together
with the broken variants for which it must not hold.
"""

import importlib
import math
import os
import platform
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from attractor.papers.catalogue import ROOMS, Paper, catalogue, find
from attractor.papers.sources import fingerprint, path_of

__all__ = [
    "ROOMS", "Claim", "Evidence", "Outcome", "Paper", "Scale", "Verdict", "catalogue", "check", "claim", "claims_of",
    "find", "module_of",
]  # fmt: skip

Scale = Literal["quick", "full"]
Outcome = Literal["holds", "fails", "error"]


@runtime_checkable
class _Bounded(Protocol):
    """A number with bounds, such as `attractor.stats.Interval` (not imported here: the catalogue loads without JAX)."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True)
class Evidence:
    """What a claim's experiment measured, and the threshold that was set before.

    Attributes:
        value: A number, or one with confidence bounds; the verdict uses the unfavorable bound.
        at_most: The claim holds if the upper bound is at most this …
        at_least: … or the lower bound at least this; exactly one of the two is given.
        comparison: The comparison behind it, if there was one.
        note: Context in one line, shown beside the verdict.
    """

    value: "float | _Bounded"
    at_most: float | None = None
    at_least: float | None = None
    comparison: Any = field(default=None, repr=False)
    note: str = ""

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("at_most, at_least: give exactly one threshold")

    @property
    def bounds(self) -> tuple[float, float, float]:
        """``(value, low, high)``."""
        if hasattr(self.value, "low"):
            return self.value.value, self.value.low, self.value.high  # pyright: ignore[reportAttributeAccessIssue]
        number = float(self.value)  # pyright: ignore[reportArgumentType]
        return number, number, number

    @property
    def holds(self) -> bool:
        """Whether the unfavorable bound is on the right side; never for a NaN."""
        _, low, high = self.bounds
        return high <= self.at_most if self.at_most is not None else low >= (self.at_least or 0.0)


@dataclass(frozen=True)
class Claim:
    """A paper's claim as an experiment.

    Attributes:
        slug: The paper.
        statement: What is claimed, with the threshold, in one line.
        experiment: ``experiment(*, scale, **parts) -> Evidence``; the parts default to the paper's own.
        broken: Parts to swap in, by the name of the damage; with any of them the claim must fail.
        reason: Why it does not hold at this scale, for a claim on record as failing.
    """

    slug: str
    statement: str
    experiment: Callable[..., Evidence]
    broken: Mapping[str, Mapping[str, Any]]
    reason: str = ""

    @property
    def name(self) -> str:
        """The experiment's name, with hyphens."""
        return self.experiment.__name__.replace("_", "-")


_claims: dict[str, list[Claim]] = {}


def claim(
    slug: str, statement: str, *, broken: Mapping[str, Mapping[str, Any]], reason: str = ""
) -> Callable[[Callable[..., Evidence]], Callable[..., Evidence]]:
    """Declare the function below to be an experiment for a paper's claim.

    Arguments:
        slug: The paper's catalogue slug.
        statement: The claim in one line, threshold included.
        broken: At least one damaged variant, ``{"no curvature": {"part": damaged_part}}``.
        reason: Why it fails at this scale, once that is known.

    Raises:
        ValueError: for an unknown slug (with a suggestion), or without a broken variant.
    """
    find(slug)
    if not broken:
        raise ValueError("broken: a claim needs at least one damaged variant that must fail")

    def declare(experiment: Callable[..., Evidence]) -> Callable[..., Evidence]:
        listed = _claims.setdefault(slug, [])
        listed[:] = [c for c in listed if c.experiment.__name__ != experiment.__name__]
        listed.append(Claim(slug, statement, experiment, broken, reason))
        return experiment

    return declare


def module_of(slug: str) -> str:
    """The import path of a paper's file, whether it exists or not."""
    return f"attractor.papers.{find(slug).room}.{slug.replace('-', '_')}"


def claims_of(slug: str) -> list[Claim]:
    """A paper's claims, in the order of its file; none if nobody has written it yet."""
    name = module_of(slug)
    if not path_of(name).is_file():
        return []
    importlib.import_module(name)
    return list(_claims.get(slug, []))


@dataclass(frozen=True)
class Verdict:
    """What came of a claim.

    Attributes:
        slug: The paper.
        claim: The claim's name.
        statement: What it says.
        verdict: ``holds``, ``fails``, or ``error`` (it raised, or a broken variant passed).
        value: Measured, with bounds ``low`` and ``high``; `None` where it is not finite.
        threshold: As written in the claim.
        direction: ``at most`` or ``at least``.
        broken: ``{"name", "verdict", "value"}`` per damaged variant; each must be ``fails``.
        seconds: Of everything, broken variants included.
        scale: ``quick`` or ``full``.
        note: Context, the reason of a failure, or the error.
        machine: What it ran on.
        versions: Of the libraries.
        sources: Hash of our source files that the claim imports.
    """

    slug: str
    claim: str
    statement: str
    verdict: Outcome
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    direction: str
    broken: list[dict[str, Any]]
    seconds: float
    scale: Scale = "quick"
    note: str = ""
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    sources: str = ""

    @property
    def caught(self) -> bool:
        """Whether every broken variant failed, as it must."""
        return all(b["verdict"] == "fails" for b in self.broken)

    def asdict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)


def check(slug: str, *, scale: Scale = "quick", names: list[str] | None = None) -> list[Verdict]:
    """Run a paper's claims and their broken variants.

    Arguments:
        slug: The paper.
        scale: ``"quick"`` (seconds on two cores) or ``"full"`` (the paper's size).
        names: Only these claims; default: all.

    Returns:
        A `Verdict` per claim; empty if the paper has no claim yet.

    Raises:
        ValueError: for an unknown slug or scale.
    """
    if scale not in ("quick", "full"):
        raise ValueError(f"scale: expected 'quick' or 'full', got {scale!r}")
    listed = [c for c in claims_of(slug) if names is None or c.name in names]
    versions, sources = _versions(), fingerprint(module_of(slug)) if listed else ""
    return [_try(c, scale, versions, sources) for c in listed]


def _try(claim: Claim, scale: Scale, versions: dict[str, str], sources: str) -> Verdict:
    begun = time.perf_counter()
    outcome, evidence, note = _evaluate(claim.experiment, {}, scale)
    broken = []
    for name, parts in claim.broken.items():
        result, measured, _ = _evaluate(claim.experiment, parts, scale)
        broken.append({"name": name, "verdict": result, "value": _finite(measured.bounds[0]) if measured else None})
    if outcome == "fails" and claim.reason:
        note = f"{claim.reason} ({note})" if note else claim.reason
    if passed := [b["name"] for b in broken if b["verdict"] != "fails"]:
        outcome = "error"
        note = f"not caught: broken variant {', '.join(passed)}" + (f"; {note}" if note else "")
    value, low, high = evidence.bounds if evidence else (math.nan,) * 3
    at_most = evidence is not None and evidence.at_most is not None
    return Verdict(
        slug=claim.slug,
        claim=claim.name,
        statement=claim.statement,
        verdict=outcome,
        value=_finite(value),
        low=_finite(low),
        high=_finite(high),
        threshold=(evidence.at_most if at_most else evidence.at_least) if evidence else None,
        direction="at most" if at_most else "at least",
        broken=broken,
        seconds=round(time.perf_counter() - begun, 2),
        scale=scale,
        note=note,
        machine=f"{platform.machine()} {platform.system()}, {_cores()} cores",
        versions=versions,
        sources=sources,
    )


def _evaluate(experiment: Callable[..., Evidence], parts: Mapping[str, Any], scale: Scale):
    try:
        evidence = experiment(**parts, scale=scale)
    except Exception as error:  # whatever a paper's code raises is that claim's verdict, and not the end of the run
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "error", None, f"{type(error).__name__}: {error} ({last.name}, line {last.lineno})"
    return ("holds" if evidence.holds else "fails"), evidence, evidence.note


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cores() -> int:
    return os.cpu_count() or 1


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("jax", "optax", "equinox", "numpy")}
