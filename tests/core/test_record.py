"""The record: what is written is read; many may write at once; a paper's status is its count."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from attractor.papers import Verdict, catalogue, record
from attractor.papers.record import Record

SLUG = "adahessian"


def verdict(outcome="holds", claim="small", slug=SLUG, **changes):
    broken = [{"name": "damaged", "verdict": "fails", "value": 2.0, "informative": True}]
    fields = {
        "slug": slug, "claim": claim, "statement": "it is small", "source": "ours", "verdict": outcome, "value": 1.0,
        "low": 0.9, "high": None, "threshold": 1.5, "direction": "at most", "broken": broken, "seconds": 0.1,
        "day": "2026-11-25",
    }  # fmt: skip
    return Verdict(**{**fields, **changes})


def test_what_is_written_is_read(tmp_path):
    full = verdict("inconclusive", scale="full", threshold=[0.9, 1.1], direction="within", note="so")
    other = verdict("fails", "other", given={"solved": True}, cases={"a": [1.0, None, 2.0]}, deterministic=True)
    again = [verdict(replication=r) for r in (1, 2)]
    record.write([verdict(), other], tmp_path)
    record.write([full, *again], tmp_path)
    found = record.read(SLUG, tmp_path)
    assert found.quick == {"small": verdict(), "other": other}
    assert found.full["small"][0] == full
    assert found.full["small"][1] == found.sources
    assert found.replications == {"small": {1: again[0], 2: again[1]}}
    assert set(found.versions) == {"jax", "optax", "equinox", "numpy"}
    data = json.loads(record.path(SLUG, tmp_path).read_text())
    assert "versions" not in json.dumps(data["claims"])  # once, and not with each claim
    assert record.path(SLUG, tmp_path) == tmp_path / "second_order" / "adahessian.json"
    assert list(record.read_all(tmp_path)) == [SLUG]


def test_what_was_made_under_other_code_goes(tmp_path, monkeypatch):
    record.write([verdict(), verdict(claim="gone")], tmp_path)
    record.write([verdict(replication=1), verdict(scale="full")], tmp_path)
    before = record.read(SLUG, tmp_path).sources
    monkeypatch.setattr(record, "fingerprint", lambda module: "changed")
    record.write([verdict("fails")], tmp_path)
    found = record.read(SLUG, tmp_path)
    assert found.quick == {"small": verdict("fails")}
    assert found.replications == {}
    assert found.full["small"][1] == before != found.sources  # what took an hour stays, marked as older
    monkeypatch.setattr(record, "fingerprint", lambda module: "changed again")
    record.write([verdict(replication=2)], tmp_path)
    found = record.read(SLUG, tmp_path)
    assert (found.quick, found.full, found.sources) == ({}, {}, "changed again")


def rerun_under_other_code(folder, monkeypatch, first, again):
    """The numbers of the replications that are left."""
    record.write([first], folder)
    record.write([verdict(replication=r) for r in (1, 2)], folder)
    monkeypatch.setattr(record, "fingerprint", lambda module: f"{id(again)}")
    record.write([again], folder)
    return list(record.read(SLUG, folder).replications.get("small", {}))


TELLING = {"value": 1.23456789, "cases": {"a": [1.23456789, None, 2.0]}}
DAMAGED = {"name": "damaged", "verdict": "fails", "value": 2.0, "informative": True}


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({}, [1, 2]),
        ({"day": "2026-12-01", "seconds": 3.0, "note": "said better", "statement": "it is small indeed"}, [1, 2]),
        ({"value": 1.2345678900000002}, []),
        ({"low": 0.8}, []),
        ({"high": 2.0}, []),
        ({"cases": {"a": [1.23456789, None, 3.0]}}, []),
        ({"threshold": 1.4}, []),
        ({"direction": "at least"}, []),
        ({"given": {"solved": True}}, []),
        ({"broken": [DAMAGED | {"value": 2.5}]}, []),
        ({"broken": [DAMAGED | {"name": "other"}]}, []),
    ],
)
def test_replications_stay_where_other_code_gives_the_very_same_numbers(tmp_path, monkeypatch, change, left):
    first = verdict(**TELLING)
    assert rerun_under_other_code(tmp_path, monkeypatch, first, verdict(**{**TELLING, **change})) == left


def test_round_numbers_that_agree_say_nothing(tmp_path, monkeypatch):
    assert rerun_under_other_code(tmp_path, monkeypatch, verdict(value=1.0), verdict(value=1.0)) == []


def test_the_share_that_replicates_is_of_claims_that_hold_and_were_run_again(tmp_path):
    names = {"kept": "hhf", "lost": "hff", "tied": "hf", "failing": "fhh", "never": ""}
    for name, runs in names.items():
        record.write([verdict("fails" if name == "failing" else "holds", name)], tmp_path)
        outcomes = ({"h": "holds", "f": "inconclusive"}[r] for r in runs)
        record.write([verdict(outcome, name, replication=i) for i, outcome in enumerate(outcomes, 1)], tmp_path)
    record.write([verdict(slug="lion-k"), verdict(slug="lion-k", replication=4)], tmp_path)
    assert record.replicating(record.read_all(tmp_path).values()) == (2, 4)


WRITER = """
import sys
from pathlib import Path
folder, target, me, *slugs = sys.argv[1:]
sys.path.insert(0, folder)
from test_record import record, verdict
for slug in slugs:
    for claim in ("one", "two"):
        record.write([verdict(claim=f"{claim}-{me}", slug=slug)], Path(target))
"""


def test_four_processes_that_record_leave_all(tmp_path):
    """Two each into the same files."""
    slugs = [s for s, p in catalogue().items() if p.room == "optim"][:10]
    command = [sys.executable, "-c", WRITER, __file__.rpartition("/")[0], str(tmp_path)]
    writers = [subprocess.Popen([*command, str(i), *slugs[5 * (i % 2) : 5 * (i % 2) + 5]]) for i in range(4)]
    assert [w.wait() for w in writers] == [0] * 4
    assert sum(len(r.quick) for r in record.read_all(tmp_path).values()) == 40


@pytest.mark.parametrize(
    ("outcomes", "current", "status", "summary"),
    [
        (["holds", "holds"], True, "holds", "2 of 2 hold"),
        (["holds", "fails"], True, "mixed", "1 of 2 hold"),
        (["holds", "inconclusive"], True, "mixed", "1 of 2 hold"),
        (["inconclusive", "fails"], True, "fails", "0 of 2 hold"),
        (["inconclusive", "void"], True, "inconclusive", "0 of 2 hold"),
        (["void"], True, "void", "0 of 1 hold"),
        (["error", "holds"], True, "error", "1 of 2 hold"),
        (["holds", "holds"], False, "stale", "2 of 2 hold"),
    ],
)
def test_status_of_a_paper(monkeypatch, outcomes, current, status, summary):
    monkeypatch.setattr(record, "fingerprint", lambda module: "now")
    made = {f"c{i}": verdict(outcome, f"c{i}") for i, outcome in enumerate(outcomes)}
    found = Record(SLUG, "now" if current else "then", quick=made)
    assert record.status(SLUG, found) == status
    assert record.summary(found) == summary
    assert sum(found.counts.values()) == len(outcomes)
    assert record.status(SLUG, Record(SLUG)) == "missing"


def test_a_claim_that_does_not_replicate_has_failed(monkeypatch):
    monkeypatch.setattr(record, "fingerprint", lambda module: "now")

    def with_runs(*outcomes):
        runs = {r + 1: verdict(o, replication=r + 1) for r, o in enumerate(outcomes)}
        return Record(SLUG, "now", quick={"small": verdict()}, replications={"small": runs})

    assert with_runs("holds", "holds", "fails").outcome("small") == "holds"
    assert with_runs("holds", "holds", "fails").replicated_share == "2/3"
    lost = with_runs("holds", "fails", "inconclusive")
    assert lost.outcome("small") == "not replicated"
    assert lost.counts["fails"] == 1
    assert record.status(SLUG, lost) == "fails"
    assert lost.note("small") == ""
    first, runs = replace(verdict(), note="here"), lost.replications["small"]
    runs = {r: replace(v, note=f"number {r}") for r, v in runs.items()} | {
        4: replace(verdict(replication=4), note="fine")
    }
    said = Record(SLUG, quick={"small": first}, replications={"small": runs})
    assert said.outcome("small") == "not replicated"
    assert said.note("small") == "here; on other seeds: number 3"
    runs[5] = verdict(replication=5)  # now most hold
    assert (said.outcome("small"), said.note("small")) == ("holds", "here")
    assert with_runs("holds", "fails").outcome("small") == "not replicated"  # half is no majority
    assert Record(SLUG, quick={"small": verdict()}).replicated_share is None


def test_a_file_of_another_format_is_named(tmp_path):
    path = record.path(SLUG, tmp_path)
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(ValueError, match="no record of this version"):
        record.read(SLUG, tmp_path)
