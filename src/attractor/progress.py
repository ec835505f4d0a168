"""Progress on standard error: a bar with rate and estimate for anything that takes longer than two seconds.

And its end before time: Ctrl-C, where it is safe.
"""

import contextlib
import contextvars
import os
import signal
import sys
import threading
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


_pressed: list[int] | None = None  # the signals that came since Ctrl-C is held back; `None` where it is not


def _hold(number: int, frame: object) -> None:
    if _pressed:
        raise KeyboardInterrupt
    if _pressed is not None:
        _pressed.append(number)
        os.write(2, b"\nstopping where nothing is lost; Ctrl-C again stops at once\n")  # print may be at work itself


def stop_if_asked() -> None:
    """Raise the `KeyboardInterrupt` that was held back, if any."""
    if _pressed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside, Ctrl-C takes effect where `stop_if_asked` is called, at the latest at the end; pressed again, anywhere.

    Raised in the middle of JAX, a `KeyboardInterrupt` may be swallowed, or end the process (jax-ml/jax#18246). Only
    Python's own handler is replaced, in the main thread, which is the one that signals reach.
    """
    global _pressed
    main = threading.current_thread() is threading.main_thread()
    if _pressed is not None or not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _pressed = []
    signal.signal(signal.SIGINT, _hold)
    try:
        yield
        stop_if_asked()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _pressed = None
