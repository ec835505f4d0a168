"""Papers fetched from the configured sources, page by page: each is stored in one transaction with where to go on."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from statistics import median
from typing import Any

from attractor.feed import config as configuration
from attractor.feed.config import Config
from attractor.feed.database import default_path, transaction
from attractor.feed.fetch import Fetcher, FetchError
from attractor.feed.library import Added, Library
from attractor.feed.mail import overdue
from attractor.feed.sources import Page, Source, Unreadable
from attractor.names import unknown

USUAL = 10  # days by which a source's usual number of papers is known; at least half as many are needed
FEW = 4  # times fewer than usual: a day that is not whole


@dataclass(frozen=True)
class Outcome:
    """How a source fared.

    Attributes:
        name: The source.
        status: ``ok``; ``partial``: something is missing, which a later run asks for; ``empty``: it answered, with
            nothing; ``failed``: it did not answer as it should. What was stored before is there in each case.
        message: What is missing or went wrong, what could not be read, or ``""``.
        new: How many papers came in.
        changed: Of how many more was learned.
        known: How many were told of again.
        pages: How many pages were stored.
    """

    name: str
    status: str = "empty"
    message: str = ""
    new: int = 0
    changed: int = 0
    known: int = 0
    pages: int = 0


@dataclass
class _Run:
    """What a source has told so far in this run."""

    added: list[Added] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    gone: int = 0
    pages: int = 0
    papers: int = 0
    quiet: bool = False

    def outcome(self, name: str, failure: str = "") -> Outcome:
        kinds = ("new", "changed", "known")
        seen = {kind: {n for added in self.added for n in getattr(added, kind)} for kind in kinds}
        counts = {"new": len(seen["new"]), "changed": len(seen["changed"] - seen["new"])}
        counts["known"] = len(seen["known"] - seen["new"] - seen["changed"])
        unread = len(self.unread)
        notes = [note for note in dict.fromkeys((*self.missing, failure)) if note]
        notes += [f"{unread} not read, such as: {self.unread[0]}"] if unread else []
        notes += [f"{self.gone} withdrawn there, kept here"] if self.gone else []
        if failure:
            status = "partial" if self.papers else "failed"
        elif self.missing or unread > self.papers:
            status = "partial"
        else:
            status = "ok" if self.papers or self.quiet else "empty"
        return Outcome(name, status, "; ".join(notes)[:1000], pages=self.pages, **counts)


class _Overtaken(Exception):
    """Another process stored a page of the same source meanwhile."""


def sync(
    library: Library,
    names: Sequence[str] = (),
    *,
    config: Config | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
    fetcher: Fetcher | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[Outcome]:
    """Fetch what is new, from one source after the other; what one of them lacks does not stop the others.

    Killed at any instant, it loses nothing and doubles nothing: the next run goes on where this one was.

    Arguments:
        library: Where papers are stored.
        names: Sources; default: all.
        config: What they are; default: ``feed.toml``.
        progress: Called after each page: with the source's name, how many papers it has told of in this run, and how
            many there are in all (`None` where it does not say).
        fetcher: How servers are asked; default: at the pace of each, never at private addresses.
        now: This instant, with time zone.

    Raises:
        ValueError: if there is no configuration, or a source's name is unknown.
    """
    config = config or configuration.read()
    known = {source.name: source for source in config.sources}
    for name in names:
        if name not in known:
            raise unknown("source", name, known, f"configured: {', '.join(known) or 'none'}")
    chosen = [source for source in config.sources if not names or source.name in names]
    with nullcontext(fetcher) if fetcher else open_fetcher(config) as ask:
        return [_one(library, source, ask, progress, now) for source in chosen]


def open_fetcher(config: Config, **settings: Any) -> Fetcher:
    """What asks a configuration's servers; ``settings`` as in `Fetcher`."""
    home = default_path().parent
    private = {"allow_private": config.allow_private, "contact": config.contact}
    return Fetcher(config.servers(), home, **private | settings)


def _one(
    library: Library,
    source: Source,
    ask: Fetcher,
    progress: Callable[[str, int, int | None], None] | None,
    now: Callable[[], datetime],
) -> Outcome:
    run, failure = _Run(), ""
    instant = now()
    with transaction(library.connection) as connection:
        connection.execute("INSERT INTO sources (name) VALUES (?) ON CONFLICT DO NOTHING", (source.name,))
        connection.execute("UPDATE sources SET tried = ? WHERE name = ?", (_text(instant), source.name))
        stored = _state(connection, source)
    try:
        for page in source.pages(ask, stored.get("state", {}), instant):
            stored = _store(library, source, page, stored, run, instant)
            if progress:
                progress(source.name, run.papers, page.total)
    except _Overtaken:
        return replace(run.outcome(source.name), status="ok", message="another process goes on with this source")
    except (FetchError, Unreadable) as error:
        failure = str(error)
    except (sqlite3.Error, ImportError):
        raise  # no fault of the source
    except Exception as error:
        failure = f"unexpected {type(error).__name__}: {error}"
    outcome = run.outcome(source.name, failure)
    with transaction(library.connection) as connection:
        done = {"status": outcome.status, "message": outcome.message, "name": source.name, "at": _text(instant)}
        connection.execute("UPDATE sources SET status = :status, message = :message WHERE name = :name", done)
        if outcome.status == "ok":
            connection.execute("UPDATE sources SET succeeded = :at WHERE name = :name", done)
    return outcome


def _store(
    library: Library, source: Source, page: Page, before: dict[str, Any], run: _Run, now: datetime
) -> dict[str, Any]:
    """One page and where to go on from it, both or neither; returns what is stored of the source then."""
    day = page.day or now.astimezone(UTC).date().isoformat()
    after = {"of": _identity(source), "state": page.state}
    with transaction(library.connection) as connection:
        if _state(connection, source) != before:
            raise _Overtaken
        fewer = _fewer(connection, source.name, day, len(page.told.entries)) if page.whole and not page.quiet else ""
        added = library.add(page.told.entries, source.name, day, page.told.votes)
        connection.execute("UPDATE sources SET state = ? WHERE name = ?", (json.dumps(after), source.name))
    run.added.append(added)
    run.missing += filter(None, (page.short, page.told.broken, fewer))
    run.unread += page.told.unread
    run.gone += page.told.gone
    run.pages += 1
    run.papers += len(page.told.entries)
    run.quiet = run.quiet or page.quiet
    return after


def _fewer(connection: sqlite3.Connection, name: str, day: str, count: int) -> str:
    """What is strange about the number of papers that a source tells of a day, or ``""``."""
    rows = connection.execute(
        "SELECT day, count(*) FROM sightings WHERE source = ? GROUP BY day ORDER BY day DESC LIMIT ?", (name, USUAL + 1)
    )
    told = dict(tuple(row) for row in rows)
    before = told.pop(day, 0)
    if 2 * count < before:
        return f"{day}: {count} papers, where {before} were told of before"
    days = [n for d, n in told.items() if datetime.fromisoformat(d).weekday() < 5]
    if datetime.fromisoformat(day).weekday() >= 5 or len(days) < USUAL // 2 or FEW * count >= median(days):
        return ""
    return f"{day}: {count} papers, where about {median(days):.0f} a day are usual"


def _state(connection: sqlite3.Connection, source: Source) -> dict[str, Any]:
    """What is stored of a source; nothing if its settings have changed since, or what is stored is damaged."""
    row = connection.execute("SELECT state FROM sources WHERE name = ?", (source.name,)).fetchone()
    found = json.loads(row["state"]) if row else {}
    return found if found.get("of") == _identity(source) else {}


def _identity(source: Source) -> str:
    """A source's settings, but for those that do not decide what it tells of."""
    settings = {k: v for k, v in vars(source).items() if k not in ("pace", "hosts", "quiet_days", "limit", "slice")}
    return sha256(json.dumps([source.kind, settings], sort_keys=True).encode()).hexdigest()[:16]


def status(
    library: Library, *, config: Config | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dict[str, Any]:
    """How the sources fare: ``{ok, papers, sources, overdue, problems}``.

    A source is told of by ``name``, ``kind``, ``status``, ``message``, ``tried``, ``succeeded`` and ``papers``.

    Arguments:
        library: The stored papers.
        config: What is read; default: ``feed.toml``.
        now: This instant, with time zone.
    """
    problems: list[str] = []
    if config is None:
        try:
            config = configuration.read()
        except ValueError as error:
            config = Config()
            problems.append(str(error))
    rows = {row["name"]: row for row in library.connection.execute("SELECT * FROM sources")}
    counts = dict(
        tuple(row)
        for row in library.connection.execute("SELECT source, count(DISTINCT entry) FROM sightings GROUP BY source")
    )
    sources = []
    for source in config.sources:
        row = rows.get(source.name)
        told = {key: row[key] if row else None for key in ("status", "message", "tried", "succeeded")}
        told |= {"status": told["status"] or "new", "message": told["message"] or ""}
        sources.append({"name": source.name, "kind": source.kind, **told, "papers": counts.get(source.name, 0)})
        problem = _problem(source, told, now())
        if problem:
            problems.append(f"{source.name}: {problem}")
    late = overdue(library, now())
    problems += [f"{o.email}: the digest of {o.period} did not go ({o.state}): {o.why}" for o in late]
    found = {"papers": len(library), "sources": sources, "overdue": [vars(o) for o in late]}
    return {"ok": not problems, **found, "problems": problems}


def _problem(source: Source, told: dict[str, Any], now: datetime) -> str:
    """What is wrong with a source, or ``""``. To be empty is a fault only after a while: there are holidays."""
    if told["status"] in ("failed", "partial"):
        return f"{told['status']}: {told['message']}"
    if told["tried"] is None:
        return "never asked; `attractor feed sync` does"
    last = told["succeeded"]
    days = (now - datetime.fromisoformat(last)).days if last else None
    if days is None:
        return "empty: it has not told of a paper yet"
    return f"no paper for {days} days" if days >= source.quiet_days else ""


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="seconds")
