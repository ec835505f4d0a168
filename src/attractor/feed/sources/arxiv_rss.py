"""arXiv's daily announcements (rss.arxiv.org): what is new, cross-listed and replaced, on the days that have any."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

from attractor.feed import plain
from attractor.feed.entry import Entry
from attractor.feed.fetch import Fetcher
from attractor.feed.sources import document
from attractor.feed.sources.base import Page, Source, Told, expect, one_of, read_items, subjects

KINDS = ("new", "cross", "replace", "replace-cross")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_HEAD = re.compile(
    r"^(?:\s*<description>)*\s*arXiv:\S+\s+Announce Type:\s*(?P<kind>[\w-]+)\s*(?:Abstract:\s*)?(?P<abstract>.*)$",
    re.DOTALL | re.IGNORECASE,
)


@dataclass(frozen=True)
class ArxivRss(Source):
    """arXiv's announcements of today in some subject classes.

    Attributes:
        categories: Subject classes, at least one.
        announce: Of which kinds: ``new``, ``cross`` (listed in a further class), ``replace``, ``replace-cross``.
    """

    kind: ClassVar[str] = "arxiv-rss"
    url: str = "https://rss.arxiv.org/rss"
    categories: tuple[str, ...] = ()
    announce: tuple[str, ...] = ("new", "cross", "replace")

    def __post_init__(self):
        super().__post_init__()
        expect("categories", self.categories, "at least one subject class, such as cs.LG", bool(self.categories))
        subjects(self.categories)
        one_of("announce", self.announce, KINDS)

    def pages(self, ask: Fetcher, state: dict[str, Any], now: datetime) -> Iterator[Page]:
        # Asked on days without announcements, too: where nobody asked on Friday, Friday's are still there on Saturday.
        answer = ask.get(f"{self.url.rstrip('/')}/{'+'.join(self.categories)}", state.get("validators"))
        if not answer.changed:
            yield Page(Told(), state, quiet=True)
            return
        found = document.feed(document.decoded(answer.body, answer.charset))
        told = read(found, now, self.announce)
        # After a page that broke off, the next sync is to get it anew, not to hear that nothing has changed.
        kept = {} if told.broken else {"validators": answer.validators}
        skipped = not found.items and not told.broken and _is_skipped(found, now)
        yield Page(told, kept, day=told.day, quiet=skipped, whole=not skipped)


def read(found: document.Feed, now: datetime, announce: tuple[str, ...] = KINDS) -> Told:
    """The papers of an announcement.

    Arguments:
        found: The feed.
        now: This instant.
        announce: The kinds of announcement that are wanted.
    """
    return replace(read_items(found, lambda item: _entry(item, now, announce)), day=_day(found, now))


def _entry(item: Any, now: datetime, announce: tuple[str, ...]) -> Entry | None:
    text = item.get("summary", "")
    head = _HEAD.match(text)
    kind = item.get("arxiv_announce_type") or (head["kind"].lower() if head else "")
    if kind not in announce:
        if kind in KINDS:
            return None
        raise ValueError(f"announce type: expected {', '.join(KINDS)}, got {kind[:40]!r}")
    number = plain.arxiv_number(item.get("id")) or plain.arxiv_number(item.get("link"))
    if number is None:
        raise ValueError(f"no arXiv number: {plain.plain(item.get('title'), 80)}")
    names = re.sub(r"\s*\([^()]*\)", "", plain.plain(item.get("author", "")))  # affiliations
    return plain.entry(
        item.get("title"),
        now,
        abstract=head["abstract"] if head else text,
        authors=names.split(", "),
        published=_local_day(item.get("published", "")) if kind == "new" else None,  # else its first day is not told
        arxiv=number,
        digital=item.get("arxiv_doi"),
        categories=[tag.get("term") for tag in item.get("tags", [])],
    )


def _day(found: document.Feed, now: datetime) -> str | None:
    """The day of the announcement, where it is made: New York's, as written."""
    return plain.day(_local_day(found.channel.get("published") or found.channel.get("updated")), now)


def _local_day(text: Any) -> str | None:
    """The day of a date such as ``Fri, 02 Feb 2024 00:00:00 -0500`` in its own time zone."""
    if not isinstance(text, str):
        return None
    try:
        return parsedate_to_datetime(text).date().isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return text


def _is_skipped(found: document.Feed, now: datetime) -> bool:
    """Whether there are no announcements on the feed's day; its Atom form does not say which days those are."""
    day = _day(found, now)
    weekday = datetime.fromisoformat(day).weekday() if day else now.weekday()
    return DAYS[weekday] in (found.skip_days or DAYS[5:])
