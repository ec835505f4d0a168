"""What pages show of the feed: new papers, trending ones, and what runs for each."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from attractor.feed import Library, Stored
from attractor.feed.database import default_path

NEW, TRENDING, FOUND = 40, 8, 10  # papers shown
RECENT = "(SELECT date(max(day), '-7 day') FROM sightings)"  # since then, by the feed's own clock


@dataclass(frozen=True)
class News:
    """A paper that came in.

    Attributes:
        stored: The paper.
        runs: What runs here for it: itself, or what is near.
        votes: How many people liked it, where a source says.
        reason: Why it is shown.
        opinion: 1 kept, -1 dismissed, 0 neither.
    """

    stored: Stored
    runs: tuple[Any, ...] = ()
    votes: int | None = None
    reason: str = ""
    opinion: int = 0


def exists() -> bool:
    """Whether there is a feed; asking makes none."""
    with suppress(ValueError):  # a home that is a URL has none
        return default_path().exists()
    return False


def front(placed: bool = True) -> dict[str, list[News]]:
    """The newest papers, and of the last week those that most people liked; both empty without a feed.

    Arguments:
        placed: Whether to say what runs for each, for which the catalogue's papers are placed first.
    """
    if not exists():
        return {"new": [], "trending": []}
    with Library() as library:
        new = library.select(order=f"added DESC, id DESC LIMIT {NEW + TRENDING}")
        liked = (
            f"id IN (SELECT entry FROM sightings WHERE votes > 0 AND day >= {RECENT})",
            f"(SELECT max(votes) FROM sightings WHERE entry = id) DESC, id DESC LIMIT {TRENDING}",
        )
        trending = library.select(liked[0], order=liked[1])
        new = [s for s in new if s not in trending][:NEW] or new
        return {"new": told(library, new, placed=placed), "trending": told(library, trending, placed=placed)}


def fares(public: bool) -> dict[str, Any] | None:
    """How the sources fare, as `attractor.feed.sync.status` tells it; `None` without a feed.

    Arguments:
        public: For strangers: neither subscribers' addresses nor anything of this machine.
    """
    if not exists():
        return None
    from attractor.feed import sync

    with Library() as library:
        found = sync.status(library)
    if public:
        sources = [{**source, "message": ""} for source in found["sources"]]
        many = len(found["problems"])
        wrong = [f"{many} {'thing needs' if many == 1 else 'things need'} its owner's attention."] if many else []
        found |= {"sources": sources, "overdue": [], "problems": wrong}
    return found


def search(query: str) -> list[News]:
    """Papers of the feed that fit a query, those of the catalogue left out."""
    if not exists() or find_spec("attractor.feed.meaning") is None:
        return []
    from attractor.feed import meaning

    with Library() as library:
        found = [stored for stored, _ in meaning.search(library, query, limit=FOUND) if stored.slug is None]
        return told(library, found)


def get(number: int) -> News | None:
    """The paper with this number, or `None`."""
    if not exists():
        return None
    with Library() as library:
        try:
            return told(library, [library.get(number)])[0]
        except KeyError:
            return None


def told(library: Library, found: Iterable[Stored], reasons: Iterable[str] = (), placed: bool = True) -> list[News]:
    """Papers with what runs, votes and opinions; ``reasons`` in the same order, where there are any."""
    found, why = list(found), list(reasons)
    marks = ",".join("?" * len(found))
    numbers = [s.id for s in found]
    votes = dict(
        tuple(row)
        for row in library.connection.execute(
            f"SELECT entry, max(votes) FROM sightings WHERE entry IN ({marks}) GROUP BY entry", numbers
        )
    )
    opinions = dict(
        tuple(row)
        for row in library.connection.execute(f"SELECT entry, opinion FROM opinions WHERE entry IN ({marks})", numbers)
    )
    return [
        News(s, _runs(s) if placed else (), votes.get(s.id), why[i] if why else "", opinions.get(s.id, 0))
        for i, s in enumerate(found)
    ]


@lru_cache(maxsize=4096)
def _runs(stored: Stored) -> tuple[Any, ...]:
    from attractor.feed.runnable import runs_here

    return runs_here(stored)
