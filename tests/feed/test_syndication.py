"""Feeds that readers take: by the rules of RFC 4287 and JSON Feed 1.1, escaped, the same bytes for the same papers."""

import json
import re
from datetime import datetime
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import feedparser
import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given, settings
from hypothesis import strategies as st
from outgoing import ADDED, library

from attractor.feed import Entry
from attractor.feed.library import Stored
from attractor.feed.runnable import runs_here
from attractor.feed.syndication import Channel, Item, atom, etag, json_feed, not_modified, shortened, validators

__all__ = ["library"]
A = "{http://www.w3.org/2005/Atom}"
CHANNEL = Channel(
    "Does sharpness <explain> & generalize?", "https://papers.example.org/follows/sharp",
    "https://papers.example.org/follows/sharp.atom?a=1&b=2", "follow:sharp", base_url="https://papers.example.org",
)  # fmt: skip
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def items(library):
    return [Item(s, f"it says <sharp> & {s.id}", runs_here(s)) for s in library.select()]


def by_the_rules(text: bytes) -> ET.Element:
    """RFC 4287, sections 4.1.1 and 4.1.2: what has to be there, how often, and its form."""
    feed = fromstring(text)
    assert feed.tag == f"{A}feed"
    for node in (feed, *feed.iter(f"{A}entry")):
        for name in ("id", "title", "updated"):
            assert len(node.findall(A + name)) == 1, name
            assert node.findtext(A + name).strip()
        assert re.fullmatch(r"tag:[a-z0-9.-]+,\d{4}:[0-9A-Za-z;/?:@&=+$.\-_!~*'()%,#]+", node.findtext(f"{A}id"))
        for name in ("updated", "published"):
            for date in node.findall(A + name):
                assert RFC3339.fullmatch(date.text)
                datetime.fromisoformat(date.text)
        for link in node.findall(f"{A}link"):
            assert urlsplit(link.get("href")).scheme in ("http", "https")
        kinds = [(link.get("rel"), link.get("type"), link.get("hreflang")) for link in node.findall(f"{A}link")]
        assert len(set(kinds)) == len(kinds)
        assert all(author.findtext(f"{A}name").strip() for author in node.findall(f"{A}author"))
    assert [link.get("rel") for link in feed.findall(f"{A}link")] == ["self", "alternate"]
    assert feed.findall(f"{A}author")
    for entry in feed.iter(f"{A}entry"):
        assert entry.findtext(f"{A}published") <= entry.findtext(f"{A}updated")
        assert len(entry.findall(f"{A}content")) == 1
        assert entry.find(f"{A}content").get("type") == "html"
        assert [link.get("rel") for link in entry.findall(f"{A}link")] == ["alternate"]
    ids = [node.findtext(f"{A}id") for node in (feed, *feed.iter(f"{A}entry"))]
    assert len(set(ids)) == len(ids)
    return feed


def test_atom(library):
    library.connection.execute("UPDATE entries SET changed = '2026-01-07T11:00:00+00:00' WHERE id = 1")
    found = items(library)
    text = atom(CHANNEL, found)
    feed = by_the_rules(text)
    parsed = feedparser.parse(text)
    assert not parsed.bozo
    assert parsed.version == "atom10"
    assert parsed.feed.links[0] == {"rel": "self", "type": "application/atom+xml", "href": CHANNEL.self_link}
    assert parsed.feed.updated == parsed.entries[3].updated == "2026-01-07T11:00:00+00:00"
    assert parsed.entries[3].published == ADDED[0]
    assert [e.id for e in parsed.entries] == [
        "tag:attractor.invalid,2026:arxiv:2601.00004", "tag:attractor.invalid,2026:arxiv:2601.00003",
        "tag:attractor.invalid,2026:doi:10.1000/a%3Cb%3E", "tag:attractor.invalid,2026:arxiv:2006.00719",
    ]  # fmt: skip
    ours = parsed.entries[3]
    assert [a.name for a in ours.authors][::4] == ["Zhewei Yao", "Michael W. Mahoney"]
    assert [t.term for t in ours.tags] == ["cs.LG", "stat.ML"]
    assert 'It runs here: <a href="https://papers.example.org/papers/adahessian">' in ours.content[0].value
    assert "Near it, and runs here" in parsed.entries[0].content[0].value
    title = feed.findall(f"{A}entry")[2].findtext(f"{A}title")
    assert title == "Does sharpness <script>alert(1)</script> explain generalization?"  # plain text, and stays text
    assert all("<script" not in e.findtext(f"{A}content") for e in feed.iter(f"{A}entry"))


def test_json_feed(library):
    data = json.loads(json_feed(CHANNEL, items(library)))
    assert data["version"] == "https://jsonfeed.org/version/1.1"
    assert data["title"]
    assert data["feed_url"] == CHANNEL.self_link
    ids = [item["id"] for item in data["items"]]
    assert len(set(ids)) == len(ids) == 4
    for item in data["items"]:
        assert isinstance(item["id"], str)
        assert "content_html" in item or "content_text" in item
        assert RFC3339.fullmatch(item["date_published"])
        assert RFC3339.fullmatch(item["date_modified"])
        assert all(set(author) & {"name", "url", "avatar"} for author in item.get("authors", []))
        assert all(isinstance(tag, str) for tag in item.get("tags", []))
        assert all(key.startswith("_") or key in KNOWN for key in item)
    assert data["items"][3]["_attractor"]["runs"][0]["slug"] == "adahessian"


KNOWN = (
    "id", "url", "external_url", "title", "content_html", "content_text", "summary", "image", "banner_image",
    "date_published", "date_modified", "authors", "tags", "language", "attachments",
)  # fmt: skip


def test_without_papers_a_feed_is_a_feed():
    feed = by_the_rules(atom(CHANNEL, []))
    assert feed.findtext(f"{A}updated") == "1970-01-01T00:00:00+00:00"
    assert json.loads(json_feed(CHANNEL, []))["items"] == []


def test_the_same_papers_give_the_same_bytes_and_an_answer_of_nothing_new(library):
    first, again = (atom(CHANNEL, items(library)) for _ in range(2))
    assert first == again
    headers = validators(CHANNEL, items(library), first)
    assert headers == {"ETag": etag(again), "Last-Modified": "Wed, 07 Jan 2026 09:30:00 GMT"}
    same, other = headers["ETag"], '"other"'
    for request, answer in [
        ({}, False), ({"if-none-match": same}, True), ({"if-none-match": f'{other}, W/{same}'}, True),
        ({"if-none-match": other}, False), ({"if-none-match": "*"}, True),
        ({"if-modified-since": headers["Last-Modified"]}, True),
        ({"if-modified-since": "Wed, 07 Jan 2026 09:29:59 GMT"}, False),
        ({"if-modified-since": "yesterday"}, False),
        ({"if-none-match": other, "if-modified-since": headers["Last-Modified"]}, False),  # the tag goes first
    ]:  # fmt: skip
        assert not_modified(request, headers) is answer, request
    library.connection.execute("UPDATE entries SET title = 'Sharper' WHERE id = 1")
    assert not not_modified({"if-none-match": same}, validators(CHANNEL, items(library), atom(CHANNEL, items(library))))


def test_a_paper_that_is_found_twice_stands_once(library):
    found = items(library)
    assert len(by_the_rules(atom(CHANNEL, found + found)).findall(f"{A}entry")) == 4


TEXT = st.text(max_size=30)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT, TEXT), max_size=3), TEXT)
def test_whatever_is_written_in_a_paper_the_feed_is_one(rows, title):
    found = []
    for i, (name, abstract, author, link, category) in enumerate(rows):
        entry = Entry(f"A {name}", abstract, (author,), link=link, categories=(category,))
        found.append(Item(Stored(i, f"title:{i}{name}", entry, None, ADDED[0], ADDED[1]), abstract))
    channel = Channel(f"T{title}", "https://a.example/", "https://a.example/f", f"search:{title}")
    feed = by_the_rules(atom(channel, found))
    assert len(feed.findall(f"{A}entry")) == len(rows)
    assert len(json.loads(json_feed(channel, found))["items"]) == len(rows)


def test_text_is_cut_between_words():
    assert shortened("a few words", 11) == "a few words"
    assert shortened("a few words, and more", 14) == "a few words…"
    assert len(shortened("x" * 50, 10)) <= 10


@pytest.mark.parametrize("link", ["javascript:alert(1)", "", "ftp://x/y"])
def test_links_are_http_or_none(library, link):
    stored = Stored(1, "title:x", Entry("x", link=link), None, ADDED[0], ADDED[0])
    assert by_the_rules(atom(CHANNEL, [Item(stored)])).find(f"{A}entry/{A}link").get("href") == CHANNEL.link
