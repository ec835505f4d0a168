"""What the catalogue knows of where and by whom its papers were published."""

import json
import re
import subprocess
import sys
from collections import Counter

import pytest

from attractor.papers.catalogue import PATH, catalogue, find, read

ROWS = [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]


def test_arxiv_numbers_are_well_formed_and_nobody_shares_one():
    numbers = [row["arxiv"] for row in ROWS if row["arxiv"] is not None]
    for number in numbers:
        month, _, count = number.partition(".")
        assert re.fullmatch(r"\d{2}(0[1-9]|1[0-2])", month), number
        assert re.fullmatch(r"\d{5}" if month >= "1501" else r"\d{4}", count), number  # five digits since 2015
    assert [number for number, times in Counter(numbers).items() if times > 1] == []
    assert len(numbers) >= 403


def test_years_are_those_of_the_first_versions():
    for row in ROWS:
        if row["arxiv"] is not None:
            assert row["year"] == 2000 + int(row["arxiv"][:2]), row["slug"]
        assert row["year"] is None or 1950 <= row["year"] <= 2026, row["slug"]


def test_authors_are_names_or_unknown():
    for row in ROWS:
        if row["authors"] is None:
            continue
        assert row["authors"], f"{row['slug']}: unknown authors are null"
        assert len(set(row["authors"])) == len(row["authors"]), row["slug"]
        for name in row["authors"]:
            # A given and a family name, in this order, without commas, titles or "et al."
            assert re.fullmatch(r"[^\W\d_][\w.'’-]*( [\w.'’-]+)+", name), (row["slug"], name)
            assert "et al" not in name, (row["slug"], name)
    assert sum(row["authors"] is None for row in ROWS) <= 0.01 * len(ROWS)


def test_titles_are_plain_text():
    for row in ROWS:
        assert not re.search(r"[\\${}^_]|\s\s|^\s|\s$", row["title"]), row["title"]


def test_what_is_unknown_is_none_or_empty():
    known, unknown = find("adahessian"), find("avoided-crossing-chi2-solitons")
    assert (known.arxiv, known.year, known.authors[0]) == ("2006.00719", 2020, "Zhewei Yao")
    assert known.link == "https://arxiv.org/abs/2006.00719"
    assert (unknown.arxiv, unknown.year, unknown.authors, unknown.link) == (None, None, (), "")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"venue": "here"}, r"papers\.jsonl:2: expected the keys slug, title, .*, got .*venue"),
        ({"room": "optin"}, r"papers\.jsonl:2: unknown room 'optin', did you mean 'optim'\?"),
        ({}, r"papers\.jsonl:2: slug '.*' occurs twice"),
    ],
)
def test_a_bad_row_is_named(tmp_path, changed, message):
    file = tmp_path / "papers.jsonl"
    file.write_text(f"{json.dumps(ROWS[0])}\n{json.dumps(ROWS[0] | changed)}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read(file)


def test_a_missing_key_is_named(tmp_path):
    file = tmp_path / "papers.jsonl"
    file.write_text(json.dumps({k: v for k, v in ROWS[0].items() if k != "arxiv"}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"papers\.jsonl:1: expected the keys .*arxiv"):
        read(file)


def test_the_catalogue_loads_without_jax():
    code = "import sys; from attractor.papers.catalogue import catalogue; catalogue(); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_reading_gives_the_catalogue():
    assert read(PATH) == catalogue()
