"""Results kept: traces as Parquet under ``.attractor/`` or ``$ATTRACTOR_HOME``, readable by anything, atomically
written."""

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from attractor.places import Url, names, opened, place, write_atomically

if TYPE_CHECKING:  # the feed keeps its files with this module too, and waits for none of them
    import pandas as pd
    import xarray as xr

    from attractor.trace import Trace

FORMAT = "attractor-trace-1"
IMAGINARY = ".imag"


def home() -> str:
    """Where results live: ``$ATTRACTOR_HOME`` (a folder or any fsspec URL), else ``.attractor`` here."""
    return os.environ.get("ATTRACTOR_HOME", ".attractor")


def write(trace: "Trace", path: str | os.PathLike[str]) -> None:
    """Write a trace as one Parquet file, atomically; a local path or any fsspec URL.

    A complex recording is its real part under its own name, and its imaginary part under ``name.imag``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    header = {
        "format": FORMAT,
        "settings": dict(trace.dataset.attrs),
        "hyperparameters": trace.hyperparameters,
        "shapes": {m: list(trace[m].shape[3:]) for m in trace.metrics},
        "goals": {m: trace[m].attrs.get("goal", "min") for m in trace.metrics},
        "dtypes": {m: str(trace[m].dtype) for m in trace.metrics},
        "timing": vars(trace.timing),
    }
    frame = trace.frame()
    for metric in filter(lambda m: np.iscomplexobj(trace[m]), trace.metrics):  # Parquet has no complex numbers
        values = np.asarray(frame[metric].tolist())
        frame[metric], frame[metric + IMAGINARY] = values.real.tolist(), values.imag.tolist()  # pyright: ignore[reportAttributeAccessIssue]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({"attractor": json.dumps(header)})
    write_atomically(path, lambda file: pq.write_table(table, file))


def read(path: str | os.PathLike[str], dataset: Callable[..., "xr.Dataset"]) -> tuple["xr.Dataset", dict[str, Any]]:
    """Read what `write` wrote: the data, and the fields of the run's `Timing`.

    Arguments:
        path: A local path or any fsspec URL.
        dataset: Lays arrays out as a trace does: ``(values, diverged_at, steps, configs, seeds, settings) -> dataset``.

    Raises:
        ValueError: if the file is not a trace.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with opened(path) as file:
        try:
            table = pq.read_table(file)
        except pa.ArrowInvalid as error:
            raise ValueError(f"path: {path} is no Parquet file, or a damaged one ({error})") from error
    header = json.loads((table.schema.metadata or {}).get(b"attractor", b"{}"))
    if header.get("format") != FORMAT:
        raise ValueError(f"path: {path} is a Parquet file but no trace (expected format {FORMAT})")
    frame = table.to_pandas()
    steps, seeds = frame["step"].unique().tolist(), frame["seed"].unique().tolist()
    sizes = (frame["config"].nunique(), len(seeds), len(steps))
    configs = [{k: frame[k].iloc[c * sizes[1] * sizes[2]] for k in header["hyperparameters"]} for c in range(sizes[0])]

    def column(metric: str) -> np.ndarray:
        parts = np.asarray(frame[metric].tolist())
        imaginary = metric + IMAGINARY
        return parts + 1j * np.asarray(frame[imaginary].tolist()) if imaginary in frame else parts

    values = {m: column(m).astype(header["dtypes"][m]).reshape(*sizes, *shape) for m, shape in header["shapes"].items()}
    diverged_at = frame["diverged_at"].to_numpy().reshape(sizes)[:, :, 0]
    data = dataset(values, diverged_at, steps, configs, seeds, header["settings"])
    for metric, goal in header["goals"].items():
        data[metric].attrs["goal"] = goal
    return data, header["timing"]


def save(trace: "Trace", name: str) -> str:
    """Save a trace as ``<home>/traces/<name>.parquet``; returns where."""
    if not name or set(name) & set("/\\"):
        raise ValueError(f"name: expected a file name without slashes, got {name!r}")
    where = os.fspath(place(home(), "ATTRACTOR_HOME") / "traces" / f"{name}.parquet")
    trace.save(where)
    return where


def query(sql: str) -> "pd.DataFrame":
    """Run SQL over all saved traces: the view ``traces`` has a row per (file, configuration, seed, step).

    Columns are ``filename``, ``config``, ``seed``, ``step``, the hyper-parameters and the metrics of all files
    together, NULL where a file lacks one.

    Raises:
        FileNotFoundError: if nothing was saved yet.

    !!! example
        ```python
        store.query("select filename, min(loss) from traces group by filename order by 2")
        ```
    """
    import duckdb

    folder = place(home(), "ATTRACTOR_HOME") / "traces"
    root = os.fspath(folder)
    if not any(name.endswith(".parquet") and "/" not in name for name in names(folder)):
        raise FileNotFoundError(f"no traces under {root}; save one with attractor.store.save(trace, name)")
    connection = duckdb.connect()
    if isinstance(folder, Url):
        connection.register_filesystem(folder.filesystem)
    pattern = f"{root}/*.parquet".replace("'", "''")
    connection.execute(
        f"create view traces as select * from read_parquet('{pattern}', union_by_name=true, filename=true)"
    )
    return connection.execute(sql).df()
