"""The examples run as they are printed, and end with a table and a report."""

import runpy
from pathlib import Path

import pytest

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
