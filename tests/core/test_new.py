"""`attractor new` in a copy of the project's sources: what it writes runs, and is the project's in style."""

import re
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
    """As CONTRIBUTING says it: its command, and then its module by hand in the place of what the command wrote."""
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"`attractor (new method [a-z_ -]+)`", guide)
    by_hand, where = re.search(r"```python\n(# (src/\S+\.py)\n.*?)```", guide, re.S).groups()
    name = command.split()[2]
    told = run(project, monkeypatch, "attractor", *command.split())
    assert told.returncode == 0, told.stderr
    assert f"wrote {where}" in told.stdout
    begin_method(project, "half-ahead", "second_order", None, "method")
    tests = ("tests/optim/test_sign_descent.py", "tests/second_order/test_half_ahead.py")
    files = [*tests, where, "src/attractor/second_order/half_ahead.py"]
    files += [f"src/attractor/{room}/__init__.py" for room in ("optim", "second_order")]
    how = ("pytest", "-n", "0", "-p", "no:cacheprovider", "-k", f"{name} or numpy")
    for written in ((), (by_hand,)):
        for text in written:
            (project / where).write_text(text, encoding="utf-8")
        for linter in (("ruff", "check"), ("ruff", "format", "--check")):
            linted = run(project, monkeypatch, *linter, *files)
            assert linted.returncode == 0, linted.stdout
        # The test that the command wrote follows what it wrote; the module by hand has another formula.
        tested = run(project, monkeypatch, *how, *(() if written else tests), "tests/test_contract_optax.py")
        assert tested.returncode == 0, tested.stdout
    again = run(project, monkeypatch, "attractor", *command.split())
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
