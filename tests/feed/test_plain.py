"""Text, links, days and numbers from outside, made harmless without losing what a paper says."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from upstream import NOW

from attractor.feed import plain
from attractor.feed.plain import MARKUP


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("A <b>bold</b> claim", "A bold claim"),
        ("one<br/>two<p>three</p>four", "one two three four"),
        ("<script>alert(1)</script>Title", "Title"),
        ("<style>p {color: red}</style>Title", "Title"),
        ("Title<img src=x onerror=alert(1)>", "Title"),
        ('<a href="javascript:alert(1)">link</a>', "link"),
        ("A&amp;B &lt;i&gt;slanted&lt;/i&gt; &eacute;", "A&B slanted é"),
        ("twice &amp;lt;b&amp;gt;escaped", "twice escaped"),
        ("<!-- hidden -->seen", "seen"),
        ("<jats:p>From a publisher</jats:p>", "From a publisher"),
        # mathematics stays
        ("If $p<q$ holds and $n>k$, then", "If $p<q$ holds and $n>k$, then"),
        ("when a<b and c>d", "when a<b and c>d"),
        ("$\\|x\\|_1 < \\epsilon$ & so on", "$\\|x\\|_1 < \\epsilon$ & so on"),
        ("rates 1<s<2, <0.05> and <x, y>", "rates 1<s<2, <0.05> and <x, y>"),
        ("AT&T, R&D, ?a=1&copy=2, A &amp B", "AT&T, R&D, ?a=1&copy=2, A &amp B"),
        ("<b>Sharp</b> minima where $a<b$", "Sharp minima where $a<b$"),
        # what is not to be seen goes
        ("zero\x00 one\x1b[31m two\u202e three\ud800", "zero one[31m two three"),
        ("line\r\n\tbreaks\u2028and\u00a0spaces", "line breaks and spaces"),
        ("e\u0301", "é"),
        (None, ""), (7, ""), ({"a": 1}, ""), (["x"], ""),
    ],
)  # fmt: skip
def test_text_becomes_plain(told, kept):
    assert plain.plain(told) == kept


PIECES = st.sampled_from(
    ["<", ">", "</", "<b>", "<script>", "</script>", "<!--", "-->", "&", "&lt;", "&amp;", "&#60;", "b", " ", "p", "x=1",
     "<svg onload=1>", "$a<b$", "lt;", "&lt", "<a href='x'>", "<![CDATA[", "]]>", "\x00", "\u202e", "<br", "/>", "é"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join)))
@example("&amp;" * 3 + "lt;script&amp;amp;gt;")
@example("<" + "b<" * 20)
def test_nothing_that_is_markup_is_left_and_again_changes_nothing(text):
    once = plain.plain(text)
    assert not MARKUP.search(once)
    assert plain.plain(once) == once
    assert once.replace("\u200c", "").replace("\u200d", "").isprintable()
    once.encode()


def test_text_is_bounded():
    assert len(plain.plain("x" * 10**6)) == plain.ABSTRACT
    assert plain.plain("<p>" * 10**5, 100) == ""


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("https://a.example/b?c=1&amp;d=2", "https://a.example/b?c=1&d=2"),
        (" http://a.example ", "http://a.example"),
        ("javascript:alert(1)", ""), ("JaVaScRiPt:alert(1)", ""), ("data:text/html,x", ""), ("//a.example", ""),
        ("https://user:word@a.example/", ""), ("https://", ""), ("http://[::1", ""), ("https://a.example:99999/", ""),
        ('https://a.example/"onmouseover="x', ""), ("https://a.example/<b>", ""), ("https://a.example/a b", ""),
        ("https://a.example/" + "x" * 3000, ""), (None, ""), (5, ""), ("/abs/1", ""), ("mailto:a@b.example", ""),
    ],
)  # fmt: skip
def test_links_lead_to_pages_only(told, kept):
    assert plain.link(told) == kept


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("2026-11-24T17:59:59Z", "2026-11-24"), ("2026-11-24", "2026-11-24"), ("2026-11-27", "2026-11-27"),
        ("2031-01-01", None),
        ("1970-13-01", None), ("1833-01-01", None), ("yesterday", None), (None, None), (20261124, None),
    ],
)  # fmt: skip
def test_days_exist(told, kept):
    assert plain.day(told, NOW) == kept


def test_votes_are_counts():
    told = [3, 0, -1, 1.5, True, "7", None, 10**30]
    assert [plain.votes(v) for v in told] == [3, 0, None, None, None, None, None, None]


def test_numbers_are_those_of_papers():
    assert plain.arxiv_number("http://arxiv.org/abs/2611.00001v2") == "2611.00001v2"
    assert plain.arxiv_number("https://arxiv.org/pdf/math/0601001.pdf?download=1") == "math/0601001"
    for text in (
        "see arXiv:2611.00001 for more",
        "2611.00001v" + "9" * 30,
        "https://a.example/2611.00001",
        None,
        2611.00001,
    ):
        assert plain.arxiv_number(text) is None
    assert plain.doi("https://doi.org/10.1000/ABC.1") == "10.1000/ABC.1"
    assert [plain.doi(t) for t in ("10.1000/<b>x</b>", "10.1000/" + "x" * 400, 10.1, "no")] == [None] * 4


def test_a_title_that_is_none_is_refused():
    for title in ("", "<b></b>", None, "...", "x" * 5000):
        with pytest.raises(ValueError, match="title: expected"):
            plain.entry(title, NOW)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda x: st.lists(x, max_size=3))
)
def test_any_value_in_any_place_is_read_or_refused(value):
    entry = plain.entry(
        "A title", NOW, abstract=value, authors=[value], published=value, arxiv=value, address=value, digital=value,
        categories=[value],
    )  # fmt: skip
    json.dumps(entry.asdict()).encode()
