"""What the curves of a run's log say: CSV, JSON, TensorBoard's event files, a Weights & Biases export."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from attractor.diagnosis import columns as names
from attractor.diagnosis.findings import Diagnosis
from attractor.diagnosis.logs.runs import Run, Series, read_folder_of_events, read_table
from attractor.diagnosis.logs.tables import KINDS
from attractor.diagnosis.seeds import UNSEEN, judge_all, together
from attractor.diagnosis.signs import NAN, Signs
from attractor.names import unknown

EVENTS = "tfevents"
TABLES = (".csv", ".tsv", ".txt", ".log", ".jsonl", ".ndjson", ".json")


def read_log(*paths: str | Path, columns: Mapping[str, str] | None = None) -> Signs:
    """The signs in one or several logs of training.

    Read are CSV files with a header (Keras' and Lightning's loggers, a Weights & Biases export, one's own), JSON with
    an object a row (``wandb-history.jsonl``, a Trainer's ``trainer_state.json``), TensorBoard's event files, and
    folders of such. Columns are known by the usual names; rows in which only some have a value are merged by step.
    Several runs, by file or by a column ``seed`` or ``run``, are taken as seeds of one experiment.

    Arguments:
        paths: Files or folders.
        columns: Which column is what, where its name does not say: ``{"loss": "my_loss", "step": "t"}``. The roles are
            ``step``, ``run`` and the names in `attractor.diagnosis.signs.CURVES`; ``{"step": "none"}`` numbers the
            rows.

    Returns:
        The curves of the only run, or of the one whose loss ends in the middle; in `notes`, what was taken for what.

    Raises:
        FileNotFoundError: for a path that does not exist.
        ValueError: for a log that cannot be read or has no loss; the message names file, line, column and a way out.
    """
    return together(_read(paths, columns))


def diagnose_log(*paths: str | Path, columns: Mapping[str, str] | None = None) -> Diagnosis:
    """What is wrong in one or several logs of training; of several runs each is looked at.

    Arguments:
        paths: Files or folders, as in `read_log`.
        columns: Which column is what, as in `read_log`.

    Raises:
        FileNotFoundError: for a path that does not exist.
        ValueError: for a log that cannot be read or has no loss.
    """
    return judge_all(_read(paths, columns))


def _read(paths: tuple[str | Path, ...], columns: Mapping[str, str] | None) -> dict[str, Signs]:
    """The signs of every run by its name."""
    chosen = dict(columns or {})
    for role in chosen:
        if role not in names.ROLES:
            raise unknown("role of a column", role, names.ROLES, f"roles: {', '.join(names.ROLES)}")
    if not paths:
        raise ValueError("paths: expected at least one log file or folder")
    runs = _merged([run for path in paths for run in _runs_at(Path(path), chosen)])
    if len({run.file for run in runs}) == 1:  # the file's name tells nothing apart
        for run in runs:
            run.name = run.name.rpartition(", ")[2]
    for role, column in chosen.items():
        if role != "step" and not any(names.plain(column) in _names_of(run) for run in runs) and role != "run":
            raise unknown("column", column, runs[0].columns, f"{runs[0].file} has {', '.join(runs[0].columns)}")
    with_loss = [run for run in runs if "loss" in run.curves]
    if not with_loss:
        raise ValueError(_no_loss(runs[0]))
    for run in runs:
        if run not in with_loss:
            with_loss[0].notes.append(f"{run.file}: no column is a training loss, so it is left out")
    return {run.name or run.file: _signs(run) for run in with_loss}


def _names_of(run: Run) -> set[str]:
    return {names.plain(n) for c in run.columns for n in (c, c.rpartition(" - ")[2])}


def _no_loss(run: Run) -> str:
    only = " (only of the validation)" if "validation loss" in run.curves else ""
    listed = ", ".join(run.columns) or "nothing but steps"
    return f"{run.file}: no column is a training loss{only}; it has {listed}; name one with --column loss=NAME"


def _runs_at(path: Path, chosen: dict[str, str]) -> list[Run]:
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if not path.is_dir():
        if EVENTS in path.name:
            return [read_folder_of_events([path], path.parent.name, chosen)]
        if path.suffix.lower() not in TABLES:
            raise ValueError(f"{path}: expected {KINDS}, or an event file of TensorBoard (events.out.tfevents…)")
        return _named(read_table(path, chosen), path.stem)
    folders: dict[Path, list[Path]] = {}
    for file in sorted(path.rglob(f"*{EVENTS}*")):
        folders.setdefault(file.parent, []).append(file)
    if folders:
        return [_of_events(path, folder, files, folders, chosen) for folder, files in folders.items()]
    files = sorted(path.rglob("metrics.csv")) or sorted(f for f in path.iterdir() if f.suffix.lower() in TABLES)
    if not files:
        raise ValueError(f"{path}: the folder has neither {KINDS}, nor event files of TensorBoard")
    return [run for f in files for run in _named(read_table(f, chosen), str(f.relative_to(path).with_suffix("")))]


def _of_events(
    root: Path, folder: Path, files: list[Path], folders: dict[Path, list[Path]], chosen: dict[str, str]
) -> Run:
    """The run in a folder; where it has neighbors ``train`` and ``validation``, one run, as Keras writes it."""
    parts = {names.split_of(f.name) for f in folders if f.parent == folder.parent}
    split = names.split_of(folder.name) if "train" in parts else ""
    return read_folder_of_events(files, str((folder.parent if split else folder).relative_to(root)), chosen, split)


def _named(runs: list[Run], name: str) -> list[Run]:
    for run in runs:
        run.name = ", ".join(filter(None, [name, run.name]))
    return runs


def _merged(runs: list[Run]) -> list[Run]:
    """Runs of one name and folder as one; names told apart by the files where they are the same."""
    found: dict[str, Run] = {}
    for run in runs:
        same = found.get(run.name)
        if same is None:
            found[run.name] = run
        elif set(same.curves) & set(run.curves):
            run.name = run.file if run.file not in found else f"{run.file} ({len(found)})"
            found[run.name] = run
        else:
            same.curves |= run.curves
            same.others += run.others
            same.notes += run.notes
    return list(found.values())


def _signs(run: Run) -> Signs:
    """The signs of a run: all curves at the steps of its loss."""
    taken, curves = [], {}
    signs = Signs("log", notes=list(run.notes))
    for curve, found in sorted(run.curves.items(), key=lambda pair: pair[0] != "loss"):
        column = max(found, key=lambda c: (len(found[c].values), -names.preference(c)))
        others = [repr(c) for c in found if c != column]
        taken.append(f"{curve} is {column!r}" + (f" (not {', '.join(others)})" if others else ""))
        series = _forward(found[column], run, column, signs.notes)
        if curve == "loss":
            signs.steps = series.steps
        curves[curve] = _at(series, signs.steps, column, signs.notes)
    signs.curves = curves
    signs.notes += [f"columns of {run.file}: {', '.join(taken)}", UNSEEN]
    return signs


def _forward(series: Series, run: Run, column: str, notes: list[str]) -> Series:
    """The series with steps that only increase: of a run that was resumed, what came later."""
    steps = series.steps
    if len(steps) > 2 and (np.diff(steps) < 0).all():
        notes.append(f"{run.file}: {column!r} is written from the last step to the first, and turned around")
        return Series(*(part[::-1] for part in series))
    if not (np.diff(steps) <= 0).any():
        return series
    least_after = np.minimum.accumulate(steps[::-1])[::-1]
    kept = np.append(steps[:-1] < least_after[1:], True)
    back = int(np.argmax(np.diff(steps) < 0))
    if steps[back + 1] < steps[back]:
        notes.append(
            f"{run.file}, line {series.lines[back + 1]}: the steps of {column!r} go back from {steps[back]:g} to "
            f"{steps[back + 1]:g}; taken as a run that was resumed, so {int((~kept).sum())} earlier rows are left out "
            "(several runs in one file need a column seed or run)"
        )
    return Series(*(part[kept] for part in series))


def _at(series: Series, steps: Float[np.ndarray, " n"], column: str, notes: list[str]) -> Float[np.ndarray, " n"]:
    """The values at the steps of the loss: each at its own, or at the last one before."""
    places = np.clip(np.searchsorted(steps, series.steps, side="right") - 1, 0, None)
    values = np.full(len(steps), NAN)
    values[places] = series.values  # of several at one place, the last
    lost = len(places) - len(np.unique(places))
    if lost:
        notes.append(f"{lost} of {len(places)} values of {column!r} lie between two of the loss, and are left out")
    return values
