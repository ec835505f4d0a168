"""From a paper that came in to a claim that runs: in a copy of the project's sources."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attractor.papers.catalogue import find
from attractor.papers.drafting import checkout, draft, new_paper

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    """What a draft touches and needs: the package and the folder of tests."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "papers").mkdir(parents=True)
    return tmp_path


def run(project, monkeypatch, *command):
    monkeypatch.setenv("PYTHONPATH", str(project / "src"))
    monkeypatch.setenv("ATTRACTOR_HOME", str(project / "home"))
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=project)


def test_a_paper_that_came_in_has_a_claim_that_runs(project, monkeypatch):
    entry = {"title": "Sharp Valleys: Descent along Ravines", "abstract": "Momentum follows ravines of the loss."}
    (project / "a.json").write_text(json.dumps([{**entry, "URL": "https://arxiv.org/abs/2601.00001"}]))
    assert run(project, monkeypatch, "attractor", "import", "a.json").returncode == 0
    told = run(project, monkeypatch, "attractor", "new", "paper", "2601.00001", "--room", "optim")
    assert told.returncode == 0, told.stderr
    assert "wrote src/attractor/papers/optim/sharp_valleys.py" in told.stdout
    checked = run(project, monkeypatch, "attractor", "check", "sharp-valleys", "--json")
    (verdict,) = json.loads(checked.stdout)
    assert (verdict["claim"], verdict["verdict"]) == ("halves-the-steps", "holds"), checked.stdout
    assert [b["verdict"] for b in verdict["broken"]] == ["fails"]
    tested = run(project, monkeypatch, "pytest", "-q", "tests/papers/optim/test_sharp_valleys.py")
    assert tested.returncode == 0, tested.stdout
    again = run(project, monkeypatch, "attractor", "new", "paper", "2601.00001")
    assert (again.returncode, "nothing was changed" in again.stderr) == (2, True)


def test_a_paper_of_the_catalogue_keeps_its_row(project):
    catalogue = project / "src" / "attractor" / "papers" / "catalogue.jsonl"
    before = catalogue.read_bytes()
    done = draft(find("polycom"), root=project)
    assert [path.name for path in done.written] == ["polycom.py", "test_polycom.py"]
    assert catalogue.read_bytes() == before
    assert done.near
    assert (
        draft(find("i-bert"), root=project).near[0] == "few-bit-backward"
    )  # by all that its row says: nothing quantum


def test_what_has_been_begun_is_left_alone(project):
    file = project / "src" / "attractor" / "papers" / "second_order" / "adahessian.py"
    before = file.read_bytes()
    with pytest.raises(ValueError, match="begun"):
        draft(find("adahessian"), root=project)
    assert file.read_bytes() == before


def test_rows_stay_in_order(project):
    paper = new_paper("Zen of Rows: Order", "games", year=2026, authors=("Ann Lee",))
    draft(paper, root=project)
    rows = [json.loads(line) for line in (project / "src/attractor/papers/catalogue.jsonl").open(encoding="utf-8")]
    assert [(r["room"], r["slug"]) for r in rows] == sorted((r["room"], r["slug"]) for r in rows)
    assert next(r for r in rows if r["slug"] == "zen-of-rows")["authors"] == ["Ann Lee"]


def test_the_checkout_is_this_one():
    assert checkout() == ROOT
