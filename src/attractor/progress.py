"""Progress on standard error: a bar with rate and estimate for anything that takes longer than two seconds."""

import contextlib
import contextvars
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PATIENCE = 2.0  # seconds before a bar appears

Listener = Callable[[str, float, float, str], None]  # label, done, total, unit

_listener: contextvars.ContextVar[Listener | None] = contextvars.ContextVar("_listener", default=None)
_shown: contextvars.ContextVar["_Display | None"] = contextvars.ContextVar("_shown", default=None)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "it")
        return Text(f"{speed:,.0f} {unit}/s" if speed and speed >= 10 else f"{speed or 0:.2g} {unit}/s", style="dim")


class _Display:
    """A rich display that starts only once somebody has waited for `PATIENCE` seconds."""

    def __init__(self) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%")
        self.bars = Progress(*columns, _Rate(), TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self.born = time.monotonic()
        self.started = False

    def advanced(self) -> None:
        if not self.started and time.monotonic() - self.born > PATIENCE:
            self.started = True
            self.bars.start()


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Inside, progress is told to ``listener(label, done, total, unit)`` and no bar is shown."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def task(label: str, total: float, unit: str = "it", enabled: bool | None = None) -> Iterator[Callable[[float], None]]:
    """A bar for ``total`` units of work; yields ``advance(amount)``. Nested tasks share one display.

    Arguments:
        label: What is being done.
        total: Amount of work.
        unit: What is counted, for the rate.
        enabled: `None` shows the bar when standard error is a terminal.
    """
    if (listener := _listener.get()) is not None:
        done = 0.0

        def told(amount: float) -> None:
            nonlocal done
            done += amount
            listener(label, done, total, unit)

        listener(label, done, total, unit)
        yield told
        return
    if not (sys.stderr.isatty() if enabled is None else enabled):
        yield lambda amount: None
        return
    display = _shown.get()
    token = None
    if display is None:
        display = _Display()
        token = _shown.set(display)
    bar = display.bars.add_task(label, total=total, unit=unit)

    def advance(amount: float) -> None:
        display.bars.advance(bar, amount)
        display.advanced()

    try:
        yield advance
    finally:
        display.bars.remove_task(bar)
        if token is not None:
            _shown.reset(token)
            if display.started:
                display.bars.stop()
