"""What the step does."""

import math

import numpy as np

from attractor.diagnosis.rules.judging import THRESHOLDS, Seen, percent, rule
from attractor.diagnosis.signs import NAN, Signs, median, smooth


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


@rule(
    "step too large",
    explains=(
        "spike",
        "plateau",
        "dead units",
        "saturated units",
        "edge of stability",
        "growing weights",
        "rank collapse",
        "noisy gradients",
        "overfitting",
    ),
    remedy="a learning rate 10 times smaller, or a warm-up",
    paper="sgd-dynamical-stability",
    claim="threshold-is-the-trace",
)
def _large(signs: Signs) -> Seen | None:
    _, loss = signs.curve("loss")
    rise, broke = rise_of(loss), bool(len(loss)) and not np.isfinite(loss[-1])
    moved = step_size(signs)
    sharp, limit = signs.number("sharpness"), signs.number("threshold")
    if signs.kind == "state" and sharp > 2 * limit:
        sentence = f"The sharpness {sharp:.3g} is {sharp / limit:.3g} times what the optimizer can bear ({limit:.3g})."
        return Seen(sharp / limit, 1.4, sentence)
    if broke and (rise > THRESHOLDS["rise"] or moved > THRESHOLDS["large step"]):
        return Seen(10.0, 1.0, "The loss grew until it was not finite.")
    if rise > THRESHOLDS["rise"]:
        return Seen(rise, THRESHOLDS["rise"], f"The loss ends at {rise:.3g} times what it had been.")
    if moved > THRESHOLDS["large step"]:
        sentence = f"A step changes the weights by {percent(moved)} of their size; about 0.1 % is usual."
        return Seen(moved, THRESHOLDS["large step"], sentence)
    return None


@rule("step too small", explains=("plateau",), remedy="a learning rate 10 times larger")
def _small(signs: Signs) -> Seen | None:
    moved = step_size(signs)
    if not moved > 0:
        return None
    sentence = f"A step changes the weights by {moved:.2g} of their size; about 1e-3 is usual."
    return Seen(1 / moved, 1 / THRESHOLDS["small step"], sentence)


@rule(
    "edge of stability",
    remedy="nothing, if the loss falls: it is usual with large steps; else a smaller step",
    paper="quadratic-regression-edge-of-stability",
    claim="they-end-just-below-the-edge",
)
def _edge(signs: Signs) -> Seen | None:
    ratio = signs.number("sharpness") / signs.number("threshold")
    if math.isnan(ratio) or ratio > 2:
        return None
    sentence = f"The sharpness is {ratio:.2f} of what the optimizer can bear: it sets the pace, oscillating."
    return Seen(ratio, THRESHOLDS["edge"], sentence)


def gains(signs: Signs) -> tuple[float, float]:
    """The share of its size that the loss falls by after the first fifth of a run, and in all; NaN for a short one."""
    _, loss = signs.curve("loss")
    if len(loss) < 40 or not np.isfinite(loss).all():
        return NAN, NAN
    windows = smooth(loss)
    early, last = windows[len(windows) // 5], windows[-3:].mean()
    start = loss[:3].mean()
    return float((early - last) / max(abs(early), 1e-12)), float((start - last) / max(abs(start), 1e-12))
