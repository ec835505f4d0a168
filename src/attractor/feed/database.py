"""The feed's SQLite file: opened, migrated, safe for several processes, and whole whenever one is killed."""

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from attractor import store

MIGRATIONS = Path(__file__).with_name("migrations")
WAIT = 30.0  # seconds for another process to finish its transaction


def default_path() -> Path:
    """``feed.sqlite`` under `attractor.store.home`.

    Raises:
        ValueError: if that is a URL: SQLite needs a local file.
    """
    home = store.home()
    if "://" in home:
        raise ValueError(f"ATTRACTOR_HOME: the feed needs a local folder, got {home}; set it for the feed's commands")
    return Path(home) / "feed.sqlite"


def connect(path: Path | None = None) -> sqlite3.Connection:
    """Open the feed, made or brought to the newest form where needed; rows go by column name.

    Arguments:
        path: Default: `default_path`.

    Raises:
        ValueError: if it cannot be kept there, the file is no SQLite database, or was written by a newer version of the
            package.
    """
    path = path or default_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.OperationalError) as error:
        raise _not_kept(path, error) from error
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            raise ValueError(f"path: {path} is no SQLite database; move it away, and the feed starts anew") from error
        if isinstance(error, sqlite3.OperationalError) and re.search("readonly|unable to open", str(error)):
            raise _not_kept(path, error) from error
        raise
    return connection


def _not_kept(path: Path, error: Exception) -> ValueError:
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ValueError(
        f"ATTRACTOR_HOME: the feed cannot be kept in {path.parent} ({said}); set it to a folder of your own"
    )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of the block or nothing; writers wait for each other. Inside another transaction, part of that."""
    if connection.in_transaction:
        yield connection
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


@contextmanager
def alone(connection: sqlite3.Connection, work: str) -> Iterator[None]:
    """Of all processes, one at a time does this work on a feed; the lock goes with the process, however that ends.

    Arguments:
        connection: Of the feed.
        work: What is done, which names the lock's file beside the feed's.

    Raises:
        BusyError: if another process is at it.
    """
    path = Path(connection.execute("PRAGMA database_list").fetchone()["file"]).with_name(f"{work}.lock")
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            who = file.read().strip() or "unknown"
            raise BusyError(f"{work}: process {who} is at it (it holds {path}); wait for it, or end it") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class BusyError(ValueError):
    """Another process does this already."""


def now() -> str:
    """This instant, UTC, to the second, as the tables hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    scripts = sorted(MIGRATIONS.glob("*.sql"))
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > len(scripts):
        raise ValueError(
            f"path: {path} has form {found}, and this version of attractor knows {len(scripts)}: upgrade it"
        )
    if found == len(scripts):
        return
    with transaction(connection):
        found = connection.execute("PRAGMA user_version").fetchone()[0]  # another process may have come first
        for number, script in enumerate(scripts[found:], start=found + 1):
            for statement in _statements(script.read_text(encoding="utf-8")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")


def _statements(script: str) -> Iterator[str]:
    """A script's statements: `executescript` would end the transaction that they are to share."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
