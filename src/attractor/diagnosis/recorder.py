"""A record of a run that costs little: bounded in memory, read in bulk, and with costly looks spaced by a budget."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from attractor.checks import in_range

LAG = 64  # newest rows that are left unread: a device may still be working on them
BLOCK = 512  # rows that wait before they are read


def _floats(values: Sequence[Any]) -> list[float]:
    return [float(v) for v in values]


class Recorder:
    """Values by step, and the clock that says when there is time for a costly look.

    The newest half of the record is complete. When it is full, every second row of the older half is dropped, so that
    the start of a run stays, ever more coarsely.

    Arguments:
        capacity: Rows kept, at least 16.
        budget: Share of the loop's time that looks may take, in (0, 1].
        clock: Seconds; for tests.
        read: A list of values as they were added (scalars of a device, say) to floats; it may wait for them.

    Raises:
        ValueError: if a number is out of range.

    !!! example
        ```python
        record = Recorder()
        for step in range(1000):
            …
            record.add(step, loss=loss)
            if record.due():
                start = record.clock()
                record.add(step, norm=costly())
                record.spent(record.clock() - start)
        steps, curves = record.curves()
        ```
    """

    def __init__(
        self,
        capacity: int = 10_000,
        budget: float = 0.05,
        *,
        clock: Callable[[], float] = time.perf_counter,
        read: Callable[[Sequence[Any]], Sequence[float]] = _floats,
    ):
        in_range("capacity", capacity, 16)
        in_range("budget", budget, 0.0, 1.0, open_low=True)
        self.capacity, self.budget, self.clock = capacity, budget, clock
        self._convert = read
        self._rows: list[tuple[int, dict[str, Any]]] = []
        self._read = 0  # rows before this one hold floats
        self._next: float | None = None  # when a look is due

    def __len__(self) -> int:
        return len(self._rows)

    def due(self, now: float | None = None) -> bool:
        """Whether there is time for a look; the first is always due.

        Arguments:
            now: Seconds, default: the clock's.
        """
        return self._next is None or (self.clock() if now is None else now) >= self._next

    def spent(self, seconds: float, now: float | None = None) -> None:
        """Say what a look took: the next is due once the loop has run ``1 / budget`` times as long.

        Pauses of the loop save nothing up, so that no burst of looks follows a long evaluation.

        Arguments:
            seconds: Taken.
            now: Seconds, default: the clock's.
        """
        now = self.clock() if now is None else now
        self._next = max(now if self._next is None else self._next, now) + seconds / self.budget

    def delay(self, seconds: float) -> None:
        """Say what was taken besides looks: the next is put off by ``1 / budget`` times as long, if it is not yet due.

        Arguments:
            seconds: Taken.
        """
        if self._next is not None:
            self._next += seconds / self.budget

    def add(self, step: int, **values: Any) -> None:
        """Record values; those of a step that is there already join them.

        Arguments:
            step: At least the last one.
            values: By name: numbers, or what ``read`` takes.

        Raises:
            ValueError: if steps go back.
        """
        if self._rows and step <= self._rows[-1][0]:
            if step < self._rows[-1][0]:
                raise ValueError(f"step: expected at least {self._rows[-1][0]}, the last one recorded, got {step}")
            self._read = min(self._read, len(self._rows) - 1)
            self._rows[-1][1].update(values)
            return
        self._rows.append((step, values))
        if len(self._rows) - self._read >= BLOCK + LAG:
            self._read_until(len(self._rows) - LAG)
        if len(self._rows) > self.capacity:
            half = self.capacity // 2
            self._read_until(half)
            self._rows[:half] = self._rows[:half:2]
            self._read -= half - len(range(0, half, 2))

    def curves(self) -> tuple[Float[np.ndarray, " n"], dict[str, Float[np.ndarray, " n"]]]:
        """The steps and every value over them, NaN where it was not recorded."""
        self._read_until(len(self._rows))
        names = dict.fromkeys(name for _, values in self._rows for name in values)
        steps = np.asarray([step for step, _ in self._rows], float)
        return steps, {name: np.asarray([v.get(name, np.nan) for _, v in self._rows], float) for name in names}

    def _read_until(self, end: int) -> None:
        unread = self._rows[self._read : end]
        floats = iter(self._convert([value for _, values in unread for value in values.values()]) if unread else ())
        for _, values in unread:
            for name in values:
                values[name] = next(floats)
        self._read = max(self._read, end)
