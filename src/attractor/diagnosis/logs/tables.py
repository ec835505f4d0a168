"""Tables of numbers in files: comma-separated values and JSON, with the line of every row."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

KINDS = ".csv, .tsv or .txt (a table with a header), .jsonl or .json"


class Row(NamedTuple):
    """A line of a table: its number, and its cells by column."""

    line: int
    cells: dict[str, Any]


def read_rows(path: Path) -> tuple[list[str], list[Row], list[str]]:
    """The names of the columns, the rows, and notes on what was left out.

    Raises:
        ValueError: for a file that is empty, no text, or no table; names file and line.
    """
    text = _text(path)
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        header, rows, notes = *_objects(text, path), []
    else:
        header, rows, notes = _cells(text, path)
    if not rows:
        raise ValueError(f"{path}: it has no rows of values; expected a table with a loss in each row")
    return header, rows, notes


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: byte {error.start} is no UTF-8 text; expected {KINDS}, or an event file of "
            "TensorBoard (events.out.tfevents…)"
        ) from error
    if not text.strip():
        raise ValueError(f"{path}: the file is empty")
    return text


def _cells(text: str, path: Path) -> tuple[list[str], list[Row], list[str]]:
    """The rows of a table with a header, separated by commas, semicolons or tabs."""
    first = text.lstrip("\r\n").splitlines()[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [c.strip() for c in next(row for row in reader if row)]
    if all(_is_number(c) for c in header):
        raise ValueError(
            f"{path}, line {reader.line_num}: numbers where the names of the columns are expected; add a first line "
            "such as step,loss"
        )
    twice = sorted({c for c in header if header.count(c) > 1 and c})
    if twice:
        raise ValueError(f"{path}, line {reader.line_num}: the column {twice[0]!r} is there twice; rename one")
    rows, notes = [], []
    for cells in reader:
        if not any(c.strip() for c in cells):
            continue
        line = reader.line_num
        if len(cells) != len(header):
            if not text.endswith("\n") and next(reader, None) is None:
                notes.append(f"{path}: the last line is cut off, as in a run that was killed; it is left out")
                break
            if len(cells) < len(header) or any(c.strip() for c in cells[len(header) :]):
                raise ValueError(f"{path}, line {line}: {len(cells)} cells, where the header names {len(header)}")
        if delimiter == ";":  # then the comma is free for decimals
            cells = [c.replace(",", ".") for c in cells]
        rows.append(Row(line, dict(zip(header, cells, strict=False))))
    return header, rows, notes


def _objects(text: str, path: Path) -> tuple[list[str], list[Row]]:
    """Rows of JSON: one object a line, a list of objects, or the ``log_history`` of a Hugging Face Trainer's state."""
    try:
        whole = json.loads(text) if path.suffix.lower() == ".json" else None
    except json.JSONDecodeError:
        whole = None  # one object a line, under another ending
    if isinstance(whole, dict) and isinstance(whole.get("log_history"), list):
        whole = whole["log_history"]
    objects: Iterator[tuple[int, Any]]
    if isinstance(whole, list):
        objects = iter(enumerate(whole, 1))
    else:
        objects = ((i, _parsed(line, path, i)) for i, line in enumerate(text.splitlines(), 1) if line.strip())
    rows = []
    for line, found in objects:
        if not isinstance(found, dict):
            raise ValueError(f"{path}, line {line}: expected an object {{name: number, …}}, got {str(found)[:40]}")
        rows.append(Row(line, dict(_flat(found))))
    return list(dict.fromkeys(c for row in rows for c in row.cells)), rows


def _parsed(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: no JSON ({error.msg} at column {error.colno}); expected one object a line"
        ) from error


def _flat(found: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
