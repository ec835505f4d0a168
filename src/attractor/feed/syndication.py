"""Feeds: Atom (RFC 4287) and JSON Feed 1.1 of any list of papers, made from the data alone, and conditional requests.

The same papers give the same bytes: ids are tag URIs of `Stored.uid`, dates come from the entries and never from the
clock, so that a reader's ``If-None-Match`` is answered by 304 until something changes.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from html import escape
from urllib.parse import quote
from xml.etree import ElementTree as ET

from attractor.feed import addresses
from attractor.feed.library import Stored
from attractor.feed.runnable import Runs

ATOM = "http://www.w3.org/2005/Atom"
ATOM_TYPE = "application/atom+xml; charset=utf-8"
JSON_TYPE = "application/feed+json; charset=utf-8"
TAG = "tag:attractor.invalid,2026:"  # ids outlive the address of the page; .invalid is nobody's
BEGINNING = "1970-01-01T00:00:00+00:00"  # the date of a feed in which nothing was ever
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 has no way to write them


@dataclass(frozen=True)
class Channel:
    """What a feed says of itself.

    Attributes:
        title: Such as the follow's question.
        link: The page with the same papers.
        self_link: Where the feed itself is.
        uid: What it is known by, whatever its address: ``"follow:sharp"``, ``"room:optim"``, ``"search:…"``.
        updated: UTC, ISO 8601; default: when its papers changed last.
        base_url: Of the page, for links to what runs; default: without such links.
    """

    title: str
    link: str
    self_link: str
    uid: str
    updated: str | None = None
    base_url: str = ""


@dataclass(frozen=True)
class Item:
    """A paper in a feed.

    Attributes:
        stored: The paper.
        reason: Why it is there, in words; ``""`` where that is plain.
        runs: What runs here, see `attractor.feed.runnable.runs_here`.
    """

    stored: Stored
    reason: str = ""
    runs: tuple[Runs, ...] = ()


def atom(channel: Channel, items: Sequence[Item]) -> bytes:
    """An Atom feed, UTF-8."""
    ET.register_namespace("", ATOM)
    feed = ET.Element(f"{{{ATOM}}}feed", {"{http://www.w3.org/XML/1998/namespace}lang": "en"})

    def add(parent: ET.Element, name: str, text: str = "", **attributes: str) -> ET.Element:
        element = ET.SubElement(parent, f"{{{ATOM}}}{name}", {k: clean(v) for k, v in attributes.items()})
        element.text = clean(text) or None
        return element

    add(feed, "id", identifier(channel.uid))
    add(feed, "title", channel.title)
    add(feed, "updated", updated(channel, items))
    add(feed, "link", rel="self", type="application/atom+xml", href=channel.self_link)
    add(feed, "link", rel="alternate", type="text/html", href=channel.link)
    add(add(feed, "author"), "name", "attractor")
    add(feed, "generator", "attractor")
    for item in _once(items):
        stored, paper = item.stored, item.stored.entry
        entry = add(feed, "entry")
        add(entry, "id", identifier(stored.uid))
        add(entry, "title", paper.title)
        add(entry, "updated", _rfc3339(stored.changed))
        add(entry, "published", _rfc3339(stored.added))
        add(entry, "link", rel="alternate", href=_link(item, channel))
        for name in list(filter(str.strip, map(clean, paper.authors))) or ["unknown"]:
            add(add(entry, "author"), "name", name)
        for category in filter(None, paper.categories):
            add(entry, "category", term=category)
        add(entry, "content", _html(item, channel.base_url), type="html")
    return ET.tostring(feed, encoding="utf-8", xml_declaration=True) + b"\n"


def json_feed(channel: Channel, items: Sequence[Item]) -> bytes:
    """A JSON Feed, version 1.1; what runs is under ``_attractor`` of each item as data."""
    data = {
        "version": "https://jsonfeed.org/version/1.1",
        "title": clean(channel.title),
        "home_page_url": channel.link,
        "feed_url": channel.self_link,
        "language": "en",
        "authors": [{"name": "attractor"}],
        "items": [_json_item(item, channel) for item in _once(items)],
    }
    return json.dumps(data, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _json_item(item: Item, channel: Channel) -> dict:
    stored, paper = item.stored, item.stored.entry
    data = {
        "id": identifier(stored.uid),
        "url": _link(item, channel),
        "title": clean(paper.title),
        "content_html": _html(item, channel.base_url),
        "summary": clean(item.reason),
        "date_published": _rfc3339(stored.added),
        "date_modified": _rfc3339(stored.changed),
        "authors": [{"name": name} for name in map(clean, paper.authors) if name],
        "tags": list(paper.categories),
        "_attractor": {"uid": stored.uid, "slug": stored.slug, "runs": [dict(vars(r)) for r in item.runs]},
    }
    return {name: value for name, value in data.items() if value not in ("", [])}


def identifier(uid: str) -> str:
    """The tag URI (RFC 4151) of a paper or feed."""
    return TAG + quote(uid, safe=":/;@&=+$.-_!~*'()")


def updated(channel: Channel, items: Sequence[Item]) -> str:
    """When the feed changed last, by its papers; RFC 3339."""
    return _rfc3339(channel.updated or max((item.stored.changed for item in items), default=BEGINNING))


def etag(body: bytes) -> str:
    """A strong entity tag of an answer."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def validators(channel: Channel, items: Sequence[Item], body: bytes) -> dict[str, str]:
    """The headers by which a reader asks whether something has changed: ``ETag`` and ``Last-Modified``."""
    changed = datetime.fromisoformat(updated(channel, items))
    return {"ETag": etag(body), "Last-Modified": format_datetime(changed, usegmt=True)}


def not_modified(request: Mapping[str, str], headers: Mapping[str, str]) -> bool:
    """Whether a reader has what `validators` describe, so that 304 is the answer (RFC 9110, section 13).

    Arguments:
        request: The request's headers, by lower-case name.
        headers: From `validators`.
    """
    if (asked := request.get("if-none-match")) is not None:
        tags = [tag.strip().removeprefix("W/") for tag in asked.split(",")]
        return "*" in tags or headers["ETag"] in tags
    if (since := request.get("if-modified-since")) is None:
        return False
    try:
        seen = parsedate_to_datetime(since)
    except ValueError:
        return False
    return parsedate_to_datetime(headers["Last-Modified"]) <= seen.replace(tzinfo=seen.tzinfo or UTC)


def clean(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return UNPRINTABLE.sub("", text)


def shortened(text: str, limit: int) -> str:
    """Text of at most so many characters, cut between words."""
    if len(text) <= limit:
        return text
    return text[: limit - 1].rsplit(" ", 1)[0].rstrip(" ,;:.") + "…"


def _once(items: Sequence[Item]) -> list[Item]:
    return list({item.stored.uid: item for item in reversed(items)}.values())[::-1]


def _rfc3339(instant: str) -> str:
    moment = datetime.fromisoformat(instant)
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat(timespec="seconds")


def _link(item: Item, channel: Channel) -> str:
    """Where to read about it; where nobody says, what is known of it here."""
    link = item.stored.entry.link
    if link.startswith(("http://", "https://")):
        return clean(link)
    slug = item.stored.slug
    return addresses.paper(channel.base_url, slug) if slug and channel.base_url else channel.link


def _html(item: Item, base_url: str) -> str:
    paper = item.stored.entry
    about = [", ".join(paper.authors), paper.published or "", ", ".join(paper.categories)]
    blocks = [f"<p>{escape(' · '.join(filter(None, about)))}</p>"] if any(about) else []
    if item.reason:
        blocks.append(f"<p><em>{escape(item.reason)}</em></p>")
    blocks += [f"<p>{_runs_html(runs, base_url)}</p>" for runs in item.runs]
    if paper.abstract:
        blocks.append(f"<p>{escape(paper.abstract)}</p>")
    return clean("\n".join(blocks) or f"<p>{escape(paper.title)}</p>")


def _runs_html(runs: Runs, base_url: str) -> str:
    name = escape(shortened(runs.title, 90))
    if base_url:
        name = f'<a href="{escape(addresses.paper(base_url, runs.slug))}">{name}</a>'
    return f"{'It runs here' if runs.same else 'Near it, and runs here'}: {name} ({escape(runs.summary)})"
