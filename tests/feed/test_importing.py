"""Files of others: pages in every loose order, bibliographies, what is said of what cannot be read."""

import json
import textwrap

import pytest
from typer.testing import CliRunner

from attractor.cli import app
from attractor.feed.importing import format_of, import_texts
from attractor.feed.pasted import read_page

# Ours, shaped like a page's: long, with sentences, a link at the end, a title that ends with a question mark.
PAPERS = [
    ("Descent at the Edge: Why Do Large Steps Help?", "Large steps are held to be unstable. " * 8 + "We show when."),
    ("h-Smoothness (Revisited), with 3.5 Times Fewer Steps", "We treat h, i.e. more. " * 9 + "Code: a.org/Code."),
    ("MIRROR: Maps for e.g. Sparse Models", "Mirror maps fit the set (here: the simplex). " * 6 + "They gain 3.2%."),
    ("Learned Curvature", "Curvature is learned from data of 2.0 million runs. " * 6 + "Is it enough?"),
]  # fmt: skip
HEADER = ["new", "Get trending papers in your email inbox!", "Subscribe", "Daily Papers"]
HEADER += ["byAK and the research community", "Oct 28"]
NAMES = ["Ann Lee, Bo de Vries and Çelik Öz", "Ann Lee", "Ann Lee, Tsogt-Ochir B. Enkhbayar", "Bo de Vries, Ann Lee"]


def blank():
    return "\n\n".join([*HEADER, *(part for paper in PAPERS for part in paper)])


def tight_after_the_header():
    return "".join(HEADER) + "\n".join(part for paper in PAPERS for part in paper)


def titles_run_into_abstracts():
    return "Subscribe" + "".join(f"{title}\n{abstract}" for title, abstract in PAPERS)


def dated():
    return "\n\n".join(
        [*HEADER, *(f"{t}\n\n{a}\n\n  • 3 authors\n·\nJun 2{i}, 2020" for i, (t, a) in enumerate(PAPERS))]
    )


def dates_run_into_titles():
    return "".join(f"{t}\n{a}\n12 authors·Jun 2{i}, 2020" for i, (t, a) in enumerate(PAPERS))


def voted():
    return "\n\n".join(
        [*HEADER, *(f"57\n\nSubmitted by\n\nsomebody\n\n{t}\n\n{a}\n\n·\n2 comments" for t, a in PAPERS)]
    )


def broken_into_lines():
    fill = lambda text: textwrap.fill(text, 72, break_on_hyphens=False)  # noqa: E731
    return "\n\n".join([*HEADER, *(f"{fill(t)}\n\n{fill(a)}" for t, a in PAPERS)])


def windows():
    return "\ufeff" + blank().replace("\n", "\r\n")


@pytest.mark.parametrize(
    "layout",
    [
        blank, tight_after_the_header, titles_run_into_abstracts, dated, dates_run_into_titles, voted,
        broken_into_lines, windows,
    ],
)  # fmt: skip
def test_a_page_is_read_whole_and_nothing_is_made_up(layout):
    page = read_page(layout().removeprefix("\ufeff"))
    assert [(e.title, e.abstract) for e in page.entries] == [(t, " ".join(a.split())) for t, a in PAPERS]
    assert page.unread == ()
    days = [f"2020-06-2{i}" for i in range(4)] if "date" in layout.__name__ else [None] * 4
    assert [e.published for e in page.entries] == days


def test_authors_are_read_where_a_page_lists_them():
    page = read_page("\n\n".join(f"{t}\n\n{n}\n\n{a}\n\nFeb 24" for (t, a), n in zip(PAPERS, NAMES, strict=True)))
    assert [e.title for e in page.entries] == [t for t, _ in PAPERS]
    assert page.entries[0].authors == ("Ann Lee", "Bo de Vries", "Çelik Öz")
    assert page.entries[1].authors == ("Ann Lee",)
    assert page.entries[0].published is None  # a date without a year is no date
    assert page.dates[0] == "Feb 24"


def test_titles_that_look_like_names_are_titles():
    titles = ["Certified Bounds, Punctual Schemes", "Neural Arithmetic Units", "Optimal Brain Surgeons"]
    page = read_page("\n\n".join(f"{t}\n\n{PAPERS[0][1]}" for t in titles))
    assert [(e.title, e.authors) for e in page.entries] == [(t, ()) for t in titles]


def test_what_fits_nothing_is_handed_back():
    page = read_page(
        f"{PAPERS[0][1]}\n\n{PAPERS[0][0]}\n\n{PAPERS[0][1]}\n\nJun 3, 2020\n\n{PAPERS[1][1]}\n\nOdd words"
    )
    assert len(page.entries) == 1
    assert page.unread == (PAPERS[0][1], PAPERS[1][1], "Odd words")
    assert read_page("— · —\n\n***").entries == ()


BIBTEX = r"""
@article{yao2020, title={{ADAHESSIAN}: An Adaptive {Second} Order Optimizer for Machine Learning}, year=2020, month=jun,
  author={Yao, Zhewei and Amir Gholami and van der Berg, J{\"u}rgen}, eprint={2006.00719v3}, archivePrefix={arXiv}}
@misc{b, title={On na\"ive steps \& more}, author={A B}, date={2021-03-04}, doi={10.1000/XYZ}, url={https://example.org}}
@misc{c, author={No Title}}
@article{d, title={open
"""
RIS = """TY  - JOUR
TI  - On naive steps
AU  - Yao, Zhewei
AU  - Lee, Ann
DA  - 2020/06/01
AB  - Short.
DO  - 10.1000/xyz
UR  - https://arxiv.org/abs/2001.00001v2
ER  -
"""
CSL = [
    {"title": "On <i>naive</i> steps", "author": [{"given": "Ann", "family": "Lee"}, {"literal": "The Team"}],
     "issued": {"date-parts": [[2020, 6]]}, "URL": "http://arxiv.org/abs/2001.00001", "abstract": "<p>Short.</p>"},
    {"id": "untitled"},
]  # fmt: skip


def test_bibtex(library):
    outcome = import_texts(library, {"a.bib": BIBTEX})
    first, second = outcome.papers
    assert first["title"].startswith("ADAHESSIAN: An Adaptive Second")
    assert first["authors"] == ["Zhewei Yao", "Amir Gholami", "Jürgen van der Berg"]
    assert (first["arxiv"], first["slug"], first["date"]) == ("2006.00719", "adahessian", "2020-06")
    assert (second["title"], second["date"]) == ("On naïve steps & more", "2021-03-04")
    assert library.select(order="id")[1].entry.doi == "10.1000/xyz"
    assert len(outcome.unread) == 2
    assert outcome.unread[0].startswith("a.bib: @misc{c: title: expected words")
    assert "no BibTeX" in outcome.unread[1]


def test_ris(library):
    (paper,) = import_texts(library, {"a.ris": RIS}).papers
    assert paper["authors"] == ["Zhewei Yao", "Ann Lee"]
    assert (paper["arxiv"], paper["date"], paper["abstract"]) == ("2001.00001", "2020-06-01", "Short.")
    assert library.select()[0].entry.doi == "10.1000/xyz"


def test_csl(library):
    outcome = import_texts(library, {"a.json": json.dumps(CSL)})
    (paper,) = outcome.papers
    assert (paper["title"], paper["abstract"]) == ("On naive steps", "Short.")
    assert (paper["authors"], paper["date"]) == (["Ann Lee", "The Team"], "2020-06")
    assert (paper["arxiv"], paper["slug"]) == ("2001.00001", None)
    assert outcome.unread[0].startswith("a.json: untitled: title: expected")


def test_one_paper_in_several_files_is_taken_once(library):
    outcome = import_texts(library, {"a.ris": RIS, "b.json": json.dumps(CSL[:1])})
    assert (len(outcome.papers), outcome.merged) == (1, ["On naive steps"])
    again = import_texts(library, {"a.ris": RIS})
    assert (len(again.papers), again.merged, len(library)) == (1, ["On naive steps"], 1)


def test_arxiv_numbers(library):
    outcome = import_texts(library, {"-": "2006.00719v2\nhttps://arxiv.org/abs/9901.00001\n"})
    assert [p["slug"] for p in outcome.papers] == ["adahessian"]
    (unread,) = outcome.unread
    assert unread.startswith("-: https://arxiv.org/abs/9901.00001: not in the catalogue; `attractor feed sync`")


@pytest.mark.parametrize(
    ("text", "format"),
    [(BIBTEX, "bibtex"), (RIS, "ris"), (json.dumps(CSL), "csl"), ("2006.00719\n", "arxiv"), (blank(), "page")],
)
def test_what_a_text_is_is_found_out(text, format):
    assert format_of(text) == format
    assert format_of("\ufeff\n" + text) == format


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "nothing"), ("<!DOCTYPE html>", "source"), ("PK\0", "binary"), ("{", "property name"), ("[1]", "CSL-JSON")],
)
def test_other_texts_are_refused_and_nothing_is_stored(library, text, told):
    with pytest.raises(ValueError, match=f"b: .*{told}"):
        import_texts(library, {"a": RIS, "b": text})
    assert len(library) == 0


def test_the_command(tmp_path):
    file = tmp_path / "page.txt"
    file.write_text(blank(), encoding="utf-8")
    answer = CliRunner().invoke(app, ["import", str(file), "--json"])
    outcome = json.loads(answer.stdout)
    assert [p["title"] for p in outcome["papers"]] == [t for t, _ in PAPERS]
    assert outcome["papers"][0].keys() == {"title", "abstract", "authors", "date", "arxiv", "slug"}
    assert (outcome["merged"], outcome["unread"]) == ([], [])
    again = CliRunner().invoke(app, ["import", "-"], input=f"{blank()}\n\nOdd words")
    assert "4 papers, 4 told of before, 1 not read" in again.stdout
    refused = CliRunner().invoke(app, ["import", "-"], input=b"\xff\xfe")
    assert isinstance(refused.exception, ValueError)
    assert "UTF-8" in str(refused.exception)
