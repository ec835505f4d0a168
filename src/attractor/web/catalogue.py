"""What pages show of the catalogue and the record: read once, read again when a file changes."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from attractor.feed.database import default_path
from attractor.papers import ROOMS, Paper, Verdict, catalogue, find, record
from attractor.papers.record import Record
from attractor.places import Place

LOOK = 0.5  # seconds between two looks at the files
GLYPHS = {
    "holds": "✓", "mixed": "◐", "fails": "✕", "not replicated": "↺", "inconclusive": "≈", "void": "∅", "error": "!",
    "stale": "…", "missing": "·",
}  # fmt: skip

# The house as a plan: what is near in it is near in the subject.
WINGS = {
    "Training": ("optim", "second_order", "distributed", "credit", "blackbox"),
    "Why it works": ("landscape", "dynamics"),
    "Models and agents": ("nn", "generative", "representation", "rl", "games", "categories"),
    "Science and computing": ("operators", "physics", "linalg"),
}


@dataclass(frozen=True)
class Claim:
    """A claim as a page shows it: the verdict, what it is called with its replications, and whether it ran here."""

    verdict: Verdict
    outcome: str
    again: tuple[Verdict, ...]
    replicated: tuple[int, int] | None
    full: Verdict | None
    here: bool


@dataclass(frozen=True)
class Shelf:
    """The record as it stood at one moment.

    Attributes:
        official: What is on record, by slug.
        own: What was checked on this machine.
        states: Every paper's status; `None` until it is known which verdicts are stale.
    """

    official: dict[str, Record]
    own: dict[str, Record]
    states: dict[str, str] | None = None

    @cached_property
    def known(self) -> dict[str, Record]:
        """The official record, with the claims that were checked here in their places."""
        both = {s: self.official.get(s) or self.own[s] for s in self.official.keys() | self.own.keys()}
        for slug in self.official.keys() & self.own.keys():
            a, b = self.official[slug], self.own[slug]
            runs = a.replications | b.replications
            both[slug] = replace(a, quick=a.quick | b.quick, full=a.full | b.full, replications=runs)
        return dict(sorted(both.items()))

    def state(self, slug: str) -> str:
        """A paper's status; until it is known whether it is stale, by its counts."""
        if self.states is not None:
            return self.states.get(slug, "missing")
        return record.standing(self.official.get(slug))

    def claims(self, slug: str) -> list[Claim]:
        """A paper's claims, in the record's order."""
        found, own = self.known.get(slug), self.own.get(slug)
        if found is None:
            return []
        return [
            Claim(
                verdict=replace(v, note=found.note(name)),
                outcome=found.outcome(name),
                again=tuple(found.replications.get(name, {}).values()),
                replicated=found.replicated(name),
                full=found.full[name][0] if name in found.full else None,
                here=own is not None and name in own.quick,
            )
            for name, v in found.quick.items()
        ]

    @cached_property
    def outcomes(self) -> dict[str, int]:
        """How many claims came out how."""
        found = [r.outcome(n) for r in self.known.values() for n in r.quick]
        return {o: found.count(o) for o in dict.fromkeys(found)}

    @cached_property
    def latest(self) -> list[Paper]:
        """Papers with verdicts, the most recently measured first; where it is the same day, the more telling ones."""

        def rank(slug: str) -> tuple:
            r = self.known[slug]
            return (max(v.day for v in r.quick.values()), r.counts["holds"], slug)

        slugs = [s for s, r in self.known.items() if r.quick]
        return [find(slug) for slug in sorted(slugs, key=rank, reverse=True)]

    def rooms(self) -> dict[str, dict[str, Any]]:
        """Per room: what it is about, its papers, and how many claims hold."""
        papers = list(catalogue().values())
        found = {}
        for room, about in ROOMS.items():
            own = [p for p in papers if p.room == room]
            tried = [p for p in own if p.slug in self.known]
            counts = [self.known[p.slug].counts for p in tried]
            found[room] = {
                "about": about,
                "papers": sorted(own, key=lambda p: (p.slug not in self.known, p.slug)),
                "tried": len(tried),
                "claims": sum(sum(c.values()) for c in counts),
                "holds": sum(c["holds"] for c in counts),
                "records": [self.known[p.slug] for p in tried],
            }
        return found


class Shelves:
    """The newest `Shelf`, and a stamp that changes whenever a page might."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looked = 0.0
        self._files: tuple = ()
        self._shelf = Shelf({}, {})
        self._states: dict[str, str] | None = None

    def stamp(self) -> tuple:
        """Of the record's files, this machine's own, the feed's, and what is known to be stale."""
        now = time.monotonic()
        if now - self._looked > LOOK or not self._files:
            with self._lock:
                files = (_newest(record.OFFICIAL), _newest(record.local()), _feed())
                if files[:2] != self._files[:2]:
                    self._shelf = Shelf(record.read_all(), record.read_all(record.local()), self._states)
                self._files, self._looked = files, now
        return (*self._files, self._states is not None)

    def now(self) -> Shelf:
        """The record as it stands."""
        self.stamp()
        return self._shelf

    def know(self, states: dict[str, str]) -> None:
        """Take every recorded paper's status, once somebody has found out which verdicts are stale."""
        self._states = states
        self._shelf = replace(self.now(), states=states)


def _newest(root: Place) -> tuple[int, int]:
    """The number of records below a folder, and when the newest was written; a URL is not asked at each request."""
    if not isinstance(root, Path):
        return 0, 0
    times = [file.stat().st_mtime_ns for room in ROOMS for file in (root / room).glob("*.json")]
    return len(times), max(times, default=0)


def _feed() -> tuple[int, ...]:
    try:
        path = default_path()
    except ValueError:
        return ()
    found = []
    for file in (path, path.with_name(path.name + "-wal")):
        with suppress(FileNotFoundError):
            found.append(file.stat())
    return tuple(s.st_mtime_ns for s in found if s.st_size)  # whoever reads makes an empty log, and takes it away


def ordered(papers: list[Paper], shelf: Shelf) -> list[Paper]:
    """What runs first, then what may be built."""
    return sorted(papers, key=lambda p: (p.slug not in shelf.known, p.slug))
