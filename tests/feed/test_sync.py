"""Syncing: page by page, resumable, whole whenever it is killed, and honest about what is missing."""

import json
import os
import random
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import timedelta

import pytest
import upstream as up
from typer.testing import CliRunner
from upstream import NOW, Clock, Reply, papers

from attractor.cli import app
from attractor.feed import Library
from attractor.feed import config as configuration
from attractor.feed.config import Config
from attractor.feed.library import FIELDS
from attractor.feed.sources import AnyFeed, ArxivApi, ArxivRss, HuggingFace, Oai
from attractor.feed.sync import open_fetcher, status, sync

KILLS = int(os.environ.get("ATTRACTOR_KILLS", "6"))


@pytest.fixture
def run(library):
    """Sync some sources at an instant, without waiting."""

    def run(*sources, now=NOW, **more):
        config, clock = Config(sources, allow_private=True), Clock(now)
        with open_fetcher(config, sleep=clock.sleep, clock=clock) as fetcher:
            return sync(library, config=config, fetcher=fetcher, now=clock.now, **more)

    return run


def counts(outcome):
    return outcome.new, outcome.changed, outcome.known


def stored(library):
    return sorted(s.entry.arxiv for s in library.select())


def everything(found):
    """A server that tells of papers in all ways at once; those of the day before, where the way has days."""
    lists = [found[i : i + 5] for i in range(0, len(found), 5)]

    def answer(asked):
        kind = asked.path.split("/")[1].split("?")[0]
        if kind == "api":
            return up.search(found)(asked)
        if kind == "oai":
            at = int(asked.query.get("resumptionToken", 0))
            return Reply(up.oai(lists[at], str(at + 1) if at + 1 < len(lists) else ""))
        if kind == "daily":
            return Reply(up.daily([p for p in found if p.day == asked.query["date"]]))
        return Reply(up.rss(found) if kind == "rss" else up.json_feed(found))

    return answer


def all_kinds(url):
    return (
        ArxivApi("search", url=f"{url}/api", pace=0.0, categories=("cs.LG",), slice=5),
        ArxivRss("news", url=f"{url}/rss", pace=0.0, categories=("cs.LG",)),
        Oai("history", url=f"{url}/oai", pace=0.0),
        HuggingFace("daily", url=f"{url}/daily", pace=0.0),
        AnyFeed("blog", url=f"{url}/json", pace=0.0),
    )


def test_papers_of_all_sources_are_stored_once(upstream, library, run):
    found = papers(12) + papers(6, "2026-11-25")
    upstream.answer = everything(found)
    outcomes = run(*all_kinds(upstream.url))
    assert {o.name: (o.status, o.message) for o in outcomes} == {s.name: ("ok", "") for s in all_kinds(upstream.url)}
    assert stored(library) == sorted(p.number for p in found)
    assert counts(outcomes[0]) == (18, 0, 0)
    again = run(*all_kinds(upstream.url), now=NOW + timedelta(hours=1))
    assert {counts(o)[:2] for o in again} == {(0, 0)}
    assert len(library) == 18
    told = status(library, config=Config(all_kinds(upstream.url)), now=lambda: NOW + timedelta(hours=2))
    assert (told["ok"], told["papers"], told["problems"]) == (True, 18, [])
    assert [s["papers"] for s in told["sources"]] == [18] * 5
    json.dumps(told)


def test_only_named_sources_and_progress(upstream, library, run):
    upstream.answer = everything(papers(12))
    seen = []
    (outcome,) = run(*all_kinds(upstream.url), names=["search"], progress=lambda *told: seen.append(told))
    assert (outcome.name, outcome.pages) == ("search", 3)
    assert seen == [("search", 5, 12), ("search", 10, 12), ("search", 12, 12)]
    with pytest.raises(ValueError, match="unknown source 'serach', did you mean 'search'"):
        run(*all_kinds(upstream.url), names=["serach"])


def test_one_sources_failure_does_not_stop_the_others(upstream, library, run):
    honest = everything(papers(12))
    faults = {
        "/api": Reply("", 503), "/rss": Reply("<rss><item>"), "/oai": Reply("", 404), "/daily": Reply("{}"),
    }  # fmt: skip
    upstream.answer = lambda asked: (
        next((r for k, r in faults.items() if asked.path.startswith(k)), None) or honest(asked)
    )
    outcomes = run(*all_kinds(upstream.url))
    assert [o.status for o in outcomes] == ["failed"] * 4 + ["ok"]
    assert ["4 times" in outcomes[0].message, "404" in outcomes[2].message] == [True, True]
    assert len(library) == 12
    told = status(library, config=Config(all_kinds(upstream.url)), now=lambda: NOW)
    assert not told["ok"]
    assert [p.split(":")[:2] for p in told["problems"]] == [
        [n, " failed"] for n in ("search", "news", "history", "daily")
    ]


def test_a_fault_of_ours_in_one_source_does_not_stop_the_others(upstream, library, run, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("oh")
        yield

    monkeypatch.setattr(ArxivRss, "pages", broken)
    upstream.answer = everything(papers(3))
    outcomes = run(*all_kinds(upstream.url))
    assert (outcomes[1].status, outcomes[1].message) == ("failed", "unexpected ZeroDivisionError: oh")
    assert [o.status for o in outcomes if o.name != "news"] == ["ok"] * 4


def test_a_run_that_breaks_off_is_partial_and_the_next_goes_on(upstream, library, run):
    honest = up.search(papers(12))
    upstream.answer = lambda asked: Reply("", 500) if asked.query["start"] == "5" else honest(asked)
    (outcome,) = run(all_kinds(upstream.url)[0])
    assert (outcome.status, len(library)) == ("partial", 5)
    upstream.answer, before = honest, len(upstream.asked)
    (outcome,) = run(all_kinds(upstream.url)[0], now=NOW + timedelta(minutes=5))
    assert (outcome.status, len(library), counts(outcome)) == ("ok", 12, (7, 0, 0))
    assert upstream.asked[before].query["start"] == "5"


def news(upstream, found, day="2026-11-26"):
    upstream.answer = lambda asked: Reply(up.rss(found, day))
    return all_kinds(upstream.url)[1]


@pytest.mark.parametrize("kind", ["empty", "short", "broken", "cut"])
def test_an_empty_or_partial_day_changes_nothing_that_was_there_and_is_shown(upstream, library, run, kind):
    run(news(upstream, papers(40)))
    before = library.select()
    text = up.rss(papers(40))
    body = {
        "empty": up.rss([]), "short": up.rss(papers(3)), "broken": text[: text.index("order 30")],
        "cut": text,
    }[kind]  # fmt: skip
    upstream.answer = lambda asked: Reply(body, cut=2000 if kind == "cut" else None)
    source = all_kinds(upstream.url)[1]
    (outcome,) = run(source, now=NOW + timedelta(hours=1))
    assert library.select() == before
    assert outcome.status == {"empty": "partial", "short": "partial", "broken": "partial", "cut": "failed"}[kind]
    said = {"empty": "0 papers, where 40", "short": "3 papers, where 40", "broken": "well-formed", "cut": "4 times"}[
        kind
    ]
    assert said in outcome.message
    told = status(library, config=Config((source,)), now=lambda: NOW + timedelta(hours=1))
    assert (told["ok"], len(told["problems"])) == (False, 1)
    (outcome,) = run(news(upstream, papers(40)), now=NOW + timedelta(hours=2))
    assert (outcome.status, library.select() == before) == ("ok", True)


def test_a_day_with_far_fewer_papers_than_usual_is_partial(upstream, library, run):
    for i, day in enumerate(("2026-11-16", "2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20")):
        (outcome,) = run(news(upstream, papers(20, day, 100 * i), day), now=NOW)
        assert outcome.status == "ok"
    (outcome,) = run(news(upstream, papers(4, "2026-11-23"), "2026-11-23"))
    assert (outcome.status, outcome.message) == ("partial", "2026-11-23: 4 papers, where about 20 a day are usual")
    assert outcome.new == 4
    (outcome,) = run(news(upstream, papers(5, "2026-11-24"), "2026-11-24"))
    assert outcome.status == "ok"


def test_empty_is_shown_and_a_fault_only_after_some_days(upstream, library, run):
    source = news(upstream, papers(5))
    run(source)
    news(upstream, [], "2026-11-27")
    (outcome,) = run(source, now=NOW + timedelta(days=1))
    assert (outcome.status, outcome.message) == ("empty", "")
    told = [status(library, config=Config((source,)), now=lambda d=d: NOW + timedelta(days=d)) for d in (1, 4, 5)]
    assert [t["ok"] for t in told] == [True, True, False]
    assert told[-1]["problems"] == ["news: no paper for 5 days"]
    assert told[0]["sources"][0]["status"] == "empty"
    (outcome,) = run(
        news(upstream, [], "2026-11-28"), now=NOW + timedelta(days=2)
    )  # a Saturday: none were to be expected
    assert outcome.status == "ok"


def test_status_before_anything(library):
    assert "attractor feed init" in status(library)["problems"][0]
    told = status(library, config=Config((HuggingFace("daily"),)))
    assert told["problems"] == ["daily: never asked; `attractor feed sync` does"]
    assert told["sources"][0]["status"] == "new"


def test_unread_items_are_told_of_and_most_unread_is_partial(upstream, library, run):
    odd = [replace(p, title="") for p in papers(3, first=20)]
    (outcome,) = run(news(upstream, papers(4) + odd))
    assert (outcome.status, outcome.new) == ("ok", 4)
    assert outcome.message == "3 not read, such as: title: expected words, got ''"
    (outcome,) = run(news(upstream, papers(1, first=40) + odd, "2026-11-27"))
    assert outcome.status == "partial"


def test_withdrawn_records_are_kept_and_told_of(upstream, library, run):
    source = all_kinds(upstream.url)[2]
    upstream.answer = lambda asked: Reply(up.oai(papers(2)))
    run(source)
    upstream.answer = lambda asked: Reply(up.oai([], gone=(papers(2)[0].number,)))
    (outcome,) = run(source)
    assert (len(library), outcome.message) == (2, "1 withdrawn there, kept here")


def test_a_replacement_brings_the_newer_words(upstream, library, run):
    run(news(upstream, papers(1)))
    newer = replace(papers(1)[0], version=2, abstract="Better.", announce="replace")
    (outcome,) = run(news(upstream, [newer], "2026-11-27"))
    assert counts(outcome) == (0, 1, 0)
    assert library.select()[0].entry.abstract == "Better."


def test_votes_grow(upstream, library, run):
    source = all_kinds(upstream.url)[3]
    for votes in (3, 9):
        liked = replace(papers(1, "2026-11-25")[0], votes=votes)
        upstream.answer = everything([liked])
        run(source)
    rows = library.connection.execute("SELECT day, votes FROM sightings").fetchall()
    assert [tuple(row) for row in rows] == [("2026-11-25", 9)]


def test_other_settings_begin_anew_and_a_slower_pace_does_not(upstream, library, run):
    upstream.answer = everything(papers(12))
    source = all_kinds(upstream.url)[0]
    run(source)
    run(replace(source, pace=1.0, quiet_days=9), now=NOW + timedelta(days=1))
    assert "[202611200000 TO" in upstream.asked[-1].query["search_query"]  # from where it was
    run(replace(source, categories=("stat.ML",)), now=NOW + timedelta(days=1))
    assert "[202611201200 TO" in upstream.asked[-1].query["search_query"]


def test_of_two_processes_one_goes_on(upstream, tmp_path, library, run):
    found = papers(12)

    def answer(asked):
        if asked.query["start"] == "5" and not inner:  # meanwhile another one comes and finishes
            inner.append(1)
            config, clock = Config((source,), allow_private=True), Clock()
            with Library(tmp_path / "feed.sqlite") as other:
                fetcher = open_fetcher(config, sleep=clock.sleep, clock=clock)
                fetcher.home = tmp_path / "another"
                inner.extend(sync(other, config=config, fetcher=fetcher, now=clock.now))
        return up.search(found)(asked)

    inner: list = []
    source = all_kinds(upstream.url)[0]
    upstream.answer = answer
    (outcome,) = run(source)
    assert (outcome.status, outcome.message) == ("ok", "another process goes on with this source")
    assert (inner[1].status, len(library)) == ("ok", 12)
    assert library.connection.execute("SELECT status, message FROM sources").fetchone()["message"] == ""


KILLED = """
import json, os, signal, sys, time
from datetime import datetime
from pathlib import Path
from attractor.feed import Library
from attractor.feed.config import parse
from attractor.feed.sync import open_fetcher, sync

config, now = parse(json.loads(sys.argv[1])), datetime.fromisoformat(sys.argv[2])

def once(path, after):
    with Library(path) as library, open_fetcher(config, sleep=lambda s: None) as fetcher:
        done = 0
        def count(*_):
            nonlocal done
            done += 1
            if done == after:
                os.kill(os.getpid(), signal.SIGKILL)
        library.connection.set_trace_callback(count)
        ask = fetcher.get
        fetcher.get = lambda *a: (count(), ask(*a), count())[1]
        sync(library, config=config, fetcher=fetcher, now=lambda: now)
        return done

for line in sys.stdin:  # one child for each line: the imports are paid for once
    path, *instants = line.split()
    killed = 0
    for after in instants:
        child = os.fork()
        if child == 0:
            if after.endswith("s"):  # ended by the kernel, wherever it is by then
                signal.setitimer(signal.ITIMER_REAL, float(after[:-1]))
            once(Path(path), 0 if after.endswith("s") else int(after))
            os._exit(0)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    begun = time.monotonic()
    print(killed, once(Path(path), 0), time.monotonic() - begun, flush=True)
"""


def test_killed_at_random_instants_nothing_is_lost_or_doubled(upstream, tmp_path):
    """A sync is killed several times, and then let run to its end: at statements and requests, and at instants.

    ``ATTRACTOR_KILLS=100`` tries so many syncs.
    """
    found = papers(12) + papers(6, "2026-11-25")
    upstream.answer = everything(found)
    tables = [{"kind": s.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in vars(s).items()}}
              for s in all_kinds(upstream.url)]  # fmt: skip
    config = json.dumps({"allow_private": True, "source": tables})
    command = [sys.executable, "-c", textwrap.dedent(KILLED), config, NOW.isoformat()]
    draw = random.Random(7)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def tell(path, *instants):
            print(path, *instants, file=child.stdin, flush=True)
            killed, length, seconds = child.stdout.readline().split()
            return int(killed), int(length), float(seconds)

        _, length, seconds = tell(tmp_path / "whole.sqlite")
        with Library(tmp_path / "whole.sqlite") as library:
            whole = contents(library)
        assert len(whole["entries"]) == 18
        total = 0
        for number in range(KILLS):
            path = tmp_path / f"{number}.sqlite"
            instants = [draw.randrange(1, length), f"{draw.uniform(0, seconds)}s", draw.randrange(1, length)]
            killed, *_ = tell(path, *instants)
            assert killed >= 1
            total += killed
            with Library(path) as library:
                assert contents(library) == whole
                assert library.connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert child.returncode == 0
    print(f"{total} kills in {KILLS} syncs")


def contents(library):
    """All that is stored, but for when and under which number; where to go on."""
    rows = {}
    for name, query in {
        "entries": f"SELECT uid, {', '.join(FIELDS)} FROM entries",
        "sightings": "SELECT uid, source, day, votes FROM sightings JOIN entries ON entry = id",
        "names": "SELECT name, uid FROM names JOIN entries ON entry = id",
        "sources": "SELECT name, state, status, message FROM sources",
    }.items():
        rows[name] = sorted(tuple(map(repr, row)) for row in library.connection.execute(query))
    return rows


# --- the command line


@pytest.fixture
def command(tmp_path, upstream):
    """The command line with one source, the local server's."""
    where = configuration.path()
    where.parent.mkdir(parents=True)
    where.write_text(
        f'allow_private = true\n[[source]]\nname = "blog"\nkind = "feed"\nurl = "{upstream.url}/json"\npace = 0\n'
    )
    return lambda *words: CliRunner().invoke(app, ["feed", *words])


def test_sync_status_and_list_as_commands(upstream, command):
    upstream.answer = lambda asked: Reply(up.json_feed(papers(2)))
    before = command("status", "--json")
    assert (before.exit_code, json.loads(before.stdout)["ok"]) == (1, False)
    assert command("list", "--json").stdout.strip() == "[]"
    done = command("sync", "--json")
    assert done.exit_code == 0, done.output
    (outcome,) = json.loads(done.stdout)
    assert (outcome["name"], outcome["status"], outcome["new"]) == ("blog", "ok", 2)
    after = command("status", "--json")
    assert (after.exit_code, json.loads(after.stdout)["sources"][0]["papers"]) == (0, 2)
    assert command("status").exit_code == 0
    rows = json.loads(command("list", "--json").stdout)
    assert [(row["arxiv"], row["sources"], row["votes"]) for row in rows] == [
        ("2611.24001", ["blog"], None), ("2611.24000", ["blog"], None),
    ]  # fmt: skip
    assert len(json.loads(command("list", "--limit", "1", "--source", "blog", "--json").stdout)) == 1
    assert json.loads(command("list", "--day", "2020-01-01", "--json").stdout) == []
    assert "On the descent of order 1" in command("list").stdout
    assert "ok" in command("sync").stdout


def test_the_exit_code_says_that_something_is_wrong(upstream, command):
    upstream.answer = lambda asked: Reply("no feed")
    assert command("sync").exit_code == 1
    told = command("status")
    assert told.exit_code == 1
    assert "wrong: blog: failed: not well-formed" in told.stderr


def test_bad_usage_says_what_is_known(command):
    found = command("list", "--source", "blgo")
    assert isinstance(found.exception, ValueError)
    assert "papers came from: nowhere yet" in str(found.exception)
    found = command("sync", "bolg")
    assert "did you mean 'blog'" in str(found.exception)


def test_init_writes_a_first_file():
    found = CliRunner().invoke(app, ["feed", "init"])
    assert (found.exit_code, configuration.path().exists()) == (0, True)
    assert "already" in str(CliRunner().invoke(app, ["feed", "init"]).exception)
