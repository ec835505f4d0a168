"""What rules read off curves: the size of a step, rises, gains, and jumps."""

from typing import NamedTuple

import numpy as np

from attractor.diagnosis.rules.judging import THRESHOLDS
from attractor.diagnosis.signs import NAN, Signs, median, smooth

BEFORE = 20  # steps that the usual values are taken from
NEAR = 5  # steps right before
RAISED = 2.0  # times the usual value, of what announces an instability
RARE = 2.0  # a spike is so rare that a run has exp(-RARE) of them at most by its usual scatter
POSSIBLE = 0.63  # the confidence of what is possible, and not likely


def step_size(signs: Signs) -> float:
    """The usual size of a step, over that of the weights: the median of the first looks, or of all if that is more."""
    _, ratios = signs.curve("update ratio")
    return max(median(ratios[:4]), median(ratios)) if len(ratios) else NAN


def rise_of(loss: np.ndarray) -> float:
    """How far a curve rose: the median of its last tenth over its start or its best, whichever rise is larger."""
    finite = loss[np.isfinite(loss)]
    if len(finite) < 5 or np.min(finite) <= 0:
        return NAN
    windows = smooth(finite)
    return float(windows[-1] / max(np.min(windows[: max(len(windows) // 2, 1)]), 0.02 * windows[0], 1e-12))


def gains(signs: Signs) -> tuple[float, float]:
    """The share of its size that the loss falls by after the first fifth of a run, and in all; NaN for a short one."""
    _, loss = signs.curve("loss")
    if len(loss) < 40 or not np.isfinite(loss).all():
        return NAN, NAN
    windows = smooth(loss)
    early, last = windows[len(windows) // 5], windows[-3:].mean()
    start = loss[:3].mean()
    return float((early - last) / max(abs(early), 1e-12)), float((start - last) / max(abs(start), 1e-12))


def in_spite(signs: Signs) -> float:
    """How sure a finding may be that is no fault where the loss falls all the same.

    Noise, units that sleep, features of low rank, steps that are large beside small weights: a run that learns has
    them, too.
    """
    _, loss = signs.curve("loss")
    if len(loss) < 40 or not np.isfinite(loss).all():
        return 1.0
    start = loss[:3].min()  # before it grew, where the first steps did that
    learned = (start - smooth(loss)[-3:].mean()) / max(abs(start), 1e-12)
    return POSSIBLE if learned > THRESHOLDS["learned"] else 1.0


class Spike(NamedTuple):
    """A jump of the loss: its index, its height over the median of the steps before, and whether it comes back."""

    at: int
    height: float
    returns: bool


def spikes(loss: np.ndarray, window: int = 20) -> list[Spike]:
    """The first steps at which a loss jumps above the median, and the scatter, of the steps before.

    A loss that scatters has high steps of its own: with few examples a step it is many times its median now and then.
    A jump is one that would not be expected in the run even if the logarithms of those heights had an exponential
    tail, as far as their median and their upper quartile tell.
    """
    n = len(loss)
    usual, most = np.full(n, NAN), np.full(n, NAN)
    for i in range(5, min(window, n)):
        usual[i], most[i] = np.median(loss[:i]), np.max(loss[:i])
    if n > window:
        before = np.lib.stride_tricks.sliding_window_view(loss[:-1], window)
        usual[window:], most[window:] = np.median(before, 1), np.max(before, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        heights = np.where(np.isfinite(loss) & np.isfinite(most) & (usual > 0), loss / usual, 0)
        jumps = heights > THRESHOLDS["spike"] * np.maximum(1.0, most / usual / 2)
    usual_heights = np.log(heights[heights > 0])
    if len(usual_heights) >= window:
        middle, high = np.quantile(usual_heights, [0.5, 0.75])
        jumps &= heights > np.exp(middle + (high - middle) * (np.log(len(usual_heights)) + RARE) / np.log(2))
    found: list[Spike] = []
    for i in np.flatnonzero(jumps[: n - 3]):
        if not (found and i - found[-1].at <= window):
            after = loss[i + 1 : i + 1 + window]
            found.append(Spike(int(i), float(heights[i]), bool(np.nanmin(after) < loss[i] / 2)))
    return found


def announced(signs: Signs, at: int) -> list[str] | None:
    """What had grown right before a row, in words: an instability announces itself; `None`: nothing was looked at."""
    names = {"gradient norm": "the gradient", "update ratio": "the update over the weights"}
    known = {words: change(signs, name, at - NEAR, at) for name, words in names.items()}
    if all(c is None for c in known.values()):
        return None
    return [f"{words} had grown to {c:.3g} times its usual size" for words, c in known.items() if c and c > RAISED]


def change(signs: Signs, name: str, start: int, end: int) -> float | None:
    """The largest value of a curve over rows, over the median of those before; `None` where it was not looked at.

    What those before reached themselves by their usual scatter is no change: then it is 1.
    """
    curve = np.asarray(signs.curves.get(name, np.zeros(0)), float)
    start = max(start, 0)
    before, there = curve[max(start - 5 * BEFORE, 0) : start], curve[start:end]
    there = there[~np.isnan(there)]
    usual = median(before)
    if not len(there) or not usual > 0:
        return None
    inside = np.nanmin(before) <= there.max() <= np.nanmax(before)
    return 1.0 if inside else float(there.max() / usual)
