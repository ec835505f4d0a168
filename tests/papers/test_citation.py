"""BibTeX entries say what the catalogue says, to a reader who takes them apart as BibTeX does."""

import re
from collections import Counter
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from attractor.cli import app
from attractor.papers import catalogue, find
from attractor.papers.citation import bibtex, escape, key

PAPERS = list(catalogue().values())


def parse(entry: str) -> tuple[str, dict[str, str]]:
    """Key and fields of an entry; braces must match, and nothing may stand between the fields."""
    head = re.match(r"@misc\{([a-z0-9-]+),\n", entry)
    assert head, entry
    at, found = head.end(), {}
    while not entry.startswith("}", at):
        name = re.compile(r"  (\w+) = \{").match(entry, at)
        assert name, entry[at:]
        end = start = name.end()
        depth = 1
        while depth:
            step = 2 if entry[end] == "\\" else 1  # an escaped brace does not count
            depth += {"{": 1, "}": -1}.get(entry[end], 0)
            end += step
        assert entry.startswith(",\n", end), entry[end:]
        assert name[1] not in found
        found[name[1]] = entry[start : end - 1]
        at = end + 2
    assert entry[at:] == "}"
    return head[1], found


def unescape(text: str) -> str:
    for name, character in {"backslash": "\\", "asciitilde": "~", "asciicircum": "^"}.items():
        text = text.replace(rf"\text{name}{{}}", f"<{ord(character)}>")
    text = re.sub(r"\\([&%$#_{}])", lambda match: f"<{ord(match[1])}>", text)
    assert not re.search(r"[\\&%$#_~^]", text), f"LaTeX would take {text!r} for a command"
    return re.sub(r"<(\d+)>", lambda match: chr(int(match[1])), text)


def test_an_entry_says_what_the_row_says():
    for paper in PAPERS:
        cited, found = parse(bibtex(paper))
        assert cited == key(paper)
        assert found["title"].startswith("{"), "the title's capitals are kept"
        assert unescape(found.pop("title")[1:-1]) == paper.title
        names = found.pop("author").split(" and ") if paper.authors else []
        assert [unescape(re.sub(r"(?<!\\)[{}]", "", name)) for name in names] == list(paper.authors)
        expected = {"year": str(paper.year or ""), "eprint": paper.arxiv or "", "url": paper.link}
        expected["archivePrefix"] = "arXiv" if paper.arxiv else ""
        assert found == {name: value for name, value in expected.items() if value}


def test_keys_are_unique():
    assert [k for k, times in Counter(map(key, PAPERS)).items() if times > 1] == []


@pytest.mark.parametrize(
    ("authors", "year", "title", "expected"),
    [
        (("Zhewei Yao", "Amir Gholami"), 2020, "ADAHESSIAN: An Adaptive Optimizer", "yao2020adahessian"),
        (("Emmanuel de Bézenac",), 2023, "On the Möbius Strip", "bezenac2023mobius"),
        (("Sehoon Kim",), 2021, "I-BERT: Integer-only Quantization", "kim2021ibert"),
        (("Simon Le Cleac'h",), None, "A Fast Solver", "cleachfast"),
        ((), 2019, "A Fast Solver", "i-bert2019"),
    ],
)
def test_a_key_is_author_year_and_word(authors, year, title, expected):
    assert key(replace(find("i-bert"), authors=authors, year=year, title=title)) == expected


def test_special_characters_are_escaped():
    assert escape(r"50% of R&D_1 in {x}: ~$3^2 \ #4") == (
        r"50\% of R\&D\_1 in \{x\}: \textasciitilde{}\$3\textasciicircum{}2 \textbackslash{} \#4"
    )
    assert escape("Padé, Schrödinger, Q(λ)") == "Padé, Schrödinger, Q(λ)"


def test_a_capital_particle_belongs_to_the_family_name():
    # BibTeX takes the last word for the family name, and words before it that begin in lower case.
    paper = replace(find("i-bert"), authors=("Nicolas Le Roux", "Quoc V. Le", "Di Zhang", "Gido van de Ven"))
    assert "author = {Nicolas {Le Roux} and Quoc V. Le and Di Zhang and Gido van de Ven}," in bibtex(paper)


def test_the_command_prints_entries():
    text = CliRunner().invoke(app, ["cite", "adahessian", "i-bert"], catch_exceptions=False).stdout
    assert text == f"{bibtex(find('adahessian'))}\n\n{bibtex(find('i-bert'))}\n"


def test_the_command_refuses_an_unknown_paper():
    with pytest.raises(ValueError, match="unknown paper 'adahesian', did you mean 'adahessian'"):
        CliRunner().invoke(app, ["cite", "adahessian", "adahesian"], catch_exceptions=False)
