"""The command line as a script and as a person meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attractor.cli import app, load_problem, main
from attractor.papers import Verdict, catalogue

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
    assert len(rows) == len(catalogue()) == 405
    assert set(rows[0]) == {"slug", "title", "room", "kind", "status"}
    rows = json.loads(invoke("papers", "vector field that is not a gradient", "--json").stdout)
    assert {r["slug"] for r in rows[:3]} == {"qcsbm", "diffusion-gauge-freedom", "diffusion-wasserstein-flow"}


def test_papers_filters():
    rows = json.loads(invoke("papers", "--room", "games", "--json").stdout)
    assert {r["room"] for r in rows} == {"games"}
    rows = json.loads(invoke("papers", "--status", "missing", "--json").stdout)
    assert 0 < len(rows) < 405
    assert len(json.loads(invoke("papers", "optimizer", "--limit", "3", "--json").stdout)) == 3


def test_listing_papers_does_not_load_jax():
    command = "from attractor.cli import app; app(['papers', 'sharpness', '--json'], standalone_mode=False)"
    code = f"import sys; {command}; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_show_tells_claim_verdict_and_usage():
    text = invoke("show", "adahessian").stdout
    for part in ("It claims", "Measured", "Use it", "import"):
        assert part in text
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
        (["compare", "digits-mlp", "adam", "--seeds", "0"], "seeds"),
        (["compare", "digits-mlp"], "methods"),
    ],
)
def test_bad_usage_is_one_helpful_line_and_exit_code_2(monkeypatch, capsys, arguments, message):
    code, text = failing(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in text
    assert "Traceback" not in text


def test_problems_and_methods_list_the_registry():
    names = {p["name"] for p in json.loads(invoke("problems", "--json").stdout)}
    assert {"digits-mlp", "rotated-quadratic", "bilinear-game"} <= names
    rows = {m["name"]: m for m in json.loads(invoke("methods", "--json").stdout)}
    assert rows["adahessian"]["needs"] == "Minimization"
    assert rows["adam"]["space"] == {"learning_rate": "0.0001…1 log"}
    assert all(m["summary"] for m in rows.values())


def fake(slug, outcome):
    broken = [{"name": "damaged", "verdict": "fails", "value": 2.0}]
    return [Verdict(slug, "small", "it is small", outcome, 1.0, 0.9, 1.1, 1.5, "at most", broken, 0.1)]


@pytest.mark.parametrize(("outcome", "code"), [("holds", 0), ("fails", 1), ("error", 1)])
def test_check_prints_json_and_exits_by_the_verdict(monkeypatch, tmp_path, outcome, code):
    monkeypatch.setattr("attractor.cli.check", lambda slug, scale: fake(slug, outcome))
    result = invoke("check", "adahessian", "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout) == [
        {
            "slug": "adahessian", "claim": "small", "verdict": outcome, "value": 1.0, "low": 0.9, "high": 1.1,
            "threshold": 1.5, "direction": "at most", "broken": [{"name": "damaged", "verdict": "fails"}],
            "seconds": 0.1,
        }
    ]  # fmt: skip
    recorded = json.loads((tmp_path / "home" / "verdicts.json").read_text())
    assert recorded["adahessian"]["small"]["verdict"] == outcome
    assert outcome in invoke("show", "adahessian").stdout


def test_a_stale_check_fails_only_when_a_verdict_got_worse(monkeypatch):
    known = {"adahessian": {"small": fake("adahessian", "fails")[0]}}
    monkeypatch.setattr("attractor.cli.record.read", lambda *path: known)
    monkeypatch.setattr(
        "attractor.cli.record.status", lambda slug, before: "stale" if slug == "adahessian" else "holds"
    )
    for outcome, code in (("holds", 0), ("fails", 0), ("error", 1)):
        monkeypatch.setattr("attractor.cli.check", lambda slug, scale, outcome=outcome: fake(slug, outcome))
        assert invoke("check", "--stale").exit_code == code


def test_compare_a_problem_of_the_users_own(tmp_path):
    page = tmp_path / "r.html"
    own = f"{ROOT / 'examples' / 'my_problem.py'}:problem"
    result = invoke(
        "compare", own, "adam", "sgd", "--steps", "20", "--seeds", "2", "--budget", "2", "--report", str(page)
    )
    assert result.exit_code == 0
    assert "best with" in result.stdout
    assert "attractor compare" in page.read_text()


def test_an_object_that_is_no_problem_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text("number = 3\n")
    with pytest.raises(ValueError, match="is a int; expected an attractor"):
        load_problem(f"{tmp_path / 'mine.py'}:number")
    with pytest.raises(ValueError, match="has no 'problem'; it has number"):
        load_problem(f"{tmp_path / 'mine.py'}:problem")
