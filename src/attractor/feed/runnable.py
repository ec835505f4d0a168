"""What of ours runs for a paper that came in: itself, where the catalogue has it, else its nearest relatives."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from attractor.feed.library import Stored
from attractor.papers import catalogue, record, written
from attractor.papers.record import Record

NEAR = 2  # relatives, at most


@dataclass(frozen=True)
class Runs:
    """A paper of the catalogue whose claims run here.

    Attributes:
        slug: Its name.
        title: As published.
        same: Whether it is the paper itself, or one near it.
        outcomes: Of its claims, in their order: ``holds``, ``fails``, ``not replicated``, ``inconclusive``, …
        summary: ``3 of 4 hold, replicated 3/3``.
        parts: What can be imported, below ``attractor``.
    """

    slug: str
    title: str
    same: bool
    outcomes: tuple[str, ...]
    summary: str
    parts: tuple[str, ...]


def runs_here(stored: Stored) -> tuple[Runs, ...]:
    """What runs here for an entry: itself, or up to two executable papers near it, nearest first."""
    if stored.slug and written(stored.slug):
        return (_runs(stored.slug, True),)
    from attractor.feed.meaning import embed, text_of
    from attractor.feed.placement import nearest

    found = nearest(embed([text_of(stored.entry)])[0])
    near = [slug for slug, _ in found if slug != stored.slug and written(slug)]
    return tuple(_runs(slug, False) for slug in near[:NEAR])


def _runs(slug: str, same: bool) -> Runs:
    file = Path(record.path(slug))
    known = _record(slug, file.stat().st_mtime_ns if file.exists() else 0)
    paper = catalogue()[slug]
    outcomes = tuple(map(known.outcome, known.quick)) if known else ()
    return Runs(slug, paper.title, same, outcomes, record.summary(known), paper.parts)


@lru_cache(maxsize=1024)
def _record(slug: str, changed: int) -> Record | None:
    """What is on record, read again once the file has changed."""
    return record.read(slug) if changed else None
