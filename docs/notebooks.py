"""The gallery: notebooks in jupytext's percent format, executed when the site is built, as pages and as .ipynb."""

import functools
import json
import os
import tempfile
from pathlib import Path

import jupytext
import nbformat
import plotly.io
from nbclient import NotebookClient

GALLERY = Path(__file__).with_name("gallery")
MINUTES = 10
FIGURE = "application/vnd.plotly.v1+json"


def pages() -> dict[str, str]:
    """Contents by path: each notebook as Markdown, and as it was executed."""
    found = {}
    for path in sorted(GALLERY.glob("*.py")):
        notebook = executed(path)
        found[f"gallery/{path.stem}.md"] = page(path.stem, notebook)
        found[f"gallery/{path.stem}.ipynb"] = nbformat.writes(notebook)
    return found


@functools.cache
def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    notebook = jupytext.read(path)
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"  # the figure alone, without the library
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=60 * MINUTES, resources={"metadata": {"path": folder}})
        return client.execute()


def page(name: str, notebook: nbformat.NotebookNode) -> str:
    """A notebook as Markdown."""
    parts, drawn = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if FIGURE in data:
                parts.append(_figure(data[FIGURE], f"{name}-{drawn}"))
                drawn += 1
            elif "text/html" in data:
                parts.append(f'<div class="output">\n{data["text/html"]}\n</div>')
            elif text := output.get("text") or data.get("text/plain"):
                parts.append(f"```text\n{text.rstrip()}\n```")
    parts.append(f"[This page as a notebook]({name}.ipynb)")
    return "\n\n".join(parts)


def _figure(data: dict, name: str) -> str:
    """A figure that draws itself with the library that goes with the site."""
    figure = plotly.io.from_json(json.dumps(data), skip_invalid=True)
    figure.update_layout(height=380, width=None, margin={"l": 60, "r": 20, "t": 40, "b": 45})
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})  # or it takes half of a phone
    script = '<script src="../../javascripts/plotly.min.js"></script>'
    return script + figure.to_html(include_plotlyjs=False, full_html=False, div_id=name)
