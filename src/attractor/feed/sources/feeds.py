"""Any RSS, Atom or JSON Feed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from attractor.feed import plain
from attractor.feed.entry import Entry
from attractor.feed.fetch import Fetcher
from attractor.feed.sources import arxiv_rss, document
from attractor.feed.sources.base import Page, Source, Told, expect, fields, listed, read_each, read_items

DOI_FIELDS = ("prism_doi", "dc_identifier", "arxiv_doi")


@dataclass(frozen=True)
class AnyFeed(Source):
    """A feed at an address: RSS, Atom or JSON Feed."""

    kind: ClassVar[str] = "feed"

    def __post_init__(self):
        super().__post_init__()
        expect("url", self.url, "the feed's address", bool(self.url))

    def pages(self, ask: Fetcher, state: dict[str, Any], now: datetime) -> Iterator[Page]:
        answer = ask.get(self.url, state.get("validators"))
        if not answer.changed:
            yield Page(Told(), state, quiet=True)
            return
        told = read(document.decoded(answer.body, answer.charset), now)
        # A feed holds its last items, however old: to hold none is a fault, and not to be remembered as the last word.
        fine = told.entries and not told.broken
        yield Page(told, {"validators": answer.validators} if fine else {})


def read(text: str, now: datetime) -> Told:
    """The papers of a feed.

    Raises:
        Unreadable: if it is none.
    """
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        return _json(document.json_value(text), now)
    return of_feed(document.feed(text), now)


def of_feed(found: document.Feed, now: datetime) -> Told:
    """The papers of an RSS or Atom document."""
    if any("arxiv_announce_type" in item for item in found.items):
        return arxiv_rss.read(found, now)
    return read_items(found, lambda item: _entry(item, now))


def _entry(item: Any, now: datetime) -> Entry:
    contents = [part.get("value") for part in item.get("content", [])]
    address = item.get("link") or item.get("id")
    if not address:  # a piece of one, with the feed's own title
        raise ValueError("an item without a link or an id")
    when = item.get("published_parsed")
    return plain.entry(
        item.get("title"),
        now,
        abstract=item.get("summary") or next(filter(None, contents), ""),
        authors=[author.get("name") for author in item.get("authors", [])],
        published=f"{when.tm_year:04d}-{when.tm_mon:02d}-{when.tm_mday:02d}" if when else None,
        arxiv=_number(item.get("id"), address),
        address=address,
        digital=_doi(*(item.get(name) for name in DOI_FIELDS), item.get("id"), address),
        categories=[tag.get("term") for tag in item.get("tags", []) if "arxiv" in str(tag.get("scheme"))],
    )


def _json(found: Any, now: datetime) -> Told:
    if "jsonfeed" not in str(fields(found).get("version", "")) or not isinstance(fields(found).get("items"), list):
        raise document.Unreadable("expected a JSON Feed, with a version and items")
    entries, unread = read_each(found["items"], lambda item: _json_entry(fields(item), now))
    return Told(tuple(entries), unread=unread)


def _json_entry(item: dict[str, Any], now: datetime) -> Entry:
    address = item.get("url") or item.get("external_url") or item.get("id")
    authors = listed(item.get("authors")) or [item.get("author")]
    return plain.entry(
        item.get("title"),
        now,
        abstract=item.get("content_html") or item.get("content_text") or item.get("summary"),
        authors=[fields(author).get("name") for author in authors],
        published=item.get("date_published"),
        arxiv=_number(item.get("id"), address, item.get("external_url")),
        address=address,
        digital=_doi(item.get("id"), address),
    )


def _number(*texts: Any) -> str | None:
    """The arXiv number that one of these is; a bare number counts for one only where it says so."""
    said = (t for t in texts if isinstance(t, str) and "arxiv" in t.lower())
    return next(filter(None, map(plain.arxiv_number, said)), None)


def _doi(*texts: Any) -> str | None:
    return next(filter(None, map(plain.doi, texts)), None)
