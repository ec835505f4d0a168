"""Mangled feeds and pages: nothing ends with a traceback, and nothing false is stored.

``PYTHONPATH=tests python tests/feed/test_fuzz.py 10000 [SEED]`` tries so many; the tests try a small number.
"""

import json
import random
import re
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import upstream as up
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from upstream import NOW, Clock, Paper

from attractor.feed import Library, plain
from attractor.feed.config import Config
from attractor.feed.fetch import Answer, Fetcher
from attractor.feed.sources import AnyFeed, ArxivApi, ArxivRss, HuggingFace, Oai
from attractor.feed.sync import sync

EXAMPLES = 120

PAPERS = [
    Paper("2611.24001", "Bounds for $p<q$ & more", "If $a<b$ and $c>d$, then so.", ("Ada Example", "Émile O'Sample")),
    Paper("2611.24002", "Über-parameterized nets: 日本", "Flat & sharp minima, \"quoted\" 'twice'.", ("Bo Sample",)),
    Paper("2611.24003", "Sharp minima", "R&D; x &amp y.", ("Émile O'Sample", "Cy Third"), categories=("stat.ML",)),
    Paper("2611.24004", "Neural <collapse> revisited", "We follow the gradient.", ("Di Fourth",), doi="10.1000/abc"),
]
TRUTH = {p.number: p for p in PAPERS}
SOURCES = {
    "api": (ArxivApi("a", url="http://a.example/", categories=("cs.LG",)), lambda ps: up.api(ps, len(ps))),
    "rss": (ArxivRss("a", url="http://a.example", categories=("cs.LG",)), up.rss),
    "atom": (ArxivRss("a", url="http://a.example", categories=("cs.LG",)), up.atom_announcements),
    "oai": (Oai("a", url="http://a.example/"), up.oai),
    "daily": (HuggingFace("a", url="http://a.example/", days=1), up.daily),
    "any rss": (AnyFeed("a", url="http://a.example/"), up.rss),
    "any atom": (AnyFeed("a", url="http://a.example/"), lambda ps: up.api(ps, len(ps))),
    "any json": (AnyFeed("a", url="http://a.example/"), up.json_feed),
}  # fmt: skip
TAG = re.compile(r"<[^<>]+>")
ITEM = re.compile(r"<(item|entry|record)>.*?</\1>", re.DOTALL)
JUNK = [
    "", "\x00", "\x1b", "\ufeff", "<", "&", "&nbsp;", "&bogus;", "&#0;", "&#xD800;", "<x>", "</x>", "<!--",
    "<?x ?>", "]]>", "<script>alert(1)</script>", "\ud800", "日本", "\u202e", "<item>", "</entry>", '"', "{", ",",
]  # fmt: skip
DATES = [
    "",
    "yesterday",
    "0000-00-00",
    "1970-01-01T00:00:00Z",
    "2099-01-01",
    "Fri, 99 Foo 2026 25:61:61 +9999",
    "9" * 40,
]
BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
VALUES = [None, 5, -1, 10**40, True, [], {}, "", "\ud800", [None], {"name": 5}, float("inf"), [[]]]


# What a fault does to a document. The first kind leaves words as they are: what is read then has to be true.


def cut(text, draw):
    return text[: draw.randrange(len(text) + 1)]


def tags(text):
    """The places of tags; what looks like one in JSON is part of its words."""
    return (text.lstrip()[:1] == "<" and list(TAG.finditer(text))) or [re.match("", text)]


def without_a_tag(text, draw):
    found = draw.choice(tags(text))
    return text[: found.start()] + text[found.end() :]


def tag_twice(text, draw):
    found = draw.choice(tags(text))
    return text[: found.end()] + text[found.start() :]


def junk_between_tags(text, draw):
    at = draw.choice([m.end() for m in re.finditer(r">(?=\s*<)", text)] or [0])
    return text[:at] + draw.choice(JUNK) + text[at:]


def item_twice(text, draw):
    found = draw.choice(list(ITEM.finditer(text)) or [re.match("", text)])
    return text[: found.end()] + found[0] + text[found.end() :]


def without_an_item(text, draw):
    found = draw.choice(list(ITEM.finditer(text)) or [re.match("", text)])
    return text[: found.start()] + text[found.end() :]


def other_order(text, draw):
    items = [m[0] for m in ITEM.finditer(text)]
    draw.shuffle(items)
    return ITEM.sub(lambda _: items.pop(), text)


def odd_date(text, draw):
    return re.sub(r"(?<=[>\"])[^<>\"]*2026[^<>\"]*:\d\d[^<>\"]*(?=[<\"])", lambda m: draw.choice([m[0], *DATES]), text)


def entity_bomb(text, draw):
    at = text.find("?>") + 2
    return text[:at] + BOMB + text[at:].replace("</title>", "&b;</title>", 1)


def deep(text, draw):
    if text.lstrip()[:1] != "<":
        return "[" * 30_000 + text
    at = draw.randrange(len(text) + 1)
    return text[:at] + "<a>" * 3000 + text[at:]


def odd_value(text, draw):
    """Some value of a JSON document replaced, whichever."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text
    places = []

    def visit(value):
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            places.append((value, key))
            visit(inner)

    visit(data)
    if places:
        value, key = draw.choice(places)
        value[key] = draw.choice(VALUES)
    return json.dumps(data)


TRUE = [cut, without_a_tag, tag_twice, junk_between_tags, item_twice, without_an_item, other_order, odd_date,
        entity_bomb, deep, odd_value]  # fmt: skip


def noise(text, draw):
    at = draw.randrange(len(text) + 1)
    return text[:at] + draw.choice([*JUNK, chr(draw.randrange(1, 0x3000))]) + text[at + draw.randrange(3) :]


def moved(text, draw):
    a, b, c = sorted(draw.randrange(len(text) + 1) for _ in range(3))
    return text[:a] + text[b:c] + text[a:b] + text[c:]


def html_in_titles(text, draw):
    return text.replace("title>", "title>&lt;img src=x onerror=alert(1)&gt;&lt;b&gt;", draw.randrange(1, 9))


def wrong_encoding(text, draw):
    return text.encode(draw.choice(["utf-16", "utf-16-be", "cp1252", "shift_jis", "utf-8-sig"]), "replace")


def bytes_flipped(text, draw):
    body = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw.randrange(1, 6)):
        if body:
            body[draw.randrange(len(body))] = draw.randrange(256)
    return bytes(body)


ANY = [*TRUE, noise, noise, moved, html_in_titles, wrong_encoding, bytes_flipped]


class Canned(Fetcher):
    """A fetcher that has the answer."""

    body = b""

    def get(self, url, validators=None):
        return Answer(url, self.body, None, True, {"etag": '"1"'})


@contextmanager
def libraries(folder):
    """A library that knows nothing, one that knows all of the papers, and what asks."""
    with Library(folder / "new.sqlite") as new, Library(folder / "known.sqlite") as known:
        fetcher = Canned({"a.example": 0.0}, folder, sleep=Clock().sleep)
        entries = [
            plain.entry(p.title, NOW, abstract=p.abstract, authors=p.authors, published=p.day, arxiv=f"{p.number}v1",
                        digital=p.doi or None, categories=p.categories)
            for p in PAPERS
        ]  # fmt: skip
        known.add(entries, "truth", "2026-11-24")
        for library in (new, known):  # what a crash of the machine leaves is not what is tested here
            library.connection.execute("PRAGMA synchronous = OFF")
        yield new, known, fetcher


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with libraries(tmp_path_factory.mktemp("fuzz")) as found:
        yield found


FAULTS = st.lists(st.sampled_from(range(len(ANY))), min_size=1, max_size=3)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(SOURCES)), FAULTS, st.integers(0, 10**9))
def test_mangled_pages(place, kind, faults, seed):
    note(f"{kind}: {', '.join(ANY[fault].__name__ for fault in faults)}; {seed}")
    one_page(place, kind, faults, seed)


def one_page(place, kind, faults, seed):
    new, known, fetcher = place
    source, form = SOURCES[kind]
    draw = random.Random(seed)
    body = form(PAPERS)
    chosen = [ANY[fault] for fault in faults]
    for fault in chosen:
        text = body.decode("latin-1") if isinstance(body, bytes) else body
        body = fault(text, draw)
    fetcher.body = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    for library in (new, known):
        for table in ("sources", "sightings"):
            library.connection.execute(f"DELETE FROM {table}")
    new.connection.execute("DELETE FROM entries")

    (outcome,) = sync(new, config=Config((source,)), fetcher=fetcher, now=lambda: NOW)
    assert not outcome.message.startswith("unexpected"), outcome
    for stored in new.select():
        harmless(stored.entry)
        if all(fault in TRUE for fault in chosen):
            true(stored.entry)
    if all(fault in TRUE for fault in chosen):
        before = known.select()
        sync(known, config=Config((source,)), fetcher=fetcher, now=lambda: NOW)
        assert known.select(order="id")[: len(PAPERS)] == sorted(before, key=lambda s: s.id)[: len(PAPERS)]
    if len(known) > len(PAPERS):
        known.connection.execute("DELETE FROM entries WHERE id > ?", (len(PAPERS),))


def harmless(entry):
    for text in (entry.title, entry.abstract, *entry.authors, *entry.categories):
        assert plain.plain(text) == text
        text.encode()
    assert entry.link == "" or plain.link(entry.link) == entry.link
    if entry.published:
        assert date(1900, 1, 1) <= date.fromisoformat(entry.published) <= date(2026, 11, 28)


def true(entry):
    """What is stored is what was told of that paper, or less."""
    told = TRUTH[entry.arxiv] if entry.arxiv else next(p for p in PAPERS if plain.plain(p.title) == entry.title)
    assert entry.title == plain.plain(told.title)
    assert entry.abstract in ("", plain.plain(told.abstract))
    assert set(entry.authors) <= set(told.authors)
    assert set(entry.categories) <= set(told.categories)
    assert entry.published in (None, told.day, "2026-11-26")  # of an announcement: the day that it was made
    assert entry.doi in (None, told.doi)


def test_unharmed_pages_are_read_whole(place):
    new, _, fetcher = place
    for kind, (source, form) in SOURCES.items():
        for table in ("sources", "sightings", "entries"):
            new.connection.execute(f"DELETE FROM {table}")
        fetcher.body = form([replace(p) for p in PAPERS]).encode()
        (outcome,) = sync(new, config=Config((source,)), fetcher=fetcher, now=lambda: NOW)
        assert (kind, len(new), outcome.status) == (kind, 4, "ok")
        for stored in new.select():
            true(stored.entry)
            assert stored.entry.abstract


def main(number, seed=0):
    """So many mangled pages drawn at random; prints those that went wrong."""
    draw, wrong = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder, libraries(Path(folder)) as place:
        for _ in range(number):
            faults = [draw.randrange(len(ANY)) for _ in range(draw.randint(1, 3))]
            page = draw.choice(sorted(SOURCES)), faults, draw.randrange(10**9)
            try:
                one_page(place, *page)
            except Exception as error:
                wrong += 1
                print(page, type(error).__name__, error)
    print(f"{number} mangled pages, seed {seed}: {wrong} went wrong")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
