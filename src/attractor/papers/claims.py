"""Claims: `claim` turns a function into a paper's claim, and `check` runs it beside its broken variants."""

import importlib
import inspect
import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from attractor.papers.catalogue import find
from attractor.papers.evidence import Evidence, Outcome, case_data, finite
from attractor.papers.setting import MORE, Setting, forget, under
from attractor.papers.sources import path_of

Scale = Literal["quick", "full"]
Source = Literal["paper", "scaled", "ours"]
LONGEST = 120  # characters of a statement


@dataclass(frozen=True)
class Claim:
    """A paper's claim as an experiment.

    Attributes:
        slug: The paper.
        statement: What is claimed, with the threshold, in one line.
        experiment: ``experiment(**parts) -> Evidence``; the parts default to the paper's own. One that takes ``scale``
            has two sizes; one that does not has one.
        source: Where the threshold is from: the paper's number, its statement carried to this size, or ours.
        broken: Parts to swap in, by the name of the damage; with any of them the claim must not hold.
        deterministic: Whether no seed enters, so that there is nothing to replicate.
        reason: Why it does not hold at this scale, for a claim on record as not holding.
    """

    slug: str
    statement: str
    experiment: Callable[..., Evidence]
    source: Source
    broken: Mapping[str, Mapping[str, Any]]
    deterministic: bool = False
    reason: str = ""

    @property
    def name(self) -> str:
        """The experiment's name, with hyphens."""
        return self.experiment.__name__.replace("_", "-")

    @property
    def scales(self) -> tuple[Scale, ...]:
        """The sizes it has."""
        return ("quick", "full") if "scale" in inspect.signature(self.experiment).parameters else ("quick",)

    def run(self, parts: Mapping[str, Any], scale: Scale) -> Evidence:
        """The experiment with some parts replaced."""
        return self.experiment(**parts, **({"scale": scale} if len(self.scales) == 2 else {}))


_claims: dict[str, list[Claim]] = {}


def claim(
    statement: str,
    *,
    source: Source,
    broken: Mapping[str, Mapping[str, Any]],
    deterministic: bool = False,
    reason: str = "",
    slug: str | None = None,
) -> Callable[[Callable[..., Evidence]], Callable[..., Evidence]]:
    """Declare the function below to be an experiment for the paper whose file it stands in.

    Arguments:
        statement: The claim in one line of at most 120 characters, threshold included, complete in itself.
        source: Where its threshold is from: ``"paper"``, ``"scaled"`` or ``"ours"``.
        broken: At least one damaged variant, ``{"no curvature": {"part": damaged_part}}``.
        deterministic: Say so when no seed enters.
        reason: Why it does not hold at this scale, once that is known.
        slug: The paper; default: the name of the file.

    Raises:
        ValueError: for an unknown slug (with a suggestion), an unknown source, or without a broken variant.
    """
    if not broken:
        raise ValueError("broken: a claim needs at least one damaged variant that must fail")
    if source not in get_args(Source):
        raise ValueError(f"source: expected one of {', '.join(get_args(Source))}, got {source!r}")

    def declare(experiment: Callable[..., Evidence]) -> Callable[..., Evidence]:
        paper = find(slug or experiment.__module__.rpartition(".")[2].replace("_", "-")).slug
        listed = _claims.setdefault(paper, [])
        listed[:] = [c for c in listed if c.experiment.__name__ != experiment.__name__]
        listed.append(Claim(paper, statement, experiment, source, broken, deterministic, reason))
        return experiment

    return declare


def module_of(slug: str) -> str:
    """The import path of a paper's file, whether it exists or not."""
    return f"attractor.papers.{find(slug).room}.{slug.replace('-', '_')}"


def written(slug: str) -> bool:
    """Whether somebody has written this paper's file (looked up without importing it)."""
    return path_of(module_of(slug)).is_file()


def claims_of(slug: str) -> list[Claim]:
    """A paper's claims, in the order of its file; none if nobody has written it yet."""
    if not written(slug):
        return []
    importlib.import_module(module_of(slug))
    return list(_claims.get(slug, []))


@dataclass(frozen=True)
class Verdict:
    """What came of a claim.

    Attributes:
        slug: The paper.
        claim: The claim's name.
        statement: What it says.
        source: Where its threshold is from.
        verdict: ``holds``, ``fails``, ``inconclusive``, ``void``, or ``error`` (it raised, a broken variant passed, or
            it drew seeds though it says that it is deterministic).
        value: Measured, with bounds ``low`` and ``high``; `None` where it is not finite.
        threshold: As written in the claim; ``[low, high]`` where the direction is ``within``.
        direction: ``at most``, ``at least`` or ``within``.
        given: The preconditions, and whether each is met.
        cases: ``{name: [value, low, high]}`` where several numbers were measured.
        broken: ``{"name", "verdict", "value", "informative"}`` per damaged variant; none may hold.
        seconds: Of everything, broken variants included, by the clock.
        cpu_seconds: The same, of all processors together: what it takes at most on an idle machine.
        deterministic: Whether no seed enters.
        scale: ``quick`` or ``full``.
        replication: Which seeds it was run on; 0: those the settings were found on.
        more_seeds: How many times as many seeds as the claim asks for.
        note: Context, the reason why it does not hold, or the error.
        day: When, as an ISO date.
    """

    slug: str
    claim: str
    statement: str
    source: str
    verdict: Outcome
    value: float | None
    low: float | None
    high: float | None
    threshold: float | list[float] | None
    direction: str
    broken: list[dict[str, Any]]
    seconds: float
    cpu_seconds: float = 0.0
    given: dict[str, bool] = field(default_factory=dict)
    cases: dict[str, list[Any]] = field(default_factory=dict)
    deterministic: bool = False
    scale: Scale = "quick"
    replication: int = 0
    more_seeds: int = 1
    note: str = ""
    day: str = ""

    @property
    def caught(self) -> bool:
        """Whether no broken variant passed."""
        return all(b["verdict"] not in ("holds", "error") for b in self.broken)

    def asdict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)


def check(
    slug: str,
    *,
    scale: Scale = "quick",
    names: list[str] | None = None,
    replication: int = 0,
    more_seeds: bool = False,
) -> list[Verdict]:
    """Run a paper's claims and their broken variants.

    Arguments:
        slug: The paper.
        scale: ``"quick"`` (seconds on two cores) or ``"full"`` (for a workstation); claims of one size are quick.
        names: Only these claims; default: all.
        replication: Shifts every seed; replications above 0 leave out deterministic claims.
        more_seeds: Take four times the seeds; leaves out deterministic claims.

    Returns:
        A `Verdict` per claim; empty if the paper has no claim of that scale yet.

    Raises:
        ValueError: for an unknown slug or scale, or a negative replication.
    """
    if scale not in get_args(Scale):
        raise ValueError(f"scale: expected 'quick' or 'full', got {scale!r}")
    if replication < 0:
        raise ValueError(f"replication: expected a number >= 0, got {replication}")
    setting = Setting(replication, MORE if more_seeds else 1)
    fresh = replication > 0 or more_seeds
    chosen = [c for c in claims_of(slug) if scale in c.scales and not (fresh and c.deterministic)]
    try:
        return [_try(c, scale, setting) for c in chosen if names is None or c.name in names]
    finally:
        forget()


def _try(claim: Claim, scale: Scale, setting: Setting) -> Verdict:
    begun, worked = time.perf_counter(), time.process_time()
    outcome, evidence, note = _evaluate(claim, {}, scale, setting)
    broken: list[dict[str, Any]] = []
    for name, parts in claim.broken.items():
        result, measured, message = _evaluate(claim, parts, scale, setting)
        worse = evidence is not None and measured is not None and measured.clearly_worse_than(evidence)
        row = {"name": name, "verdict": result, "value": finite(measured.bounds[0]) if measured else None}
        row["informative"] = result == "fails" if outcome == "holds" else worse
        broken.append(row | ({"note": message} if result == "error" else {}))
    if outcome not in ("holds", "error") and claim.reason:
        note = f"{claim.reason} ({note})" if note else claim.reason
    if passed := [b["name"] for b in broken if b["verdict"] in ("holds", "error")]:
        outcome = "error"
        note = f"not caught: broken variant {', '.join(passed)}" + (f"; {note}" if note else "")
    value, low, high = evidence.bounds if evidence else (math.nan,) * 3
    threshold, direction = _threshold(evidence)
    return Verdict(
        slug=claim.slug,
        claim=claim.name,
        statement=claim.statement,
        source=claim.source,
        verdict=outcome,
        value=finite(value),
        low=finite(low),
        high=finite(high),
        threshold=threshold,
        direction=direction,
        broken=broken,
        seconds=round(time.perf_counter() - begun, 2),
        cpu_seconds=round(time.process_time() - worked, 2),
        given={name: bool(met) for name, met in evidence.given.items()} if evidence else {},
        cases=case_data(evidence.cases) if evidence else {},
        deterministic=claim.deterministic,
        scale=scale,
        replication=setting.replication,
        more_seeds=setting.factor,
        note=note,
        day=time.strftime("%Y-%m-%d"),
    )


def _threshold(evidence: Evidence | None) -> tuple[float | list[float] | None, str]:
    if evidence is None:
        return None, "at most"
    if evidence.within is not None:
        return list(evidence.within), "within"
    return (evidence.at_most, "at most") if evidence.at_most is not None else (evidence.at_least, "at least")


def _evaluate(
    claim: Claim, parts: Mapping[str, Any], scale: Scale, setting: Setting
) -> tuple[Outcome, Evidence | None, str]:
    try:
        with under(setting) as drawn:
            evidence = claim.run(parts, scale)
    except Exception as error:  # whatever a paper's code raises is that claim's verdict, and not the end of the run
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "error", None, f"{type(error).__name__}: {error} ({last.name}, line {last.lineno})"
    if claim.deterministic and drawn:
        return "error", evidence, "it is declared deterministic, and draws seeds"
    if not claim.deterministic and not drawn and not parts:
        return "error", evidence, "it draws no seed: declare it deterministic, or take its seeds from seeds(n)"
    return evidence.outcome, evidence, evidence.note
