"""Runs from the store, with their curves."""

import re
from pathlib import Path
from typing import Any

from attractor.web import drawing

CURVES = 12  # configurations that are drawn
POINTS = 400  # of a curve
NAME = re.compile(r"[^/\\\x00-\x1f]{1,200}")


def _folder() -> Path | None:
    from attractor import store

    home = store.home()
    return None if "://" in home else Path(home) / "traces"


def every() -> list[dict[str, Any]]:
    """The saved runs, newest first: ``name``, ``day``, ``size`` in bytes."""
    import time

    folder = _folder()
    files = sorted(folder.glob("*.parquet"), key=lambda p: -p.stat().st_mtime) if folder else []
    return [
        {"name": p.stem, "day": time.strftime("%Y-%m-%d", time.gmtime(p.stat().st_mtime)), "size": p.stat().st_size}
        for p in files[:500]
    ]


def show(name: str, metric: str = "") -> dict[str, Any]:
    """A run: its settings, and the curves of a metric, median and quartiles over seeds.

    Raises:
        ValueError: for an unknown run or metric, or a damaged file.
    """
    from attractor.names import unknown

    known = [r["name"] for r in every()]
    folder = _folder()
    if folder is None or not NAME.fullmatch(name) or name not in known:
        raise unknown("run", name[:80], known)
    header, frame = _read(folder / f"{name}.parquet")
    metrics = [m for m, shape in header["shapes"].items() if not shape and "complex" not in header["dtypes"][m]]
    if not metrics:
        raise ValueError(f"run {name} has no metric that is one number a step")
    metric = metric or metrics[0]
    if metric not in metrics:
        raise unknown("metric", metric, metrics)
    shown, labels = {}, []
    for config in sorted(frame["config"].unique())[:CURVES]:
        rows = frame[frame["config"] == config]
        given = {k: rows[k].iloc[0] for k in header["hyperparameters"]}
        label = ", ".join(f"{k} {drawing.number(v) if isinstance(v, float) else v}" for k, v in given.items())
        by_step = rows.groupby("step")[metric]
        bands = by_step.quantile([0.25, 0.5, 0.75]).unstack()
        bands = bands.iloc[:: max(1, len(bands) // POINTS)]
        shown[label or "the run"] = [(float(s), *map(float, row)) for s, *row in bands.itertuples()]
        labels.append(label or "the run")
    seeds, configs = frame["seed"].nunique(), frame["config"].nunique()
    data = {"name": name, "metric": metric, "metrics": metrics, "labels": labels, "seeds": seeds, "configs": configs}
    title = f"{metric}: median over {seeds} seeds, band between the quartiles"
    return {**data, "settings": header["settings"], "curves": drawing.curves(shown, True, title)}


def _read(path: Path) -> tuple[dict[str, Any], Any]:
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    from attractor.store import FORMAT

    try:
        table = pq.read_table(path)
        header = json.loads((table.schema.metadata or {}).get(b"attractor", b"{}"))
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise ValueError(f"run {path.stem} cannot be read ({error})") from error
    if header.get("format") != FORMAT:
        raise ValueError(f"run {path.stem} is no trace (expected format {FORMAT})")
    return header, table.to_pandas()
