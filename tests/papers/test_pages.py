"""The documentation's generated pages: one for every paper and every room, and true to the record."""

import re
from pathlib import Path

import pages
import pytest
import recorded

from attractor.papers import ROOMS, catalogue, record

MADE = pages.pages()
DOCS = Path(__file__).parents[2] / "docs"
WRITTEN = {p.slug: MADE[f"papers/{p.room}/{p.slug}.md"] for p in catalogue().values()}


def test_every_paper_and_every_room_has_a_page():
    papers = {f"papers/{p.room}/{p.slug}.md" for p in catalogue().values()}
    assert set(MADE) == {"papers/index.md", *papers, *(f"papers/{room}/index.md" for room in ROOMS)}


def test_links_between_pages_lead_somewhere():
    for path, text in MADE.items():
        for target in re.findall(r"\]\(([^):]+\.md)\)", text):
            found = (DOCS / path).parent.joinpath(target).resolve().relative_to(DOCS)
            assert str(found) in MADE or (DOCS / found).is_file(), (path, target)


def test_a_room_lists_each_of_its_papers_once_with_its_count():
    for room in ROOMS:
        text = MADE[f"papers/{room}/index.md"]
        for paper in catalogue().values():
            lines = [line for line in text.splitlines() if f"({paper.slug}.md)" in line]
            assert len(lines) == (paper.room == room), (room, paper.slug)
            assert all(recorded.status(paper.slug) in line for line in lines), lines


def test_a_paper_has_all_of_its_claims():
    known = record.read_all()
    assert known
    for slug, text in WRITTEN.items():
        for claim in known[slug].quick.values() if slug in known else ():
            assert recorded.plain(claim.statement) in text
            assert recorded.plain(claim.note) in text
            for variant in claim.broken:
                assert recorded.plain(variant["name"]) in text
        assert ("No claim of it has been tried yet" in text) == (slug not in known)


def test_a_claim_stands_with_its_outcome_value_and_threshold():
    found = {
        "name": "is-small", "statement": "x_1 is small | or not", "outcome": "fails", "value": 0.25, "low": 0.125,
        "high": 0.5, "threshold": 0.2, "direction": "at most", "source": "paper", "notes": ["so"], "where": "here",
        "cases": {"a": [0.2, 0.1, None]},
        "broken": [
            {"name": "a sign", "became": "caught", "value": 3.0},
            {"name": "twice", "became": "not caught", "value": None},
        ],
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "claims", lambda slug: [found])
        line = next(line for line in "\n".join(pages._measured("adahessian")).splitlines() if "small" in line)
    assert line == (
        "| x&#95;1 is small &#124; or not<small>so</small><small>a: 0.2</small>"
        "<small>Broken on purpose: a sign, caught at 3; twice, not caught</small> "
        "| **fails** | 0.25<br>[0.125, 0.5] | at most 0.2<br>(paper) |"
    )


def test_what_is_not_finite_has_no_number():
    claim = {"value": None, "low": None, "high": None, "threshold": None}
    assert recorded.measured(claim) == "not finite"
    assert recorded.needed(claim) == "–"
    assert (
        recorded.needed({"threshold": [0.9, 1.1], "direction": "within", "source": "ours"}) == "within 0.9 … 1.1 (ours)"
    )
    assert recorded.measured({"value": 0.5, "low": None, "high": 0.6}) == "0.5 [−∞, 0.6]"
    assert recorded.measured({"value": 0.5, "low": 0.5, "high": 0.5}) == "0.5"


def test_text_is_no_markup():
    assert recorded.plain("a_b*c <d> [e](f) `g` $h$ |i|") == (
        "a&#95;b&#42;c &#60;d&#62; &#91;e&#93;(f) &#96;g&#96; &#36;h&#36; &#124;i&#124;"
    )
