"""Tables for other programs and for papers: a comparison's as CSV, Parquet, Markdown or LaTeX."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attractor.places import write_atomically
from attractor.stats import Interval

ESCAPES = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"})


def flat(table: pd.DataFrame) -> pd.DataFrame:
    """The same rows with plain columns: an interval becomes its value, and two columns ending in ``low``, ``high``.

    Where a method has no interval, as the best against itself, the three are NaN.
    """
    columns: dict[str, Any] = {}
    for name in table.columns:
        cells = list(table[name])
        if not any(isinstance(cell, Interval) for cell in cells):
            columns[name] = cells
            continue
        for part, suffix in (("value", ""), ("low", " low"), ("high", " high")):
            columns[f"{name}{suffix}"] = [getattr(cell, part, math.nan) for cell in cells]
    return pd.DataFrame(columns, index=table.index)


def export(table: pd.DataFrame, path: str | os.PathLike[str]) -> str:
    """Write a table as its file's ending says, to a local file or any fsspec URL, atomically; returns where.

    Arguments:
        table: Such as `Comparison.table()`.
        path: Ends in ``.csv`` or ``.parquet`` (numbers in full, intervals as three columns, see `flat`), or in ``.md``
            or ``.tex`` (four digits, intervals in brackets; LaTeX needs no package).

    Raises:
        ValueError: for another ending.
    """
    made = FORMATS.get(Path(path).suffix.lower())
    if made is None:
        raise ValueError(f"path: expected a name that ends in {', '.join(FORMATS)}, got {path}")
    content = made(table)
    write_atomically(path, lambda file: file.write(content))
    return os.fspath(path)


def _csv(table: pd.DataFrame) -> bytes:
    return flat(table).to_csv().encode()


def _parquet(table: pd.DataFrame) -> bytes:
    return flat(table).reset_index().to_parquet(index=False)


def _markdown(table: pd.DataFrame) -> bytes:
    rows = [[cell.replace("|", r"\|") for cell in row] for row in _text(table, "–")]
    rule = ["---", *("---" if w else "---:" for w in _words(table))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (rows[0], rule, *rows[1:])).encode()


def _latex(table: pd.DataFrame) -> bytes:
    rows = [[cell.translate(ESCAPES) for cell in row] for row in _text(table, "--")]
    head, *body = (f"{' & '.join(row)} \\\\\n" for row in rows)
    align = "l" + "".join("l" if w else "r" for w in _words(table))
    return f"\\begin{{tabular}}{{{align}}}\n\\hline\n{head}\\hline\n{''.join(body)}\\hline\n\\end{{tabular}}\n".encode()


FORMATS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".md": _markdown,
    ".tex": _latex,
}


def _text(table: pd.DataFrame, missing: str) -> list[list[str]]:
    """The head and the rows as a reader wants them."""
    head = [str(table.index.name or ""), *map(str, table.columns)]
    return [head, *([str(row[0]), *(_cell(c, missing) for c in row[1:])] for row in table.itertuples())]


def _words(table: pd.DataFrame) -> list[bool]:
    """By column, whether it holds words rather than numbers."""
    return [any(isinstance(cell, str) for cell in cells) for _, cells in table.items()]


def _cell(cell: Any, missing: str) -> str:
    if isinstance(cell, Interval):
        return "never" if np.isposinf(cell.low) else f"{cell.value:.4g} [{cell.low:.4g}, {cell.high:.4g}]"
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return missing
    if isinstance(cell, float):
        return "never" if math.isinf(cell) else f"{cell:.4g}"
    return str(cell)
