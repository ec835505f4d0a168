"""`attractor new` in a copy of the project's sources: what it writes runs, and is the project's in style."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attractor.cli.new import BODIES, begin_method

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    """A clone: sources, tests and the tools' settings."""
    ignore = shutil.ignore_patterns("vendor")  # what is compiled goes along: it is as old as its source
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(project, monkeypatch, *command):
    monkeypatch.setenv("PYTHONPATH", str(project / "src"))
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=project)


def test_a_new_method_runs_under_the_contract_at_once(project, monkeypatch):
    told = run(project, monkeypatch, "attractor", "new", "method", "slow-start", "--family", "slow")
    assert told.returncode == 0, told.stderr
    assert "wrote src/attractor/optim/slow.py" in told.stdout
    begin_method(project, "half-ahead", "second_order", None, "method")
    tests = ("tests/optim/test_slow.py", "tests/second_order/test_half_ahead.py")
    how = ("-n", "0", "-p", "no:cacheprovider", "-k", "slow-start or numpy")
    tested = run(project, monkeypatch, "pytest", *how, *tests, "tests/test_contract_optax.py")
    assert tested.returncode == 0, tested.stdout
    files = [*tests, "src/attractor/optim/slow.py", "src/attractor/second_order/half_ahead.py"]
    files += [f"src/attractor/{room}/__init__.py" for room in ("optim", "second_order")]
    for command in (("check",), ("format", "--check")):
        linted = run(project, monkeypatch, "ruff", *command, *files)
        assert linted.returncode == 0, linted.stdout
    again = run(project, monkeypatch, "attractor", "new", "method", "slow-start")
    assert (again.returncode, "is registered already" in again.stderr) == (2, True)


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize(
    ("name", "family", "words"),
    [
        ("Slow_Start", None, "NAME: expected lower-case words joined by hyphens"),
        ("adam", None, "NAME: 'adam' is registered already"),
        ("slow-start", "Slow start", "--family: expected a module's name"),
        ("slow-start", "sign", "sign.py exists; name another --family"),
    ],
)
def test_what_cannot_be_begun_changes_nothing(tmp_path, kind, name, family, words):
    module = tmp_path / "src" / "attractor" / "optim" / "sign.py"
    module.parent.mkdir(parents=True)
    module.write_text("kept")
    with pytest.raises(ValueError, match=words):
        begin_method(tmp_path, name, "optim", family, kind)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["sign.py"]
    assert module.read_text() == "kept"
