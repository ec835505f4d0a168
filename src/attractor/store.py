"""Results on disk: traces as Parquet under ``.attractor/`` or ``$ATTRACTOR_HOME``, readable by anything, atomically
written."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import duckdb
import fsspec
import pandas as pd

if TYPE_CHECKING:
    from attractor.trace import Trace


def home() -> str:
    """Where results live: ``$ATTRACTOR_HOME`` (a folder or any fsspec URL), else ``.attractor`` here."""
    return os.environ.get("ATTRACTOR_HOME", ".attractor")


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], Any]) -> None:
    """Call ``write(file)`` so that ``path`` holds either what it held before or all of the new content.

    On a local disk: a temporary file beside it, flushed to the disk, then renamed. Elsewhere (``s3://…``) the
    object store's own upload is atomic.
    """
    if "://" in str(path):
        with fsspec.open(str(path), "wb") as file:
            write(file)  # pyright: ignore[reportArgumentType]
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def save(trace: "Trace", name: str) -> str:
    """Save a trace as ``<home>/traces/<name>.parquet``; returns where."""
    if not name or set(name) & set("/\\"):
        raise ValueError(f"name: expected a file name without slashes, got {name!r}")
    where = f"{home().rstrip('/')}/traces/{name}.parquet"
    trace.save(where)
    return where


def query(sql: str) -> pd.DataFrame:
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
    root = f"{home().rstrip('/')}/traces"
    filesystem, path = fsspec.core.url_to_fs(root)
    if not filesystem.glob(f"{path}/*.parquet"):
        raise FileNotFoundError(f"no traces under {root}; save one with attractor.store.save(trace, name)")
    connection = duckdb.connect()
    if "://" in root:
        connection.register_filesystem(filesystem)
    pattern = f"{root}/*.parquet".replace("'", "''")
    connection.execute(
        f"create view traces as select * from read_parquet('{pattern}', union_by_name=true, filename=true)"
    )
    return connection.execute(sql).df()
