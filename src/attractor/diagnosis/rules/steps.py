"""What the step does."""

import math

import numpy as np

from attractor.diagnosis.rules.curves import in_spite, rise_of, step_size
from attractor.diagnosis.rules.judging import THRESHOLDS, Seen, fact, percent, rule, short
from attractor.diagnosis.signs import Signs


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
        told = f"The sharpness {short(sharp)} is {sharp / limit:.3g} times what the optimizer can bear"
        return Seen(sharp / limit, 1.4, f"{told} ({short(limit)}).")
    if broke and (rise > THRESHOLDS["rise"] or moved > THRESHOLDS["large step"]):
        return fact(10.0, "The loss grew until it was not finite.")
    if rise > THRESHOLDS["rise"]:
        return Seen(rise, THRESHOLDS["rise"], f"The loss ends at {short(rise)} times what it had been.")
    if moved > THRESHOLDS["large step"]:
        sentence = f"A step changes the weights by {percent(moved)} of their size; about 0.1 % is usual."
        # From weights of zero the first steps are large beside them, yet no larger than they.
        return Seen(moved, THRESHOLDS["large step"], sentence, at_most=1.0 if moved > 1 else in_spite(signs))
    return None


@rule("step too small", explains=("plateau",), remedy="a learning rate 10 times larger")
def _small(signs: Signs) -> Seen | None:
    moved = step_size(signs)
    if not moved > 0:
        return None
    sentence = f"A step changes the weights by {moved:.2g} of their size; about 1e-3 is usual."
    limit = THRESHOLDS["small step"]
    return Seen(moved, limit, sentence, ratio=limit / moved, at_most=in_spite(signs))


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
