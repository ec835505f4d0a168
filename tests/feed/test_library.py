"""Papers stored once: identity, merging in any order, killed in the middle, several writers, migrations."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attractor.feed import Entry, Library, merged, normal_title
from attractor.feed.database import connect
from attractor.papers.catalogue import catalogue

ADAHESSIAN = Entry("AdaHessian: An Adaptive Second Order Optimizer", arxiv="2006.00719v2", abstract="Two.")


def test_an_entry_is_brought_to_one_form():
    entry = Entry(
        " Sharp\n minima ",
        authors=(" A  B ", ""),
        arxiv="https://arxiv.org/abs/2006.00719v3",
        published="2020-06-01T10:00:00Z",
    )
    assert (entry.title, entry.authors, entry.arxiv, entry.version) == ("Sharp minima", ("A B",), "2006.00719", 3)
    assert entry.published == "2020-06-01"
    assert entry.link == "https://arxiv.org/abs/2006.00719"
    assert Entry("x", arxiv="math.OC/0601001").arxiv == "math/0601001"
    assert Entry("x", doi="https://doi.org/10.48550/arXiv.2006.00719").uid == "arxiv:2006.00719"
    assert Entry("x", doi="10.1000/ABC").uid == "doi:10.1000/abc"
    assert Entry("On $\\ell_1$, <b>Again</b>: Émile's").uid == "title:on-_1-again-emile-s"


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"title": " - "}, "title"), ({"title": "x", "arxiv": "123"}, "arxiv"), ({"title": "x", "doi": "11.1/a"}, "doi")],
)
def test_what_is_no_paper_is_refused_by_name(fields, named):
    with pytest.raises(ValueError, match=f"{named}: expected"):
        Entry(**fields)


def test_a_paper_is_stored_once(library):
    first = library.add([ADAHESSIAN], "arxiv", "2026-01-02")
    again = library.add([ADAHESSIAN, ADAHESSIAN], "arxiv", "2026-01-02")
    assert (len(first.new), again.new, again.changed, again.known) == (1, (), (), first.new)
    stored = library.get(first.new[0])
    assert stored.slug == "adahessian"
    assert stored.entry == ADAHESSIAN
    later = library.add(
        [Entry("ADAHESSIAN — an adaptive second-order optimizer", authors=("Z. Yao",), published="2020-06-01")], "page"
    )
    assert later.changed == first.new
    assert library.get(stored.id).entry.authors == ("Z. Yao",)
    assert library.get(stored.id).uid == "arxiv:2006.00719"


def test_the_newer_version_wins_and_an_older_one_does_not_come_back(library):
    number = library.add([ADAHESSIAN], "a").new[0]
    newer = Entry("AdaHessian, final", arxiv="2006.00719v4", abstract="4")
    assert library.add([newer], "a").changed == (number,)
    assert library.add([ADAHESSIAN], "a").known == (number,)
    assert library.get(number).entry.title == "AdaHessian, final"


def test_one_title_with_two_numbers_is_two_papers(library):
    library.add([Entry("Sharp minima", arxiv="2001.00001"), Entry("Sharp minima", arxiv="2001.00002")], "a")
    first = library.add([Entry("Sharp minima")], "b").known  # of which, nobody knows
    assert [s.entry.arxiv for s in library.select(order="id")] == ["2001.00001", "2001.00002"]
    assert library.get(*first).entry.arxiv == "2001.00001"


def test_two_rows_that_turn_out_one_are_joined_with_who_told_of_them(library):
    library.add([Entry("A title", arxiv="2001.00001")], "a", "2026-01-01")
    library.add([Entry("Another title", doi="10.1000/x")], "b", "2026-01-02")
    library.connection.execute("INSERT INTO opinions VALUES (2, 1, '')")
    library.add([Entry("A title", arxiv="2001.00001", doi="10.1000/x")], "c", "2026-01-03")
    assert len(library) == 1
    (stored,) = library.select()
    assert (stored.uid, stored.entry.arxiv, stored.entry.doi) == ("arxiv:2001.00001", "2001.00001", "10.1000/x")
    told = library.connection.execute("SELECT source FROM sightings ORDER BY day").fetchall()
    assert [row["source"] for row in told] == ["a", "b", "c"]
    assert library.connection.execute("SELECT entry FROM opinions").fetchone()["entry"] == stored.id


TITLES = st.sampled_from(["Sharp minima", "Flat minima"])
ENTRIES = st.builds(
    Entry, TITLES, abstract=st.sampled_from(["", "a", "ab"]), authors=st.sampled_from([(), ("A",), ("B", "C")]),
    arxiv=st.sampled_from([None, "2001.00001v1", "2001.00001v2"]), doi=st.sampled_from([None, "10.1000/x"]),
    published=st.sampled_from([None, "2020-01-01", "2021-01-01"]),
)  # fmt: skip


@given(ENTRIES, ENTRIES)
def test_merging_does_not_depend_on_the_order(a, b):
    assert merged(a, b) == merged(b, a)
    assert merged(a, a) == a
    assert merged(merged(a, b), b) == merged(a, b)


@settings(max_examples=60, deadline=None)
@given(st.lists(ENTRIES, min_size=1, max_size=5))
def test_adding_twice_is_adding_once(tmp_path_factory, entries):
    with Library(tmp_path_factory.mktemp("feed") / "feed.sqlite") as library:
        library.add(entries, "a")
        before = [s.entry for s in library.select()]
        again = library.add(entries, "a")
        assert (again.new, [s.entry for s in library.select()]) == ((), before)
        keys = [(s.entry.arxiv, s.entry.doi) for s in library.select()]
        for kind in (0, 1):
            numbers = [key[kind] for key in keys if key[kind]]
            assert len(numbers) == len(set(numbers))


def test_nothing_is_stored_of_a_batch_that_fails(library):
    def entries():
        yield ADAHESSIAN
        raise RuntimeError("the line was cut")

    with pytest.raises(RuntimeError, match="cut"):
        library.add(entries(), "a")
    with pytest.raises(IndexError):
        library.add([ADAHESSIAN, Entry("Sharp minima")], "a", votes=[1])
    assert len(library) == 0


KILLED = """
import os, signal, sys, threading
from pathlib import Path
from attractor.feed import Entry, Library
path, after = Path(sys.argv[1]), int(sys.argv[2])
with Library(path) as library:
    done = 0
    def count(statement):
        global done
        done += 1
        if done == after:
            os.kill(os.getpid(), signal.SIGKILL)
    library.connection.set_trace_callback(count)
    for day in range(4):
        entries = [Entry(f"Paper {day} {i}", arxiv=f"2001.{day}{i:04d}") for i in range(5)]
        library.add(entries, "a", f"2026-01-0{day + 1}")
"""


def test_killed_at_any_statement_nothing_is_lost_or_doubled(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(KILLED))
    wholes = set()
    for after in (2, 40, 80, 120):
        path = tmp_path / f"{after}.sqlite"
        killed = subprocess.run([sys.executable, script, path, str(after)], check=False)
        assert killed.returncode == -signal.SIGKILL
        with Library(path) as library:
            assert len(library) % 5 == 0  # whole days only
            wholes.add(len(library))
        subprocess.run([sys.executable, script, path, "0"], check=True, env=os.environ)
        with Library(path) as library:
            assert len(library) == 20
            assert library.connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            library.connection.execute("INSERT INTO entries_text (entries_text) VALUES ('integrity-check')")
    assert len(wholes) > 1


def test_several_processes_write_at_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(KILLED))
    runs = [subprocess.Popen([sys.executable, script, tmp_path / "feed.sqlite", "0"]) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    with Library(tmp_path / "feed.sqlite") as library:
        assert len(library) == 20


def test_words_are_found_after_a_change(library):
    number = library.add([ADAHESSIAN], "a").new[0]
    library.add([Entry("AdaHessian, final", arxiv="2006.00719v4", abstract="Curvature everywhere")], "a")

    def hits(words):
        rows = library.connection.execute("SELECT rowid FROM entries_text WHERE entries_text MATCH ?", (words,))
        return [row[0] for row in rows]

    assert hits("curvatures") == [number]
    assert hits("optimizer") == []


def test_foreign_and_newer_files_are_refused(tmp_path):
    (tmp_path / "text.sqlite").write_text("not a database, but long enough to be looked at as one, " * 20)
    with pytest.raises(ValueError, match="no SQLite database"):
        connect(tmp_path / "text.sqlite")
    connection = connect(tmp_path / "new.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ValueError, match="upgrade"):
        connect(tmp_path / "new.sqlite")


def test_a_home_that_is_no_folder_is_refused(monkeypatch):
    monkeypatch.setenv("ATTRACTOR_HOME", "s3://bucket/attractor")
    with pytest.raises(ValueError, match="local folder"):
        Library()


def test_every_paper_of_the_catalogue_is_recognized_by_its_title_alone(library):
    papers = catalogue().values()
    library.add([Entry(p.title.upper()) for p in papers], "page")
    assert {s.slug for s in library.select()} == {p.slug for p in papers}
    assert len({normal_title(p.title) for p in papers}) == len(papers)
    for a, b in itertools.combinations(list(papers)[:20], 2):
        assert normal_title(a.title) != normal_title(b.title)
