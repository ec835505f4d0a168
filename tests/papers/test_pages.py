"""The documentation's generated pages: one for every paper and every room, and true to the record."""

import json
import os
import pkgutil
import re
from functools import cache
from pathlib import Path

import pages
import pytest
import recorded
import tables

from attractor.papers import ROOMS, catalogue, record

MADE = pages.pages()
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BESIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
WRITTEN = {p.slug: MADE[f"papers/{p.room}/{p.slug}.md"] for p in catalogue().values()}


def test_every_paper_and_every_room_has_a_page():
    papers = {f"papers/{p.room}/{p.slug}.md" for p in catalogue().values()}
    assert set(MADE) == {"papers/index.md", *papers, *(f"papers/{room}/index.md" for room in ROOMS)}


@cache
def filled(path):
    """A page that is written by hand, with its tables."""
    return tables.fill(path.read_text(encoding="utf-8"))


def prose(text):
    """A page without its code."""
    return re.sub(r"^```.*?^```|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)


def heads(text):
    """The anchors of a page's headings."""
    found = re.findall(r"^#+ +(.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in found}


def test_no_link_is_dead():
    site = {str(DOCS / path): text for path, text in MADE.items()}
    site |= {str(path): filled(path) for path in DOCS.rglob("*.md")}
    beside = {str(ROOT / name): (ROOT / name).read_text(encoding="utf-8") for name in BESIDE}
    count = 0
    for path, text in (site | beside).items():
        for target, anchor in re.findall(r"\]\((?!\w+:)([^()\s#]*)#?([^()\s]*)\)", prose(text)):
            found = os.path.normpath(Path(path).parent / target) if target else path
            # Of files that are no pages, the site takes those below docs/.
            assert found in site or (Path(found).is_file() and (path in beside or DOCS in Path(found).parents)), (
                path,
                target,
            )
            assert not anchor or anchor in heads((site | beside)[found]), (path, target, anchor)
            count += 1
        for name in re.findall(r"\]\[(attractor[\w.]*)\]", prose(text)):
            pkgutil.resolve_name(name)
    assert count > 1_000


def test_the_plot_of_cosines_is_of_the_table_beside_it():
    known = json.loads((DOCS / "data" / "credit.json").read_text(encoding="utf-8"))
    text = (DOCS / "data" / "credit.md").read_text(encoding="utf-8")
    for name, layers in (row for network in known.values() for row in network.items()):
        cells = re.findall(rf"^\| {re.escape(name)} \|.* \| ([-\d., e]+) \|$", text, re.MULTILINE)
        shown = [[float(v) for v in of.split(", ")][:3] for of in cells]
        assert any(of == pytest.approx(layers, rel=0.05, abs=1e-3) for of in shown), name
    plot = filled(DOCS / "methods" / "credit.md")
    assert all(f"layer {i}, at the start" in plot for i in (1, 2, 3))


def test_a_row_has_what_its_head_says():
    for path in DOCS.rglob("*.md"):
        for lines in re.findall(r"(?:^\|.*\n)+", prose(filled(path)), re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines.splitlines()}) == 1, (path, lines[:300])


def test_who_names_a_paper_links_to_its_page():
    pages = [path for path in DOCS.rglob("*.md") if path.parent.name not in ("data", "upstream")]
    pages.remove(DOCS / "design.md")  # which names modules
    for path in pages:
        text = re.sub(r"\{\{.*?\}\}", "", prose(path.read_text(encoding="utf-8")))
        for slug in set(re.findall(r"`([\w-]+)`", text)) & set(catalogue()) - {"config"}:  # an axis of traces, too
            page = DOCS / "papers" / catalogue()[slug].room / f"{slug}.md"
            assert f"[`{slug}`]({os.path.relpath(page, path.parent)})" in text, (path, slug)


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
