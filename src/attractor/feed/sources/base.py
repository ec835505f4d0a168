"""What a source tells in one go, and what every source can be set to."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from attractor.feed.entry import Entry
from attractor.feed.fetch import Fetcher
from attractor.feed.sources.document import Feed
from attractor.names import unknown

T = TypeVar("T")


@dataclass(frozen=True)
class Told:
    """Papers that were read, and what could not be.

    Attributes:
        entries: The papers.
        votes: How many people liked each; empty where the source does not say.
        unread: Why items could not be read, one text an item.
        broken: Why the rest of the page could not be read, or ``""``.
        day: The day that the page says it is of, ISO 8601.
        gone: How many records it says were withdrawn.
    """

    entries: tuple[Entry, ...] = ()
    votes: tuple[int | None, ...] = ()
    unread: tuple[str, ...] = ()
    broken: str = ""
    day: str | None = None
    gone: int = 0


@dataclass(frozen=True)
class Page:
    """One step of a source: stored whole, together with where to go on from there.

    Attributes:
        told: What it says.
        state: What the source is to be given the next time; JSON.
        day: The day that this counts for; `None` for today.
        quiet: Whether nothing new was to be expected: unchanged since the last time, or a day without announcements.
        whole: Whether it tells of all the papers of its day, so that fewer than usual is a fault.
        short: What is missing, or ``""``.
        total: How many papers the source says there are in all.
    """

    told: Told
    state: dict[str, Any]
    day: str | None = None
    quiet: bool = False
    whole: bool = False
    short: str = ""
    total: int | None = None


@dataclass(frozen=True)
class Source:
    """A place where papers are told of.

    Attributes:
        name: What it is called here.
        pace: Seconds between two requests to its server; arXiv's gets 3 or more.
        hosts: Further servers that it may redirect to.
        quiet_days: After so many days without a paper, `attractor feed status` calls it a fault.
    """

    kind: ClassVar[str]
    name: str
    pace: float = 1.0
    hosts: tuple[str, ...] = ()
    quiet_days: int = 5
    url: str = ""

    def __post_init__(self):
        expect("name", self.name, "1 to 60 letters, digits, - . _", bool(re.fullmatch(r"[\w.-]{1,60}", self.name)))
        expect("pace", self.pace, "seconds from 0 to 3600", 0 <= self.pace <= 3600)
        expect("quiet_days", self.quiet_days, "a number from 1 to 1000", 1 <= self.quiet_days <= 1000)
        for host in self.hosts:
            expect("hosts", host, "names such as example.org", bool(re.fullmatch(r"[a-z0-9.-]+(:\d{1,5})?", host)))
        if self.url:
            expect("url", self.url, "an address that begins with http:// or https://", is_address(self.url))

    def servers(self) -> dict[str, float]:
        """The servers it may ask, each with its pace."""
        own = [server_of(self.url)] if self.url else []
        return dict.fromkeys([*own, *self.hosts], self.pace)

    def pages(self, ask: Fetcher, state: dict[str, Any], now: datetime) -> Iterator[Page]:
        """Ask for what is new since ``state``, page by page."""
        raise NotImplementedError


def is_address(url: str) -> bool:
    """Whether it is a web address that a source may have."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    fit = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    return bool(fit and url.isascii() and not re.search(r"\s", url))


def server_of(url: str) -> str:
    """``host`` or ``host:port`` of an address, as `attractor.feed.fetch.Fetcher` names it."""
    parts = urlsplit(url)
    usual = parts.port in (None, 443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}" if usual else f"{parts.hostname}:{parts.port}"


def expect(name: str, value: Any, what: str, fits: bool) -> None:
    """Refuse a setting by name."""
    if not fits:
        raise ValueError(f"{name}: expected {what}, got {value!r}")


def one_of(name: str, values: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a word that is none of those known."""
    for value in values:
        if value not in known:
            raise unknown(name, value, known, f"known: {', '.join(known)}")


def subjects(names: tuple[str, ...]) -> None:
    """Refuse what is no subject class of arXiv's."""
    for name in names:
        expect("categories", name, "arXiv's, such as cs.LG", bool(re.fullmatch(r"[a-z-]+(\.[A-Za-z-]{2,20})?", name)))


def read_each(items: Iterable[Any], read: Callable[[Any], T | None]) -> tuple[list[T], tuple[str, ...]]:
    """What each item says, and why some could not be read; what is `None` is left out on purpose."""
    found, unread = [], []
    for item in items:
        try:
            result = read(item)
        except ValueError as error:
            unread.append(str(error)[:200])
        else:
            if result is not None:
                found.append(result)
    return found, tuple(unread)


def read_items(found: Feed, read: Callable[[Any], Entry | None]) -> Told:
    """The papers of a feed's items."""
    entries, unread = read_each(found.items, read)
    damaged = ("an item that runs into another, or into itself",) * found.damaged
    return Told(tuple(entries), unread=(*unread, *damaged), broken=found.broken)


def fields(item: Any) -> dict[str, Any]:
    """A JSON object, or an empty one for what is none."""
    return item if isinstance(item, dict) else {}


def listed(items: Any) -> list[Any]:
    """A JSON array, or an empty one for what is none."""
    return items if isinstance(items, list) else []
