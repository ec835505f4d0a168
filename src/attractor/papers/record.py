"""The record: verdicts on disk, and every paper's status."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from attractor.papers import Verdict, find, module_of
from attractor.papers.sources import fingerprint

OFFICIAL = Path(__file__).with_name("verdicts.json")

Status = Literal["holds", "fails", "error", "stale", "missing"]


def local() -> Path:
    """Where this machine's own verdicts are kept: ``verdicts.json`` in ``$ATTRACTOR_HOME`` or ``.attractor``."""
    return Path(os.environ.get("ATTRACTOR_HOME", ".attractor")) / "verdicts.json"


def read(path: Path = OFFICIAL) -> dict[str, dict[str, Verdict]]:
    """All recorded verdicts, ``{slug: {claim: verdict}}``; empty when there is no file."""
    if not path.exists():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return {slug: {name: Verdict(**v) for name, v in claims.items()} for slug, claims in data.items()}


def write(verdicts: Iterable[Verdict], path: Path = OFFICIAL) -> None:
    """Add verdicts to a record, atomically. The claims of each paper given replace those it had."""
    from attractor.store import write_atomically

    merged: dict[str, dict[str, Any]] = {
        slug: {n: v.asdict() for n, v in claims.items()} for slug, claims in read(path).items()
    }
    verdicts = list(verdicts)
    for slug in {v.slug for v in verdicts}:
        merged[slug] = {v.claim: v.asdict() for v in verdicts if v.slug == slug}
    ordered = {slug: merged[slug] for slug in sorted(merged)}
    text = json.dumps(ordered, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def status(slug: str, record: dict[str, dict[str, Verdict]] | None = None) -> Status:
    """A paper's status by the official record (or the one given).

    ``missing``: no claim has run. ``stale``: our code that a claim imports has changed since. ``error``: a claim
    raised or a broken variant passed. ``fails``: a claim does not hold. ``holds``: all hold.
    """
    find(slug)
    verdicts = (read() if record is None else record).get(slug, {})
    if not verdicts:
        return "missing"
    outcomes = {v.verdict for v in verdicts.values()}
    try:
        current = fingerprint(module_of(slug))
    except ModuleNotFoundError:
        return "stale"
    if any(v.sources != current for v in verdicts.values()):
        return "stale"
    return "error" if "error" in outcomes else "fails" if "fails" in outcomes else "holds"
