"""The digest: what is new, once each, why and what runs, readable in any mail program, safe whatever a paper says."""

import re

import pytest
from outgoing import ADDED, library

from attractor.feed import Entry
from attractor.feed.digest import Digest, _said, compose

__all__ = ["library"]
SINCE, PAGE = "2026-01-01T00:00:00+00:00", "https://papers.example.org"


def of(library, since=SINCE, names=("sharp", "federated"), **how) -> Digest:
    taken = {follow.name: follow for follow in every(library)}
    return compose(library, [taken[name] for name in names], since, PAGE, **how)


def every(library):
    from attractor.feed import follows

    return follows.every(library)


def test_each_paper_stands_once_with_why_and_what_runs(library):
    found = of(library)
    assert len(found.entries) == len({e.stored.uid for e in found.entries}) == len(found.papers) == 4
    ours = next(e for e in found.entries if e.stored.slug == "adahessian")
    assert ours.runs[0].same
    assert ours.runs[0].outcomes
    assert ours.text.startswith("Adam-like optimizer")  # in our own words
    both = next(e for e in found.entries if e.stored.entry.arxiv == "2601.00003")
    assert re.search(r"Also for (sharp|federated)$", both.reason)
    assert all(e.reason for e in found.entries)
    assert found.subject == "AdaHessian: An Adaptive Second Order Optimizer for Machine Learning and 3 more new papers"
    for part in (found.html, found.text):
        assert "4 new papers, 1 of them runs here" in part
        assert f"{PAGE}/papers/adahessian" in part
        assert "attractor.second_order.adahessian" in part
        assert "Near it, and runs here" in part
        assert "You follow sharp and federated" in part
        assert "nsubscribe" not in part  # no link was given


def test_what_a_paper_says_stays_text(library):
    found = of(library)
    assert "<script" not in found.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in found.html
    assert "Does sharpness <script>alert(1)</script> explain" in found.text  # as it is written
    assert "\x0b" not in found.html + found.text
    nasty = Entry('Sharpness"> {{ 7 * 7 }}\r\nBcc: a@b.example', arxiv="2601.00009", authors=("<img src=x>",))
    library.add([nasty], "test")
    found = of(library, since=ADDED[-1])
    assert "\n" not in found.subject
    assert "<img" not in found.html
    assert "{{ 7 * 7 }}" in found.html


def test_links_that_run_something_are_not_links(library):
    library.add([Entry("Sharpness, linked", link="javascript:alert(1)")], "test")
    found = of(library)
    assert "javascript" not in found.html + found.text


def test_since_then_and_what_was_told(library):
    assert len(of(library, since=ADDED[2]).papers) == 2
    told = frozenset(of(library, since=ADDED[2]).papers)
    assert len(of(library, told=told).papers) == 2
    empty = of(library, told=frozenset(of(library).papers))
    assert (empty.entries, empty.subject) == ((), "Nothing new")
    assert "Nothing new for sharp and federated." in empty.text
    assert "it runs here" in of(library, since=ADDED[0], told=frozenset(of(library, since=ADDED[1]).papers)).text


def test_days_are_those_of_the_reader(library):
    assert "Since Monday, 5 January 2026" in of(library, since="2026-01-05T22:00:00+00:00").text
    assert "Since Tuesday, 6 January 2026" in of(library, since="2026-01-05T22:00:00+00:00", zone="Asia/Tokyo").text


def test_what_does_not_fit_is_counted_and_not_told_again(library):
    found = of(library, limit=1)
    assert (len(found.entries), len(found.papers)) == (1, 4)
    assert "And 3 more" in found.html


def test_a_mail_program_needs_nothing_from_elsewhere(library):
    html = of(library, unsubscribe=f"{PAGE}/unsubscribe?token=a.b").html
    assert not re.search(r"<(img|link|script|iframe|object|form)\b|@import|url\(", html)
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"<(p|h1|h2|h3|td class)\b(?![^>]*style=)", html)  # styles are inline
    assert f'href="{PAGE}/unsubscribe?token=a.b"' in html


def test_a_long_digest_is_not_cut_off_by_gmail(library):
    library.add(
        [Entry(f"Sharpness in the case {i}", "Words & words. " * 40, ("A Name",) * 9) for i in range(40)], "test"
    )
    found = of(library)
    assert len(found.entries) == 20
    assert len(found.html.encode()) < 102_000


@pytest.mark.parametrize(
    ("kind", "query", "said"),
    [("question", "does sharpness explain it?", "does sharpness explain it?"), ("author", "Ada", "By: Ada"),
     ("paper", "adahessian", "More like: ADAHESSIAN"), ("room", "optim", "Room: optim")],
)  # fmt: skip
def test_a_follow_is_named_as_people_say_it(library, kind, query, said):
    from attractor.feed.follows import Follow

    assert _said(Follow("x", kind, query)).startswith(said)
