"""Papers that came in, each stored once however often and by whomever it is told of."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, reduce
from itertools import count
from pathlib import Path
from typing import Any

from attractor.feed.database import connect, now, transaction
from attractor.feed.entry import Entry, compatible, merged, normal_title
from attractor.papers.catalogue import catalogue

FIELDS = ("arxiv", "version", "doi", "title", "abstract", "authors", "categories", "published", "link")


@dataclass(frozen=True)
class Stored:
    """An entry as it is stored.

    Attributes:
        id: Its number in this library.
        uid: What it is known by from its first day here on, in feeds and addresses.
        entry: What is known of it.
        slug: Its paper in the catalogue, or `None`.
        added: When it came in, UTC, ISO 8601.
        changed: When something new was learned of it.
    """

    id: int
    uid: str
    entry: Entry
    slug: str | None
    added: str
    changed: str

    def asdict(self) -> dict[str, Any]:
        """Its fields and the entry's, as JSON takes them."""
        own = {name: value for name, value in vars(self).items() if name != "entry"}
        return {**own, **self.entry.asdict()}


@dataclass(frozen=True)
class Added:
    """What became of entries: the numbers of those that are new, that told something new, and that were known."""

    new: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    known: tuple[int, ...] = ()


class Library:
    """The stored papers; a context manager, which closes the file.

    Arguments:
        path: The SQLite file; default: ``feed.sqlite`` under ``$ATTRACTOR_HOME`` or ``.attractor``.
    """

    def __init__(self, path: Path | None = None):
        self.connection = connect(path)

    def __enter__(self) -> "Library":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def add(
        self, entries: Iterable[Entry], source: str, day: str | None = None, votes: Sequence[int | None] = ()
    ) -> Added:
        """Store entries, merged with what is known of the same papers: all of them, or none if one fails.

        A paper is the same by arXiv number, by DOI, or by a title that it was told of under before, where no number
        speaks against it. Adding again what was added changes nothing.

        Arguments:
            entries: Any number.
            source: Who tells of them.
            day: On which day, ISO 8601; default: today, UTC.
            votes: How many people liked each there; empty, or `None` for one, where the source does not say.
        """
        day = day or datetime.now(UTC).date().isoformat()
        entries = list(entries)
        outcome: dict[str, list[int]] = {"new": [], "changed": [], "known": []}
        with transaction(self.connection):
            for i, entry in enumerate(entries):
                number, what = self._add(entry)
                outcome[what].append(number)
                self.connection.execute(
                    "INSERT INTO sightings VALUES (?, ?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET votes = coalesce(max(votes, excluded.votes), votes, excluded.votes)",
                    (number, source, day, votes[i] if votes else None),
                )
        new = dict.fromkeys(outcome["new"])
        changed = [n for n in dict.fromkeys(outcome["changed"]) if n not in new]
        known = [n for n in dict.fromkeys(outcome["known"]) if n not in new and n not in changed]
        return Added(tuple(new), tuple(changed), tuple(known))

    def get(self, number: int) -> Stored:
        """The entry with this number.

        Raises:
            KeyError: if there is none.
        """
        row = self.connection.execute("SELECT * FROM entries WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise KeyError(number)
        return _stored(row)

    def by_uid(self, uid: str) -> Stored | None:
        """The entry that is known by this, or `None`."""
        row = self.connection.execute("SELECT * FROM entries WHERE uid = ?", (uid,)).fetchone()
        return _stored(row) if row else None

    def select(self, where: str = "1", arguments: Sequence = (), order: str = "added DESC, id DESC") -> list[Stored]:
        """Entries by a condition in SQL on the table ``entries``, newest first; ``order`` may end with a LIMIT."""
        rows = self.connection.execute(f"SELECT * FROM entries WHERE {where} ORDER BY {order}", tuple(arguments))
        return [_stored(row) for row in rows]

    def newest(self, source: str | None = None, day: str | None = None, limit: int = 30) -> list[Stored]:
        """Entries by who told of them and on which day, newest first."""
        asked = [(f"{name} = ?", value) for name, value in (("source", source), ("day", day)) if value is not None]
        where = " AND ".join(condition for condition, _ in asked)
        chosen = f"id IN (SELECT entry FROM sightings WHERE {where})" if asked else "1"
        return self.select(chosen, [value for _, value in asked], f"added DESC, id DESC LIMIT {limit}")

    def row(self, stored: Stored) -> dict[str, Any]:
        """An entry with its votes and sources, as ``attractor feed list --json`` prints it."""
        told = self.connection.execute("SELECT source, votes FROM sightings WHERE entry = ?", (stored.id,)).fetchall()
        votes = [row["votes"] for row in told if row["votes"] is not None]
        return {
            "id": stored.id, "uid": stored.uid, **stored.entry.asdict(), "slug": stored.slug, "added": stored.added,
            "votes": max(votes, default=None), "sources": sorted({row["source"] for row in told}),
        }  # fmt: skip

    def __len__(self) -> int:
        return self.connection.execute("SELECT count(*) FROM entries").fetchone()[0]

    def find(self, entry: Entry) -> list[Stored]:
        """The stored entries that are this paper, oldest first: more than one if nobody knew until now."""
        *numbers, title = _names(entry)
        found = {s.id: s for s in map(self._named, numbers) if s is not None}
        whole = reduce(merged, (s.entry for s in found.values()), entry)
        same = self._named(title)
        if same is not None and compatible(same.entry, whole):
            found[same.id] = same
        return [found[number] for number in sorted(found)]

    def _named(self, name: str) -> Stored | None:
        rows = self.select("id = (SELECT entry FROM names WHERE name = ?)", (name,))
        return rows[0] if rows else None

    def _add(self, entry: Entry) -> tuple[int, str]:
        entry = _numbered(entry)
        found = self.find(entry)
        whole = reduce(merged, (s.entry for s in found), entry)
        what = "known" if [s.entry for s in found] == [whole] else "changed" if found else "new"
        if not found:
            values = {**_columns(whole), "uid": self._free(whole.uid), "added": now(), "changed": now()}
            columns, marks = ", ".join(values), ", ".join("?" * len(values))
            done = self.connection.execute(f"INSERT INTO entries ({columns}) VALUES ({marks})", tuple(values.values()))
            kept = int(done.lastrowid or 0)
        else:
            kept = found[0].id
            for other in found[1:]:
                # Where there are two opinions, the newer one stands.
                older = "DELETE FROM opinions WHERE entry = ? AND at < (SELECT at FROM opinions WHERE entry = ?)"
                self.connection.execute(older, (kept, other.id))
                for table in ("names", "sightings", "opinions"):
                    self.connection.execute(f"UPDATE OR IGNORE {table} SET entry = ? WHERE entry = ?", (kept, other.id))
                self.connection.execute("DELETE FROM entries WHERE id = ?", (other.id,))
        if what == "changed":
            values = {**_columns(whole), "changed": now()}
            columns = ", ".join(f"{name} = ?" for name in values)
            self.connection.execute(f"UPDATE entries SET {columns} WHERE id = ?", (*values.values(), kept))
        named = ((name, kept) for name in _names(entry))
        self.connection.executemany("INSERT INTO names VALUES (?, ?) ON CONFLICT DO NOTHING", named)
        return kept, what

    def _free(self, uid: str) -> str:
        """Of two papers with one title and no number, the second is known by it with a 2."""
        taken = (f"{uid}-{i}" if i > 1 else uid for i in count(1))
        return next(name for name in taken if self.by_uid(name) is None)


def _names(entry: Entry) -> list[str]:
    numbers = (f"{kind}:{number}" for kind, number in (("arxiv", entry.arxiv), ("doi", entry.doi)) if number)
    return [*numbers, f"title:{normal_title(entry.title)}"]


def _columns(entry: Entry) -> dict[str, str | int | None]:
    row = {name: getattr(entry, name) for name in FIELDS}
    row |= {name: json.dumps(row[name], ensure_ascii=False) for name in ("authors", "categories")}
    return {**row, "slug": slug_of(entry)}


def _stored(row: sqlite3.Row) -> Stored:
    fields = {name: row[name] for name in FIELDS}
    fields |= {name: tuple(json.loads(row[name])) for name in ("authors", "categories")}
    return Stored(row["id"], row["uid"], Entry(**fields), row["slug"], row["added"], row["changed"])


def slug_of(entry: Entry) -> str | None:
    """Its paper in the catalogue, by arXiv number or by title; `None` if it is not there."""
    numbers, titles = _known()
    return (numbers.get(entry.arxiv) if entry.arxiv else None) or titles.get(normal_title(entry.title))


def _numbered(entry: Entry) -> Entry:
    """With the arXiv number that the catalogue knows of it."""
    slug = None if entry.arxiv else slug_of(entry)
    return replace(entry, arxiv=catalogue()[slug].arxiv, link="") if slug else entry


@cache
def _known() -> tuple[dict[str, str], dict[str, str]]:
    papers = catalogue().values()
    return {p.arxiv: p.slug for p in papers if p.arxiv}, {normal_title(p.title): p.slug for p in papers}
