"""The command line as a script and as a person meets it."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from core.test_record import verdict
from typer.testing import CliRunner

import attractor
from attractor import backends
from attractor.cli import app, main
from attractor.cli.compare import load_problem
from attractor.cli.objects import load_object
from attractor.extras import missing
from attractor.papers import catalogue, record, sources
from attractor.papers.record import STATUSES, Record
from attractor.papers.rows import snippet
from attractor.places import require_writable

check_module = importlib.import_module("attractor.cli.check")

ROOT = Path(__file__).parents[2]


def invoke(*arguments):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def failing(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["attractor", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, capsys.readouterr().err


def test_papers_as_json_has_the_promised_keys():
    rows = json.loads(invoke("papers", "--json").stdout)
    assert len(rows) == len(catalogue())
    assert set(rows[0]) == {"slug", "title", "room", "kind", "status", "claims", "replicated"}
    assert set(rows[0]["claims"]) == {"holds", "fails", "inconclusive", "void", "error"}
    assert {r["status"] for r in rows} <= set(STATUSES)
    tried = [r for r in rows if r["status"] != "missing"]
    assert all(sum(r["claims"].values()) > 0 for r in tried)
    assert all(sum(r["claims"].values()) == 0 for r in rows if r["status"] == "missing")
    rows = json.loads(invoke("papers", "vector field that is not a gradient", "--json").stdout)
    assert {r["slug"] for r in rows[:3]} == {"qcsbm", "diffusion-gauge-freedom", "diffusion-wasserstein-flow"}


def test_papers_filters():
    rows = json.loads(invoke("papers", "--room", "games", "--json").stdout)
    assert {r["room"] for r in rows} == {"games"}
    rows = json.loads(invoke("papers", "--status", "missing", "--json").stdout)
    assert 0 < len(rows) < len(catalogue())
    assert len(json.loads(invoke("papers", "optimizer", "--limit", "3", "--json").stdout)) == 3


def test_listing_papers_does_not_load_jax():
    command = "from attractor.cli import app; app(['papers', 'sharpness', '--json'], standalone_mode=False)"
    code = f"import sys; {command}; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_show_tells_claim_verdict_and_usage():
    text = invoke("show", "adahessian").stdout
    for part in ("It claims", "Measured", "Use it", "import"):
        assert part in text
    assert snippet("adahessian").strip() in text  # whole, however narrow the terminal, so that it can be copied
    data = json.loads(invoke("show", "adahessian", "--json").stdout)
    assert data["verdicts"][0]["claim"]
    assert "No claim of it has run yet" in invoke("show", "wavehax").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "adahesian"], "did you mean 'adahessian'"),
        (["check", "adahesian"], "did you mean 'adahessian'"),
        (["check"], "nothing to check"),
        (["check", "--room", "game"], "did you mean 'games'"),
        (["check", "adahessian", "--scale", "huge"], "--scale"),
        (["papers", "--status", "good"], "--status"),
        (["compare", "digits-mpl", "adam"], "did you mean 'digits-mlp'"),
        (["compare", "digits-mlp", "adahesian"], "did you mean 'adahessian'"),
        (["compare", "nowhere.py:problem", "adam"], "no file"),
        (["compare", "nowhere:problem", "adam"], "no module"),
        (["compare", "train.py", "adam"], "such as train.py:problem or train.py:train"),
        (["import", "nowhere.bib"], "nowhere.bib: No such file or directory"),
        (["site", __file__], "OUT: .*test_cli.py is a file; name a folder"),
        (["site", "/proc/none"], "OUT: cannot write /proc/none/index.html"),
        (["digest", "--preview", "/proc/none/out.html"], "--preview: cannot write /proc/none/out.html"),
        (["feed", "list", "--day", "yesterday"], "--day: expected a day such as 2026-01-31, got 'yesterday'"),
        (["follow", "show", "muon", "--since", "monday"], "--since: expected a day such as"),
        (["compare", "digits-mlp", "adam", "--seeds", "0"], "seeds"),
        (["compare", "digits-mlp"], "methods"),
        (["check", "lion-k", "--claim", "never-rise"], "did you mean 'never-rises'"),
        (["check", "lion-k", "--claim", "xyz"], "lion-k has solves-the-box"),
        (["check", "lion-k", "fno", "--claim", "never-rises"], "expected one paper"),
    ],
)
def test_bad_usage_is_one_helpful_line_and_exit_code_2(monkeypatch, capsys, arguments, message):
    code, text = failing(monkeypatch, capsys, *arguments)
    assert code == 2
    assert re.search(message, text)
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def train(m, s)\n    pass\n", r"attractor: SyntaxError: .*\n  at .*mine\.py:1: def train\(m, s\)"),
        ("import no_such_thing\n", r"attractor: ModuleNotFoundError: No module .*\n  at .*mine\.py:1, in <module>"),
        ("train = {}['a']\n", r"attractor: KeyError: 'a'\n  at .*mine\.py:1, in <module>"),
    ],
)
def test_what_a_users_file_raises_is_told_with_its_place(monkeypatch, capsys, tmp_path, source, message):
    (tmp_path / "mine.py").write_text(source)
    code, text = failing(monkeypatch, capsys, "compare", f"{tmp_path / 'mine.py'}:train", "adam")
    assert code == 2
    assert re.match(message, text)
    assert "Traceback" not in text


def test_a_fault_of_ours_shows_its_whole_way(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["attractor", "papers"])
    ours = compile("lambda *a: {}['a']", attractor.__file__, "eval")
    monkeypatch.setattr("attractor.papers.rows.papers", eval(ours))
    with pytest.raises(KeyError):
        main()


@pytest.mark.parametrize("home", ["/proc/none", __file__])
def test_a_home_that_cannot_be_written_is_named(monkeypatch, capsys, home):
    monkeypatch.setenv("ATTRACTOR_HOME", home)
    for command in (("feed", "init"), ("feed", "list"), ("follow", "optim")):
        code, text = failing(monkeypatch, capsys, *command)
        assert code == 2
        assert re.match(r"attractor: ATTRACTOR_HOME: .*; set it to a folder of your own\n$", text), text


def test_version_and_every_command_under_a_heading(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert invoke("--version").stdout == f"attractor {attractor.__version__}\n"
    text = invoke("--help").stdout
    headings = re.findall(r"╭─ (.*?) ─", text)
    assert headings[:3] == ["Options", "Papers and their claims", "A training of your own"]
    assert "Commands" not in headings
    assert re.findall(r"^│ (\w+) ", text, re.M)[:6] == ["papers", "show", "check", "cite", "compare", "diagnose"]


def test_a_list_of_papers_reads_well_at_80_columns_and_keeps_its_limit(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    slug = "finite-difference-gradient-regularization"
    text = invoke("papers", slug, "--limit", "1").stdout
    assert text.splitlines()[0].split() == ["slug,", "room,", "status", "gist"]
    assert slug in text  # in one piece
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) < 10
    assert len(json.loads(invoke("papers", "--room", "categories", "--limit", "3", "--json").stdout)) == 3
    asked = []
    monkeypatch.setattr(record, "status", lambda slug, *_: asked.append(slug) or "holds")
    shown = json.loads(invoke("papers", "optimizer", "--limit", "4", "--json").stdout)
    assert len(shown) == 4
    assert set(asked) <= {row["slug"] for row in shown}  # of the others it need not be known
    nothing = invoke("papers", "qqqqqqqq")
    assert nothing.stdout == ""
    assert "no paper matches" in nothing.stderr


def test_problems_and_methods_list_the_registry():
    names = {p["name"] for p in json.loads(invoke("problems", "--json").stdout)}
    assert {"digits-mlp", "rotated-quadratic", "bilinear-game"} <= names
    rows = {m["name"]: m for m in json.loads(invoke("methods", "--json").stdout)}
    assert rows["adahessian"]["needs"] == "Minimization"
    assert rows["adam"]["space"] == {"learning_rate": "0.0001…1 log"}
    assert all(m["summary"] for m in rows.values())


def fake(slug, outcome, **changes):
    return [verdict(outcome, slug=slug, high=1.1, given={"solved": True}, cases={"a": [1.0, 0.9, 1.1]}, **changes)]


@pytest.mark.parametrize(
    ("outcome", "code"), [("holds", 0), ("fails", 1), ("inconclusive", 1), ("void", 1), ("error", 1)]
)
def test_check_prints_json_and_exits_by_the_verdict(monkeypatch, outcome, code):
    monkeypatch.setattr(check_module, "check", lambda slug, **how: fake(slug, outcome))
    result = invoke("check", "adahessian", "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout) == [
        {
            "slug": "adahessian", "claim": "small", "verdict": outcome, "value": 1.0, "low": 0.9, "high": 1.1,
            "threshold": 1.5, "direction": "at most", "source": "ours", "given": {"solved": True},
            "cases": {"a": [1.0, 0.9, 1.1]}, "seconds": 0.1,
            "broken": [{"name": "damaged", "verdict": "fails", "informative": True}],
        }
    ]  # fmt: skip
    assert record.read("adahessian", record.local()).quick["small"].verdict == outcome
    assert outcome in invoke("show", "adahessian").stdout


def test_a_stale_check_fails_only_when_a_verdict_got_worse(monkeypatch):
    def known(slug, *root):
        return Record(slug, quick={"small": fake(slug, "inconclusive")[0]})

    monkeypatch.setattr(record, "read", known)
    monkeypatch.setattr(record, "status", lambda slug, *known: "stale" if slug == "adahessian" else "holds")
    for outcome, code in (("holds", 0), ("inconclusive", 0), ("fails", 1), ("error", 1)):
        monkeypatch.setattr(check_module, "check", lambda slug, outcome=outcome, **how: fake(slug, outcome))
        assert invoke("check", "--stale").exit_code == code


def test_replications_are_numbered_recorded_and_shown(monkeypatch):
    asked = []

    def ran(slug, *, scale, names, replication, more_seeds):
        asked.append((replication, more_seeds))
        return fake(slug, "holds", replication=replication)

    monkeypatch.setattr(check_module, "check", ran)
    for arguments in ([], ["--replication", "1"], ["--replication", "3"]):
        assert invoke("check", "adahessian", *arguments).exit_code == 0
    assert asked == [(0, False), (1, False), (3, False)]
    known = record.read("adahessian", record.local())
    assert set(known.replications["small"]) == {1, 3}
    assert known.replicated_share == "2/2"
    assert "replicated 2 of 2" in invoke("show", "adahessian").stdout
    invoke("check", "adahessian", "--more-seeds")
    assert asked[-1] == (0, True)
    official = record.read("adahessian")
    known = max([0, *(r for runs in official.replications.values() for r in runs)]) if official else 0
    invoke("check", "adahessian", "--replication", "next")
    assert asked[-1] == (known + 1, False)


def test_one_claim_of_a_paper_runs_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(check_module, "check", lambda slug, **how: asked.append(how["names"]) or fake(slug, "holds"))
    assert invoke("check", "lion-k", "--claim", "never-rises", "--claim", "solves-the-box").exit_code == 0
    assert asked == [["never-rises", "solves-the-box"]]


def test_no_further_paper_begins_after_the_minutes_given(monkeypatch):
    monkeypatch.setattr(check_module, "check", lambda slug, **how: fake(slug, "holds"))
    result = invoke("check", "adahessian", "fno", "--minutes", "0")
    assert "2 papers were left" in result.stderr
    assert invoke("check", "adahessian", "fno", "--minutes", "5").exit_code == 0


def test_a_paper_that_ends_its_process_is_named_and_the_others_go_on(monkeypatch):
    def one_is_killed(work, items, *, lost, **where):
        yield items[0], lost(items[0], "SIGKILL, out of memory perhaps")
        yield items[1], work(items[1])

    monkeypatch.setattr(backends, "spread", one_is_killed)
    monkeypatch.setattr(check_module, "check", lambda slug, **how: fake(slug, "holds"))
    for more in ([], ["--minutes", "5"], ["--json"]):
        result = invoke("check", "fno", "adahessian", *more)
        assert result.exit_code == 1
        told = "fno: its process ended (SIGKILL, out of memory perhaps); nothing is recorded of it"
        assert " ".join(result.stderr.split()) == told
        assert record.read("adahessian", record.local()).quick["small"].verdict == "holds"


def test_check_since_a_revision_runs_what_the_change_touches(monkeypatch, tmp_path):
    """In a repository of its own, where only what AdaHessian uses is changed."""
    package = tmp_path / "attractor"
    shutil.copytree(sources.ROOT, package, ignore=shutil.ignore_patterns("__pycache__", "*.npz", "*.json"))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "then"]):
        subprocess.run([*git, *command], check=True)
    path = package / "second_order" / "diagonal.py"
    path.write_text(path.read_text().replace("def scale_by_adahessian(", "X = 1\n\n\ndef scale_by_adahessian(x=X, *, "))
    monkeypatch.setattr(check_module, "ROOT", package)
    ran = []
    monkeypatch.setattr(check_module, "check", lambda slug, **how: ran.append(slug) or fake(slug, "holds"))
    invoke("check", "--since", "HEAD", "--room", "second_order", "--room", "operators")
    assert "adahessian" in ran
    assert "fno" not in ran
    with pytest.raises(ValueError, match="--since"):
        invoke("check", "--since", "nowhere")


def test_compare_a_problem_of_the_users_own(tmp_path):
    page = tmp_path / "r.html"
    own = f"{ROOT / 'examples' / 'my_problem.py'}:problem"
    result = invoke(
        "compare", own, "adam", "sgd", "--steps", "20", "--seeds", "2", "--budget", "2", "--report", str(page)
    )
    assert result.exit_code == 0
    assert "best with" in result.stdout
    assert "attractor compare" in page.read_text()


LOOP = """
import numpy as np
import optax

def train(make_optimizer, seed):
    x, optimizer = np.random.default_rng(seed).random(3), make_optimizer()
    state = optimizer.init(x)
    for step in range(5):
        updates, state = optimizer.update(2 * x, state, x)
        x = np.asarray(optax.apply_updates(x, updates))
        yield {"loss": float(x @ x), "score": -float(x @ x)}
"""


def test_compare_a_loop_of_the_users_own_in_two_processes(tmp_path, monkeypatch):
    """It is called as a module would not be: other processes find it by the file's folder."""
    (tmp_path / "my_own_loop.py").write_text(LOOP)
    monkeypatch.setattr(sys, "path", list(sys.path))
    own, page, kept = f"{tmp_path / 'my_own_loop.py'}:train", tmp_path / "r.html", tmp_path / "kept"
    flags = ["--seeds", "1", "--budget", "1", "--jobs", "2", "--metric", "score", "--checkpoint", str(kept)]
    result = invoke("compare", own, "sgd", *flags, "--report", str(page))
    assert result.exit_code == 0
    assert "final score" in result.stdout
    assert len(list(kept.glob("sgd-*.json"))) == 3
    again = invoke("compare", own, "sgd", *flags, "--report", str(page), "--json")
    assert json.loads(again.stdout)["settings"]["goal"] == "max"
    assert f"attractor compare {own} sgd --seeds 1 --budget 1 --metric score --jobs 2" in page.read_text()


def test_tables_read_well_at_80_columns(monkeypatch, tmp_path):
    """No line is longer, no name or heading is broken, and no column is a letter wide."""
    monkeypatch.setenv("COLUMNS", "80")
    own, page = f"{ROOT / 'examples' / 'my_problem.py'}:problem", str(tmp_path / "r.html")
    few = ("--steps", "20", "--seeds", "2", "--budget", "2", "--target", "0.1", "--report", page)
    tables = {
        "methods": (
            ["methods"],
            ["name", "needs, cost", "searched"],
            ["adahessian", "Minimization", "learning_rate"],
        ),
        "problems": (["problems"], ["name"], ["digits-mlp", "text-transformer"]),
        "compare": (["compare", own, "adam", "sgd", *few], ["method", "tuned"], ["adam", "sgd", "learning_rate="]),
    }
    for name, (command, headings, words) in tables.items():
        text = invoke(*command).stdout
        body = [line for line in text.splitlines() if not line.startswith("report: ")]
        assert max(map(len, body)) <= 80, name
        for word in (*headings, *words):
            assert word in text, (name, word)
        assert not [line for line in body if re.fullmatch(r" *\S", line)], name  # a letter on a line of its own


def test_an_object_that_is_no_problem_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text("number = 3\n")
    with pytest.raises(ValueError, match="is a int; expected an attractor"):
        load_problem(f"{tmp_path / 'mine.py'}:number")
    with pytest.raises(ValueError, match="has no 'problem'; it has number"):
        load_problem(f"{tmp_path / 'mine.py'}:problem")


def test_a_file_is_loaded_by_its_path_whatever_its_name(tmp_path):
    """``signal`` is a module of Python's own; ``twice`` is two files in two folders."""
    for folder, number in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        for name in ("signal", "twice"):
            (tmp_path / folder / f"{name}.py").write_text(f"number = {number}\n")
    for name in ("signal", "twice"):
        found = [load_object(f"{tmp_path / folder / name}.py:number", "PROBLEM") for folder in ("a", "b", "a")]
        assert found == [1, 2, 1]
    with pytest.raises(ValueError, match=r"PROBLEM: there is no module 'nowhere\.at\.all'"):
        load_object("nowhere.at.all:x", "PROBLEM")
    with pytest.raises(ValueError, match=r"PROBLEM: there is no file .*none\.py"):
        load_object(f"{tmp_path / 'none.py'}:x", "PROBLEM")


@pytest.mark.parametrize(
    ("path", "words"),
    [(".", "is a folder"), ("/proc/none/here.html", "cannot write"), ("a.pdf", "ends in .html, got")],
)
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, path, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"--report: .*{words}"):
        require_writable(path, "--report", (".html",) if path.endswith("pdf") else ())
    require_writable(tmp_path / "new" / "folder" / "page.html", "--report")
    assert list(tmp_path.iterdir()) == []  # nothing is left by the trial


def test_check_says_before_its_work_where_it_cannot_keep_verdicts(monkeypatch):
    monkeypatch.setenv("ATTRACTOR_HOME", "/proc/none")
    monkeypatch.setattr(check_module, "check", lambda *a, **k: pytest.fail("it ran"))
    with pytest.raises(ValueError, match="ATTRACTOR_HOME: cannot write"):
        invoke("check", "adahessian")


def test_a_terminal_of_few_characters_gets_others_replaced():
    command = [sys.executable, "-m", "attractor", "papers", "optimizer", "--limit", "2"]
    shown = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=True)
    assert shown.stdout.decode("ascii").count("\n") >= 3
    found = subprocess.run(
        [*command, "--json"], capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=True
    )
    assert len(json.loads(found.stdout.decode("ascii"))) == 2


def test_a_missing_extra_is_said_in_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert failing(monkeypatch, capsys, "serve") == (2, f"attractor: {missing('uvicorn', 'web')}\n")
    monkeypatch.setenv("ATTRACTOR_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["attractor", "serve"])
    with pytest.raises(ImportError):
        main()
