"""What all commands share: the application, how errors end it, how things are printed."""

import contextlib
import io
import json
import os
import signal
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from attractor import __version__
from attractor.extras import MissingExtra
from attractor.names import unknown
from attractor.papers import ROOMS

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Papers on how learning converges, as components and as experiments that can come out false.",
)
out, err = Console(), Console(stderr=True)
COLORS = {
    "holds": "green", "mixed": "cyan", "fails": "yellow", "not replicated": "yellow", "inconclusive": "blue",
    "void": "dim", "error": "red", "stale": "magenta", "missing": "dim",
}  # fmt: skip

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def _print_version(asked: bool) -> bool:
    if asked:
        print(f"attractor {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _before_any_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def in_panels(panels: dict[str, tuple[str, ...]]) -> None:
    """Under which headings, in which order, `attractor --help` lists the commands; each belongs under one."""
    places = {name: (i, j, panel) for i, (panel, names) in enumerate(panels.items()) for j, name in enumerate(names)}
    known = {info.name or getattr(info.callback, "__name__", ""): info for info in app.registered_commands}
    known |= {str(info.name): info for info in app.registered_groups}
    for name, info in known.items():
        info.rich_help_panel = places[name][2]
    app.registered_commands.sort(key=lambda info: places[info.name or getattr(info.callback, "__name__", "")][:2])


def main() -> None:
    """Entry point: bad usage prints one line on standard error and exits with 2; Ctrl-C keeps what is done.

    So does whatever the user's own code raises, with its place. A fault of ours shows its whole way.
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows few characters shows others as "?"
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        with _ends_when_pressed_twice():
            app()
    except KeyboardInterrupt:
        err.print("attractor: interrupted; what was finished is kept")
        _leave(130)
    except SystemExit as end:
        if end.code == 130:  # typer's, or a command's own, after Ctrl-C
            _leave(130)
        raise
    except Exception as error:
        where, usual = _where(error), isinstance(error, (ValueError, TypeError, OSError, MissingExtra))
        if os.environ.get("ATTRACTOR_TRACEBACK") or not (usual or where):
            raise
        if isinstance(error, OSError) and error.strerror and error.filename is not None:
            said = f"{error.filename}: {error.strerror}"
        else:
            said = f"{error}" if usual else f"{type(error).__name__}: {error}"
        err.print(f"attractor: {said}{where}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


@contextlib.contextmanager
def _ends_when_pressed_twice() -> Iterator[None]:
    """Inside, a second Ctrl-C ends the process, even while JAX is at work and Python has not heard of the first."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)

    def watch() -> None:
        pressed = 0
        while pressed < 2 and (numbers := os.read(told, 64)):  # the signals' numbers; nothing, once the pipe is closed
            pressed += numbers.count(signal.SIGINT)
        if pressed >= 2:
            os._exit(130)

    before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(tell)


def _leave(code: int) -> NoReturn:
    """End now: Python's own way out would wait for the program that JAX is at, which may take minutes."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _where(error: BaseException) -> str:
    """The innermost line of the user's own code that an error went through, if any, or that Python cannot read."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"\n  at {error.filename}:{error.lineno}: {(error.text or '').strip()}"
    ours = [sysconfig.get_path(p) for p in ("purelib", "platlib", "stdlib")] + [str(Path(__file__).parents[1])]
    installed = [str(Path(p).resolve()) for p in ours]  # an environment may be a link
    scripts = str(Path(sys.argv[0]).resolve())
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = str(Path(frame.filename).resolve())
        if frame.filename[0] != "<" and path != scripts and not path.startswith(tuple(p + os.sep for p in installed)):
            told = f"\n  at {frame.filename}:{frame.lineno}, in {frame.name}: {frame.line}"
            return f"{told}\n  ATTRACTOR_TRACEBACK=1 shows the whole way there"
    return ""


def print_json(data: Any) -> None:
    """One JSON document on standard output."""
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    print(json.dumps(data, ensure_ascii=plain, allow_nan=False))


def known_rooms(rooms: list[str]) -> None:
    """Refuse a room that is none, with a suggestion."""
    for room in rooms:
        if room not in ROOMS:
            raise unknown("room", room, ROOMS, f"rooms: {', '.join(ROOMS)}")


def known_day(option: str, day: str | None) -> None:
    """Refuse what is no day or time of ISO 8601."""
    try:
        datetime.fromisoformat(day or "2026-01-31")
    except ValueError as error:
        raise ValueError(f"{option}: expected a day such as 2026-01-31, got {day!r}") from error


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows as a table, or as JSON."""
    if as_json:
        return print_json(rows)
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for column in rows[0]:
        table.add_column(column, no_wrap=column in ("name", "needs", "searched"), overflow="fold")
    for row in rows:
        table.add_row(*("" if v is None else str(v) for v in row.values()))
    out.print(table)
    return None
