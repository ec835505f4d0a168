"""Log files as runs: each a set of columns, each column steps, values, and the lines they are from."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from attractor.diagnosis import columns as names
from attractor.diagnosis.logs.events import read_events
from attractor.diagnosis.logs.tables import Row, read_rows
from attractor.names import unknown
from attractor.progress import task

HOLES = {"", "null", "none", "na", "n/a"}
NUMBERED = "none"  # a step column of this name: rows are numbered


class Series(NamedTuple):
    """A column of a run, holes left out.

    Attributes:
        steps: As logged.
        values: May be NaN or infinite: then the log says so.
        lines: From 1, of the file; records of an event file.
        parts: How often the log had gone back to an earlier step (each event file is a part).
    """

    steps: Float[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]
    lines: Int[np.ndarray, " n"]
    parts: Int[np.ndarray, " n"]


@dataclass
class Run:
    """One run of a log: by curve, the columns that may be it.

    Attributes:
        name: From the file's name, a column ``seed`` or ``run``, or the folder; empty: the only one.
        file: Where it is from.
        curves: ``{curve: {column: series}}``.
        others: Columns that were taken for nothing.
        notes: What had to be decided.
    """

    name: str
    file: str
    curves: dict[str, dict[str, Series]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """All names of columns."""
        return [*(c for found in self.curves.values() for c in found), *self.others]


def read_table(path: Path, chosen: dict[str, str], split: str = "") -> list[Run]:
    """The runs in a CSV or JSON file.

    Arguments:
        path: Of the file.
        chosen: Columns by role, where the user names them.
        split: ``"train"`` or ``"validation"`` where the file is about such data.

    Raises:
        ValueError: for a file that is empty, no table, or holds what is no number; names file, line and column.
    """
    header, rows, notes = read_rows(path)
    return _Reader(path, header, chosen, split, notes).runs(rows)


def read_folder_of_events(paths: list[Path], name: str, chosen: dict[str, str], split: str = "") -> Run:
    """The run in the event files of one folder, each continuing the one before."""
    run = Run(name, str(paths[0].parent if len(paths) > 1 else paths[0]))
    parts: dict[str, list[Series]] = {}
    for part, path in enumerate(sorted(paths)):
        scalars, note = read_events(path.read_bytes(), str(path))
        run.notes += [note] * bool(note)
        for tag, points in scalars.items():
            numbers = np.asarray(points, float).T
            series = Series(numbers[0], numbers[1], np.arange(1, len(points) + 1), np.full(len(points), part))
            if _curve(tag, chosen, split):
                require_one_value_a_step(series, str(path), tag, "value")
            parts.setdefault(tag, []).append(series)
    for tag, found in parts.items():
        whole = Series(*(np.concatenate(columns) for columns in zip(*found, strict=True)))
        _keep(run, tag, _curve(tag, chosen, split), whole)
    return run


def require_one_value_a_step(series: Series, file: str, column: str, unit: str = "line") -> None:
    """Refuse a step that is there twice in a row with different values: no curve goes through both."""
    same = (series.steps[1:] == series.steps[:-1]) & (series.parts[1:] == series.parts[:-1])
    differ = ~((series.values[1:] == series.values[:-1]) | (np.isnan(series.values[1:]) & np.isnan(series.values[:-1])))
    bad = np.flatnonzero(same & differ)
    if len(bad):
        i = bad[0]
        raise ValueError(
            f"{file}, {unit} {series.lines[i + 1]}, column {column!r}: step {series.steps[i + 1]:g} is there a second "
            f"time with another value ({series.values[i]:g}, {series.values[i + 1]:g}); name the column that counts "
            f"the steps with --column step=NAME, or --column step={NUMBERED} to number the rows"
        )


def _curve(column: str, chosen: dict[str, str], split: str = "") -> str:
    """The curve that a column is, by the user's word or by its name."""
    for role, name in chosen.items():
        if names.plain(name) == names.plain(column):
            return role if role not in ("step", "run") else ""
    curve = names.curve_of(column, split)
    return "" if curve in chosen else curve


def _keep(run: Run, column: str, curve: str, series: Series) -> None:
    if curve and len(series.values):
        run.curves.setdefault(curve, {})[column] = series
    else:
        run.others.append(column)


class _Reader:
    """Takes the rows of one table apart into runs and columns."""

    def __init__(self, path: Path, header: list[str], chosen: dict[str, str], split: str, notes: list[str]):
        self.path, self.chosen, self.split, self.notes = path, chosen, split, notes
        # W&B's export has a column for each run and metric, and its extremes where runs are grouped.
        self.ranges = [c for c in header if c.endswith(("__MIN", "__MAX"))]
        self.header = [c for c in header if c and c not in self.ranges]
        self.step = self._counter()
        self.run = self._named("run") or next((c for c in self.header if names.plain(c) in names.RUNS), None)
        if self.run == self.step:
            self.run = None

    def _named(self, role: str) -> str | None:
        return next((c for c in self.header if names.plain(c) == names.plain(self.chosen.get(role, "")) and c), None)

    def _counter(self) -> str | None:
        wanted = self.chosen.get("step")
        if wanted is not None:
            found = self._named("step")
            if found is None and wanted != NUMBERED:
                raise unknown("column", wanted, self.header, f"{self.path} has {', '.join(self.header)}")
            return found
        known = {names.plain(c): c for c in reversed(self.header)}
        return next((known[name] for name in names.STEPS if name in known), None)

    def runs(self, rows: list[Row]) -> list[Run]:
        if self.step is None and self.chosen.get("step") != NUMBERED:
            self.notes.append(f"{self.path}: no column counts the steps, so the rows are numbered from 0")
        where = {c: self._place(c) for c in self.header if c not in (self.step, self.run)}
        points: dict[str, dict[str, list[tuple[float, float, int, int]]]] = {}
        last: dict[str, tuple[float, int]] = {}  # of each run, the step and the part
        with task(f"reading {self.path.name}", len(rows), "row") as advance:
            for number, row in enumerate(rows):
                own = str(row.cells.get(self.run, "")) if self.run else ""
                step, part = None, 0
                for column, (run, curve) in where.items():
                    if not curve or _is_hole(cell := row.cells.get(column)):
                        continue
                    # Rows without any value we read need no step, such as the closing row of a summary.
                    if step is None:
                        step = self._step(row, number)
                        before, part = last.get(own, (step, 0))
                        part += step < before
                        last[own] = step, part
                    point = step, self._value(cell, row.line, column), row.line, part
                    points.setdefault(run or own, {}).setdefault(column, []).append(point)
                if number % 1000 == 999:
                    advance(1000)
        runs = []
        for name in points or [""]:
            run = Run(f"{self.run} {name}" if self.run and name else name, str(self.path), notes=list(self.notes))
            for column, (_, curve) in where.items():
                found = points.get(name, {}).get(column, [])
                steps, values, lines, parts = np.asarray(found, float).reshape(-1, 4).T
                series = Series(steps, values, lines.astype(int), parts.astype(int))
                if curve and found:
                    require_one_value_a_step(series, str(self.path), column)
                _keep(run, column, curve, series)
            runs.append(run)
        return runs

    def _place(self, column: str) -> tuple[str, str]:
        """The run a column belongs to (empty: the row's), and the curve it is taken for."""
        curve = _curve(column, self.chosen, self.split)
        if not curve and " - " in column:
            run, _, metric = column.rpartition(" - ")
            return run, _curve(metric, self.chosen, self.split)
        return "", curve

    def _step(self, row: Row, number: int) -> float:
        if self.step is None:
            return float(number)
        cell = row.cells.get(self.step)
        if _is_hole(cell):
            raise ValueError(
                f"{self.path}, line {row.line}, column {self.step!r}: the step is missing; fill it in, or "
                f"--column step={NUMBERED} to number the rows"
            )
        step = self._value(cell, row.line, self.step)
        if not math.isfinite(step):
            raise ValueError(f"{self.path}, line {row.line}, column {self.step!r}: expected a number, got {cell!r}")
        return step

    def _value(self, cell: Any, line: int, column: str) -> float:
        try:
            return float(cell)
        except (ValueError, TypeError):
            shown = re.sub(r"\s+", " ", str(cell))[:40]
            raise ValueError(
                f"{self.path}, line {line}, column {column!r}: expected a number, nan or inf, got {shown!r}; mend the "
                "line, or name another column with --column"
            ) from None


def _is_hole(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in HOLES)
