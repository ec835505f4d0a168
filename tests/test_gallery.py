"""The gallery's notebooks run as scripts at a small size; the documentation executes them, and shows what came out."""

import runpy
from pathlib import Path

import pytest
import yaml

from attractor import comparison

ROOT = Path(__file__).parents[1]
GALLERY = sorted((ROOT / "docs" / "gallery").glob("*.py"))


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    if "torch" in path.stem:
        pytest.importorskip("torch", reason="PyTorch is an optional extra")
    compare = comparison.compare
    small = {"seeds": 2, "budget": 1}

    def sooner(problem, methods, **how):
        return compare(problem, methods, **how | small | ({"steps": 20} if "steps" in how else {}))

    monkeypatch.setattr(comparison, "compare", sooner)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert not list(tmp_path.iterdir())


def test_all_notebooks_are_in_the_navigation():
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (gallery,) = (entry["Gallery"] for entry in yaml.safe_load(listed)["nav"] if "Gallery" in entry)
    assert sorted(path for entry in gallery for path in entry.values()) == [f"gallery/{p.stem}.md" for p in GALLERY]


def test_a_page_shows_what_came_out(tmp_path):
    notebooks = pytest.importorskip("notebooks", reason="pip install 'attractor[docs]' executes notebooks")
    cells = (
        "# # A title",
        "print(40 + 2)",
        "import pandas\npandas.DataFrame({'n': [7]})",
        "import plotly.graph_objects as go\ngo.Figure(go.Scatter(y=[1, 2]))",
    )
    marked = ["# %% [markdown]", "# %%", "# %%", "# %%"]
    path = tmp_path / "a.py"
    path.write_text("\n".join(f"{mark}\n{cell}\n" for mark, cell in zip(marked, cells, strict=True)))
    page = notebooks.page("a", notebooks.executed(path))
    assert page.startswith("# A title\n")
    assert "```python\nprint(40 + 2)\n```\n\n```text\n42\n```" in page
    assert "<td>7</td>" in page
    assert 'id="a-0"' in page
    assert "Plotly.newPlot" in page
    assert len(page) < 30_000  # without the plotting library
    path.write_text("# %%\nraise KeyError('lost')\n")
    notebooks.executed.cache_clear()
    with pytest.raises(Exception, match="lost"):
        notebooks.executed(path)
