"""The record: verdicts on disk, one file per paper beside its claims, and every paper's status.

A file holds once what its verdicts share (machine, versions, the hash of all they depend on), and per claim the quick
verdict, the one in full, and every replication of the quick one.
"""

import contextlib
import fcntl
import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from attractor.papers.catalogue import catalogue, find
from attractor.papers.claims import Verdict, module_of
from attractor.papers.evidence import OUTCOMES
from attractor.papers.sources import fingerprint
from attractor.places import Place, content, names, place, write_atomically

OFFICIAL = Path(__file__).parent
FORMAT = "attractor-record-1"
LIBRARIES = ("jax", "optax", "equinox", "numpy")

Status = Literal["holds", "mixed", "fails", "inconclusive", "void", "error", "stale", "missing"]
STATUSES: tuple[Status, ...] = ("holds", "mixed", "fails", "inconclusive", "void", "error", "stale", "missing")


@dataclass
class Record:
    """What is on record of a paper.

    Attributes:
        slug: The paper.
        sources: Hash of all that its claims depend on, see `attractor.papers.sources`.
        machine: What it ran on.
        versions: Of the libraries.
        quick: Verdicts by claim.
        full: Those of the claims that were run in full, with the hash each was run under.
        replications: By claim, the verdicts on other seeds, by number.
    """

    slug: str
    sources: str = ""
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    quick: dict[str, Verdict] = field(default_factory=dict)
    full: dict[str, tuple[Verdict, str]] = field(default_factory=dict)
    replications: dict[str, dict[int, Verdict]] = field(default_factory=dict)

    def replicated(self, name: str) -> tuple[int, int] | None:
        """``(holding, run)`` replications of a claim; `None` where there are none."""
        runs = self.replications.get(name, {}).values()
        return (sum(v.verdict == "holds" for v in runs), len(runs)) if runs else None

    def outcome(self, name: str) -> str:
        """A claim's verdict; ``not replicated`` where it held, and then did not on most of the other seeds."""
        found = self.quick[name].verdict
        again = self.replicated(name)
        return "not replicated" if found == "holds" and again and again[0] <= again[1] / 2 else found

    def note(self, name: str) -> str:
        """A claim's note; where it is not replicated, with that of the last other seeds on which it does not hold."""
        said = [self.quick[name].note]
        if self.outcome(name) == "not replicated":
            runs = self.replications[name].values()
            said += [f"on other seeds: {v.note}" for v in runs if v.verdict != "holds" and v.note][-1:]
        return "; ".join(filter(None, said))

    @property
    def counts(self) -> dict[str, int]:
        """Claims by outcome; one that does not replicate has failed."""
        found = Counter(o if o in OUTCOMES else "fails" for o in map(self.outcome, self.quick))
        return {outcome: found[outcome] for outcome in OUTCOMES}

    @property
    def replicated_share(self) -> str | None:
        """``"3/3"``: of the replications, those in which every claim that holds held again; `None`: there are none."""
        numbers = sorted({r for runs in self.replications.values() for r in runs})
        holding = [n for n, v in self.quick.items() if v.verdict == "holds"]
        kept = [
            all(self.replications[n][r].verdict == "holds" for n in holding if r in self.replications.get(n, {}))
            for r in numbers
        ]
        return f"{sum(kept)}/{len(kept)}" if kept else None

    @property
    def oldest(self) -> str:
        """The day of its oldest verdict."""
        return min((v.day for v in self.quick.values()), default="")


def local() -> Place:
    """Where one's own verdicts are kept: ``verdicts`` in ``$ATTRACTOR_HOME`` (a folder or any fsspec URL) or
    ``.attractor``."""
    return place(os.environ.get("ATTRACTOR_HOME", ".attractor"), "ATTRACTOR_HOME") / "verdicts"


def path(slug: str, root: Place = OFFICIAL) -> Place:
    """A paper's file; it need not exist."""
    return root / find(slug).room / f"{slug.replace('-', '_')}.json"


def read(slug: str, root: Place = OFFICIAL) -> Record | None:
    """What is on record of a paper; `None` where nothing is."""
    file = path(slug, root)
    if (text := content(file)) is None:
        return None
    data = json.loads(text)
    if data.get("format") != FORMAT:
        raise ValueError(f"{file} is no record of this version (expected format {FORMAT}); delete it and check again")
    record = Record(slug, data["sources"], data["machine"], data["versions"])
    for name, row in data["claims"].items():
        shared = {"slug": slug, "claim": name, **{k: row[k] for k in ("statement", "source", "deterministic")}}
        if "quick" in row:
            record.quick[name] = Verdict(**shared, **row["quick"])
        if "full" in row:
            full = dict(row["full"])
            sources = full.pop("sources")
            record.full[name] = Verdict(**shared, **full, scale="full"), sources
        runs = {int(r): Verdict(**shared, **v, replication=int(r)) for r, v in row.get("replications", {}).items()}
        if runs:
            record.replications[name] = runs
    return record


def read_all(root: Place = OFFICIAL) -> dict[str, Record]:
    """What is on record of every paper that has a file."""
    slugs = list(catalogue())
    if not isinstance(root, Path):  # to list once costs less than to ask for each
        listed = set(names(root))
        slugs = [slug for slug in slugs if os.fspath(path(slug, root)).removeprefix(f"{root}/") in listed]
    found = {slug: read(slug, root) for slug in slugs}
    return {slug: record for slug, record in found.items() if record is not None}


def replicating(records: Iterable[Record]) -> tuple[int, int]:
    """``(kept, all)``: of the claims with seeds that hold and were replicated, those that most replications confirm."""
    outcomes = [
        record.outcome(name)
        for record in records
        for name, verdict in record.quick.items()
        if verdict.verdict == "holds" and record.replicated(name)
    ]
    return outcomes.count("holds"), len(outcomes)


def write(verdicts: Iterable[Verdict], root: Place = OFFICIAL) -> None:
    """Add verdicts to the record; several processes may do so at once, in a local folder.

    The quick verdicts of replication 0 replace the paper's (a claim that is gone goes, unless only some were run).
    What was made under other code is dropped, but for verdicts in full, which say so, and for the replications of a
    claim whose numbers under the new code are the very same: it was written differently, and is the same experiment.
    """
    by_slug: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_slug.setdefault(verdict.slug, []).append(verdict)
    for slug, found in by_slug.items():
        with _alone(root / find(slug).room):
            _save(_merged(read(slug, root) or Record(slug), found), path(slug, root))


def _merged(record: Record, found: list[Verdict]) -> Record:
    now = fingerprint(module_of(record.slug))
    first = {v.claim: v for v in found if v.scale == "quick" and v.replication == 0}
    if first:
        same = now == record.sources
        kept = {n for n in record.quick if n in first and (same or _same_experiment(record.quick[n], first[n]))}
        kept |= set(record.quick) - set(first) if same else set()
        record.quick = {**record.quick, **first} if same else first
        record.replications = {n: r for n, r in record.replications.items() if n in kept}
        record.full = {n: f for n, f in record.full.items() if n in record.quick}
        record.sources, record.machine, record.versions = now, machine(), versions()
    elif record.quick and now != record.sources:
        record = Record(record.slug, now, machine(), versions())
    for verdict in found:
        if verdict.scale == "full":
            record.full[verdict.claim] = verdict, now
        elif verdict.replication:
            record.replications.setdefault(verdict.claim, {})[verdict.replication] = verdict
    return record


def _same_experiment(old: Verdict, new: Verdict) -> bool:
    """Whether two runs on the same seeds, under different code, agree to the last digit.

    Where every number is a round one, such as a share of 1, agreement says nothing: many experiments would have it.
    """

    def measured(verdict: Verdict) -> tuple[Any, ...]:
        bounds = [verdict.value, verdict.low, verdict.high]
        return bounds, verdict.cases, [(b["name"], b["verdict"], b["value"]) for b in verdict.broken]

    def asked(verdict: Verdict) -> tuple[Any, ...]:
        return verdict.verdict, verdict.threshold, verdict.direction, verdict.given, verdict.deterministic

    numbers = [old.value, old.low, old.high, *(n for case in old.cases.values() for n in case)]
    telling = any(n is not None and round(n, 6) != n for n in numbers)
    return telling and measured(old) == measured(new) and asked(old) == asked(new)


def _save(record: Record, file: Place) -> None:
    claims: dict[str, Any] = {}
    for name in dict.fromkeys([*record.quick, *record.full, *record.replications]):
        runs = record.replications.get(name, {})
        found = [record.quick.get(name), record.full.get(name, (None, ""))[0], *runs.values()]
        shared = next(v for v in found if v is not None)
        row: dict[str, Any] = {k: getattr(shared, k) for k in ("statement", "source", "deterministic")}
        if name in record.quick:
            row["quick"] = _own(record.quick[name])
        if name in record.full:
            verdict, sources = record.full[name]
            row["full"] = {**_own(verdict), "sources": sources}
        if runs:
            row["replications"] = {str(r): _own(runs[r]) for r in sorted(runs)}
        claims[name] = row
    data = {"format": FORMAT, "sources": record.sources, "machine": record.machine, "versions": record.versions}
    text = json.dumps({**data, "claims": claims}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomically(file, lambda out: out.write(text.encode()))


def _own(verdict: Verdict) -> dict[str, Any]:
    """What is not said once for the claim or the paper, and not a default."""
    said = {"slug", "claim", "statement", "source", "deterministic", "scale", "replication"}
    defaults = {"given": {}, "cases": {}, "note": "", "more_seeds": 1, "cpu_seconds": 0.0}
    return {k: v for k, v in verdict.asdict().items() if k not in said and not (k in defaults and v == defaults[k])}


@contextlib.contextmanager
def _alone(folder: Place) -> Iterator[None]:
    """Keep other processes from recording in this folder; at a URL there is no lock to be had."""
    if not isinstance(folder, Path):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def machine() -> str:
    """What this is, in a few words."""
    return f"{platform.machine()} {platform.system()}, {os.cpu_count() or 1} cores"


def versions() -> dict[str, str]:
    """Of the libraries that verdicts depend on."""
    return {name: version(name) for name in LIBRARIES}


def status(slug: str, record: Record | None = None) -> Status:
    """A paper's status by the official record (or the one given).

    ``missing``: no claim has run. ``stale``: what its claims depend on has changed since. ``error``: a claim raised or
    a broken variant passed. Else by its claims: ``holds`` when all do, ``mixed`` when some do, and when none does
    ``fails``, ``inconclusive`` or ``void``, the first of these that occurs.
    """
    record = read(slug) if record is None else record
    if record is None or not record.quick:
        return "missing"
    try:
        if record.sources != fingerprint(module_of(slug)):
            return "stale"
    except ModuleNotFoundError:
        return "stale"
    return standing(record)


def standing(record: Record | None) -> Status:
    """A paper's status by its claims alone, whether or not they are stale."""
    if record is None or not record.quick:
        return "missing"
    counts = {outcome: n for outcome, n in record.counts.items() if n}
    if "error" in counts:
        return "error"
    if "holds" in counts:
        return "holds" if len(counts) == 1 else "mixed"
    return next(s for s in ("fails", "inconclusive", "void") if s in counts)


def summary(record: Record | None) -> str:
    """``3 of 4 hold``, and how many replications say so."""
    if record is None or not record.quick:
        return "not tried"
    counts = record.counts
    share = record.replicated_share
    return f"{counts['holds']} of {sum(counts.values())} hold" + (f", replicated {share}" if share else "")


def with_local(slug: str) -> Record | None:
    """The official record, with the claims that were checked on this machine in their places."""
    official, own = read(slug), read(slug, local())
    if official is None or own is None:
        return official or own
    return replace(
        official,
        quick=official.quick | own.quick,
        full=official.full | own.full,
        replications=official.replications | own.replications,
    )
