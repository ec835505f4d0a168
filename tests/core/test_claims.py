"""Claims, verdicts and their record: a claim can fail, a broken variant must, a change of code makes it stale."""

import json
import math
import textwrap
from types import SimpleNamespace

import pytest

from attractor import papers
from attractor.papers import Evidence, Verdict, check, claim, claims_of, record, sources
from attractor.stats import Interval

SLUG = "adahessian"


@pytest.fixture
def declared(monkeypatch):
    """Only the claims a test declares."""
    monkeypatch.setattr(papers, "_claims", {})
    monkeypatch.setattr(papers, "importlib", SimpleNamespace(import_module=lambda name: None))
    monkeypatch.setattr(papers, "path_of", lambda name: sources.path_of("attractor.names"))
    monkeypatch.setattr(papers, "fingerprint", lambda name: "0" * 16)


def declare(value, broken_value, **threshold):
    @claim(SLUG, "a number is small", broken={"larger": {"number": broken_value}}, reason="too large here")
    def small(number=value, *, scale):
        return Evidence(number, **threshold)


def test_a_claim_holds_fails_or_is_not_caught(declared):
    declare(1.0, 3.0, at_most=2.0)
    (verdict,) = check(SLUG)
    assert (verdict.verdict, verdict.value, verdict.threshold, verdict.direction) == ("holds", 1.0, 2.0, "at most")
    assert verdict.caught
    assert verdict.broken == [{"name": "larger", "verdict": "fails", "value": 3.0}]
    declare(2.5, 3.0, at_most=2.0)
    (verdict,) = check(SLUG)
    assert (verdict.verdict, verdict.note) == ("fails", "too large here")
    declare(1.0, 1.5, at_most=2.0)
    (verdict,) = check(SLUG)
    assert verdict.verdict == "error"
    assert not verdict.caught
    assert "larger" in verdict.note


def test_the_verdict_uses_the_unfavorable_bound():
    assert Evidence(Interval(1.0, 0.5, 1.9), at_most=2.0).holds
    assert not Evidence(Interval(1.0, 0.5, 2.1), at_most=2.0).holds
    assert not Evidence(Interval(1.0, 0.5, 2.1), at_least=0.6).holds
    assert not Evidence(math.nan, at_most=2.0).holds
    assert not Evidence(math.nan, at_least=2.0).holds
    for thresholds in ({}, {"at_most": 1.0, "at_least": 0.0}):
        with pytest.raises(ValueError, match="exactly one"):
            Evidence(1.0, **thresholds)


def test_what_raises_is_an_error_and_not_the_end(declared):
    @claim(SLUG, "raises", broken={"too": {}})
    def raises(*, scale):
        raise RuntimeError("no convergence")

    (verdict,) = check(SLUG)
    assert verdict.verdict == "error"
    assert verdict.value is None
    json.dumps(verdict.asdict(), allow_nan=False)


def test_a_claim_needs_a_paper_and_a_broken_variant():
    with pytest.raises(ValueError, match="broken"):
        claim(SLUG, "anything", broken={})
    with pytest.raises(ValueError, match="did you mean 'adahessian'"):
        claim("adahesian", "anything", broken={"x": {}})
    with pytest.raises((ValueError, TypeError), match="scale"):  # a TypeError from the type checker of the tests
        check(SLUG, scale="huge")  # pyright: ignore[reportArgumentType]


def test_the_record_keeps_what_it_is_given(declared, tmp_path):
    declare(1.0, 3.0, at_most=2.0)
    path = tmp_path / "verdicts.json"
    verdicts = check(SLUG)
    record.write(verdicts, path)
    assert record.read(path) == {SLUG: {"small": verdicts[0]}}
    assert record.status("muon-mla-moe", record.read(path)) == "missing"


@pytest.mark.parametrize(
    ("outcomes", "current", "status"),
    [
        (["holds", "holds"], True, "holds"),
        (["holds", "fails"], True, "fails"),
        (["error", "fails"], True, "error"),
        (["holds", "holds"], False, "stale"),
    ],
)
def test_status_of_a_paper(monkeypatch, outcomes, current, status):
    monkeypatch.setattr(record, "fingerprint", lambda module: "now")
    made = {
        f"c{i}": Verdict(
            SLUG, f"c{i}", "", outcome, 1.0, 1.0, 1.0, 1.0, "at most", [], 0.0, sources="now" if current else "then"
        )
        for i, outcome in enumerate(outcomes)
    }
    assert record.status(SLUG, {SLUG: made}) == status


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package whose sources may be changed."""
    monkeypatch.setattr(sources, "ROOT", tmp_path)

    def write(**files):
        for name, text in files.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        for cached in (sources._body, sources._bindings, sources._uses, sources._code):
            cached.cache_clear()
        return sources.fingerprint("attractor.paper")

    return write


def test_the_hash_follows_what_is_used(package):
    good = "from ..base import a, b\ndef step(x):\n    return half(x)\ndef half(x):\n    return a * x\n"
    base = "a = 1\nb = 1\n"
    first = package(paper="from attractor.rooms.good import step\nimport numpy\n", rooms__good=good, base=base)
    assert package(base='"""Documented."""\n# a comment\na   =   1\nb = 1\nc = 3\n') == first
    assert package(base="a = 2\nb = 1\n") != first
    assert package(base=base) == first
    assert package(rooms__good=good.replace("a * x", "a + x")) != first
    assert package(rooms__good=good + "def unused():\n    return 1\n") == first
    assert package(rooms__good=good + "a = 5\n") != first  # bound twice
    assert package(rooms__good=good + "print(b)\n") != first  # runs with the module
    with pytest.raises(ModuleNotFoundError):
        sources.fingerprint("attractor.nothing")


def test_a_module_imported_whole_counts_whole(package):
    paper = "from attractor import base\nfrom attractor.names import unknown\n"
    first = package(paper=paper, base="a = 1\n", names="def unknown():\n    return 1\n")
    assert package(base="a = 1\nb = 1\n") != first
    assert package(base="a = 1\n", names="def unknown():\n    return 2\n") == first  # only words


def test_every_written_paper_has_claims_and_an_up_to_date_verdict():
    written = [s for s in papers.catalogue() if sources.path_of(papers.module_of(s)).is_file()]
    known = record.read()
    assert len(written) >= 16
    for slug in written:
        assert claims_of(slug), slug
        assert record.status(slug, known) in ("holds", "fails"), slug
        assert all(v.caught for v in known[slug].values()), slug
