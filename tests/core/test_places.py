"""Files on a local disk, at URLs and on their way: one writer for all, and errors before the work."""

import os
from pathlib import Path

import fsspec
import numpy as np
import optax
import pandas as pd
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from typer.testing import CliRunner

from attractor import Loop, Trace, compare, engine, run, store
from attractor.checkpoint import CheckpointError
from attractor.cli import app
from attractor.diagnosis import diagnose_log
from attractor.extras import MissingExtra
from attractor.papers import record
from attractor.papers.claims import Verdict
from attractor.places import Carried, Url, content, names, opened, place, require_folder, require_writable, shown
from attractor.places import write_atomically as write
from attractor.problems import rotated_quadratic


class Sealed(MemoryFileSystem):
    """May be read, and not be written."""

    protocol = "sealed"

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        raise PermissionError(13, "Access Denied")


@pytest.fixture(autouse=True)
def _stores():
    fsspec.register_implementation("sealed", Sealed, clobber=True)
    known = {"class": "packages_of_nobody.Store", "err": "something of their own"}
    known_implementations["nobody"] = known
    MemoryFileSystem.store.clear()
    yield
    del known_implementations["nobody"]


@pytest.fixture(params=["path", "file", "memory", "carried"])
def folder(request, tmp_path):
    return {
        "path": tmp_path / "kept",
        "file": place(f"file://{tmp_path}/kept"),
        "memory": place("memory://bucket/kept"),
        "carried": Carried("s3://somewhere/kept"),
    }[request.param]


def test_every_place_is_written_read_and_listed_alike(folder):
    assert names(folder) == []
    assert content(folder / "a.txt") is None
    for name, text in (("b.txt", b"two"), ("a.txt", b"zero"), ("a.txt", b"one")):
        write(folder / name, lambda file, text=text: file.write(text))
    write(folder / "deep" / "c.txt", lambda file: file.write(b"three"))
    write(folder / ".being-written", lambda file: file.write(b"hidden"))
    assert names(folder) == ["a.txt", "b.txt", "deep/c.txt"]
    assert names(folder / "deep") == ["c.txt"]
    assert [content(folder / name) for name in names(folder)] == [b"one", b"two", b"three"]
    with opened(folder / "a.txt") as file:
        file.seek(1)
        assert file.read() == b"ne"

    def fails(file):
        file.write(b"half")
        raise ZeroDivisionError

    for name, before in (("a.txt", b"one"), ("new.txt", None)):
        with pytest.raises(ZeroDivisionError):
            write(folder / name, fails)
        assert content(folder / name) == before
    assert names(folder) == ["a.txt", "b.txt", "deep/c.txt"]
    with pytest.raises(FileNotFoundError):
        opened(folder / "none.txt")


def test_what_a_place_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert place("~/a") == place(f"file://{tmp_path}/a") == tmp_path / "a"
    assert place("memory://a/b/") / "c" == Url("memory://a/b/c")
    assert os.fspath(Carried("s3://a") / "b" / "c") == "s3://a/b/c"
    assert [shown(path) for path in ("a", "memory://a")] == [str(tmp_path / "a"), "memory://a"]


def test_urls_that_cannot_be_are_named_with_what_to_install(tmp_path, monkeypatch):
    problem, how = rotated_quadratic(), {"steps": 1, "progress": False}
    for url, error, message in (
        ("foo://a/b", ValueError, "unknown protocol 'foo'.*, in foo://a/b"),
        ("memry://a/b", ValueError, "unknown protocol 'memry', did you mean 'memory'"),
        ("nobody://a/b", MissingExtra, "nobody://a/b needs packages_of_nobody: pip install packages_of_nobody$"),
        ("sealed://a/b", ValueError, "cannot write sealed://a/b.* .Access Denied.; name one at a URL where you may"),
    ):
        with pytest.raises(error, match=f"^checkpoint: {message}"):
            run(problem, optax.sgd(0.1), checkpoint=url, **how)
        with pytest.raises(error, match=f"^checkpoint: {message}"):
            compare(problem, ["sgd"], checkpoint=url, **how)
        with pytest.raises(error, match=f"^--report: {message}"):
            require_writable(url, "--report")
    monkeypatch.setenv("ATTRACTOR_HOME", "foo://home")
    for command, named in (
        (["compare", "digits-mlp", "adam", "--report", "foo://a/b"], "--report"),
        (["compare", "digits-mlp", "adam", "--table", "foo://a/b.csv"], "--table"),
        (["diagnose", "a.py:b", "--report", "foo://a/b.html"], "--report"),
        (["check", "gae"], "ATTRACTOR_HOME"),
    ):
        with pytest.raises(ValueError, match=f"^{named}: unknown protocol 'foo'"):
            CliRunner().invoke(app, command, catch_exceptions=False)
    for path in ("/proc/none", str(tmp_path / "file")):
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match=f"^checkpoint: cannot write {path} "):
            run(problem, optax.sgd(0.1), checkpoint=path, **how)


def test_the_trial_leaves_nothing_behind(folder):
    require_writable(folder / "page.html", "--report", (".html", ".json"))
    assert require_folder(folder, "checkpoint") == folder
    with pytest.raises(ValueError, match=r"--report: expected a name that ends in .html, got .*page.pdf"):
        require_writable(folder / "page.pdf", "--report", (".html",))
    assert names(folder) == []
    if isinstance(folder, Url):
        assert folder.filesystem.find("/") == []


def test_a_run_is_kept_at_a_url_and_goes_on_from_there(monkeypatch):
    problem, url = rotated_quadratic(), "memory://bucket/run"
    how = {"sweep": {"learning_rate": [0.1, 0.01]}, "seeds": 2, "every": 10, "lanes": 3}
    first = run(problem, optax.adam, steps=50, checkpoint=url, **how)
    assert names(url) == ["part-0.ckpt", "part-1.ckpt"]
    longer = run(problem, optax.adam, steps=100, checkpoint=url, **how)
    assert longer.dataset.identical(run(problem, optax.adam, steps=100, **how).dataset)
    with pytest.raises(CheckpointError, match=f"checkpoint: {url}/part-0.ckpt belongs to another run"):
        run(problem, optax.adam, steps=100, checkpoint=url, **how | {"seeds": [5, 6]})
    half = (content(f"{url}/part-1.ckpt") or b"")[:-100]
    write(f"{url}/part-1.ckpt", lambda file: file.write(half))
    with pytest.raises(CheckpointError, match=f"checkpoint: {url}/part-1.ckpt is damaged"):
        run(problem, optax.adam, steps=100, checkpoint=url, **how)
    assert first["loss"].shape == (2, 2, 6)


def line(make_optimizer, seed):
    for step in range(3):
        yield {"loss": make_optimizer.config["rate"] * (step + seed)}


def test_comparisons_are_kept_and_reported_at_urls(tmp_path, monkeypatch):
    how = {"seeds": 2, "budget": 2, "progress": False}
    from attractor import LogUniform

    methods = {"a": (lambda rate: None, {"rate": LogUniform(0.1, 1.0)})}
    found = compare(Loop(line), methods, **how, checkpoint="memory://bucket/loop")
    assert len(names("memory://bucket/loop")) == 2 * 2 + 2
    ran = []
    monkeypatch.setattr("attractor.units.execute", lambda *given: ran.append(given))
    again = compare(Loop(line), methods, **how, checkpoint="memory://bucket/loop")
    assert not ran
    np.testing.assert_array_equal(again["a"].final, found["a"].final)
    kept = compare(rotated_quadratic(), ["sgd"], steps=5, **how, checkpoint="memory://bucket/programs")
    assert names("memory://bucket/programs")[0] == "sgd/tuning/part-0.ckpt"
    monkeypatch.setattr(engine, "_program", lambda *given: pytest.fail("a program ran"))
    same = compare(rotated_quadratic(), ["sgd"], steps=5, **how, checkpoint="memory://bucket/programs")
    np.testing.assert_array_equal(same["sgd"].final, kept["sgd"].final)
    for root, read in (
        ("memory://bucket/out", content),
        (f"file://{tmp_path}", lambda url: Path(url[7:]).read_bytes()),
    ):
        assert found.report(f"{root}/page.html") == f"{root}/page.html"
        assert b"</html>" in read(f"{root}/page.html")
        for ending in ("csv", "md", "tex", "parquet"):
            assert found.export(f"{root}/table.{ending}") == f"{root}/table.{ending}"
            found.export(tmp_path / f"plain.{ending}")
            assert read(f"{root}/table.{ending}") == (tmp_path / f"plain.{ending}").read_bytes()
        found["a"].trace.save(f"{root}/t.parquet")
        assert Trace.load(f"{root}/t.parquet")["loss"].equals(found["a"].trace["loss"])
        with opened(f"{root}/table.parquet") as file:
            assert pd.read_parquet(file)["method"].tolist() == ["a"]


def test_traces_verdicts_and_findings_are_kept_at_urls(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTRACTOR_HOME", "memory://bucket/home")
    with pytest.raises(FileNotFoundError, match="no traces under memory://bucket/home/traces; save one"):
        store.query("select 1")
    where = store.save(run(rotated_quadratic(), optax.sgd(0.1), steps=4), "first")
    assert where == "memory://bucket/home/traces/first.parquet"
    assert store.query("select count(*) as n from traces")["n"].tolist() == [5]
    number = {
        "value": 1.0,
        "low": 0.9,
        "high": 1.1,
        "threshold": 1.5,
        "direction": "at most",
        "broken": [],
        "seconds": 1.0,
    }
    record.write([Verdict("lion-k", "some", "a statement", "ours", "holds", **number)], record.local())
    known = record.read_all(record.local())
    assert list(known) == ["lion-k"]
    assert known["lion-k"].quick["some"].value == 1.0
    log = tmp_path / "log.csv"
    log.write_text("step,loss\n" + "".join(f"{i},{1 / (i + 1)}\n" for i in range(200)))
    found = diagnose_log(log)
    assert found.save("memory://bucket/why.json") == "memory://bucket/why.json"
    found.save(str(tmp_path / "why.json"))
    assert content("memory://bucket/why.json") == (tmp_path / "why.json").read_bytes()
