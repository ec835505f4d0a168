"""The examples run as they are printed, and end with a table and a report."""

import re
import runpy
from pathlib import Path

import pytest

import attractor.loops

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
SCRIPTS = [path for path in EXAMPLES if "__main__" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_compares_and_reports(path, tmp_path, monkeypatch, capsys):
    if "import torch" in path.read_text(encoding="utf-8"):
        pytest.importorskip("torch", reason="PyTorch is an optional extra")
    monkeypatch.chdir(tmp_path)
    result = runpy.run_path(str(path), run_name="__main__")["result"]
    assert "best with probability" in capsys.readouterr().out
    assert (tmp_path / f"{path.stem}.html").stat().st_size > 1_000_000  # with the plotting library
    for entry in result.entries.values():
        assert not entry.trace.failures
        start, end = entry.trace[result.metric].values[0][:, [0, -1]].mean(0)
        assert end > start if result.goal == "max" else end < start  # it learns


@pytest.mark.parametrize(
    ("name", "cause", "words"),
    [
        ("why_torch", "probabilities taken for logits", "The loss cannot fall below 1.46"),
        ("why_optax", "badly scaled inputs", "it helps"),
    ],
)
def test_an_example_says_why(name, cause, words, tmp_path, monkeypatch):
    if name.endswith("torch"):
        pytest.importorskip("torch", reason="PyTorch is an optional extra")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES[0].parent / f"{name}.py"))
    page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    assert f"1. {cause}" in page
    assert words in page


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_the_snippets_of_the_documentation_run(capsys):
    pytest.importorskip("torch", reason="PyTorch is an optional extra")
    page = (Path(__file__).parents[1] / "docs" / "loops.md").read_text(encoding="utf-8")
    for snippet in (*blocks(page), *blocks(attractor.loops.__doc__)):
        exec(compile(snippet, "<snippet>", "exec"), {"__name__": "snippet"})
    assert "best with probability" in capsys.readouterr().out
