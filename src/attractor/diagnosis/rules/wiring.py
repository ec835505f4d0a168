"""What is broken outright: numbers that are not finite, layers that are left out, inputs out of scale."""

import math

import numpy as np

from attractor.diagnosis.rules.judging import EVERYTHING, THRESHOLDS, Seen, named, rule, trained
from attractor.diagnosis.signs import NAN, Signs

# Operations that have no finite value at some finite numbers; sums and products merely overflow.
PARTIAL = ("log", "div", "sqrt", "rsqrt", "pow", "exp", "reciprocal", "acos", "asin", "atanh", "tan", "gamma", "inv",
           "cholesky", "svd", "eigh", "solve", "norm")  # fmt: skip


@rule(
    "not finite",
    remedy="guard the operation named: an epsilon under a root or logarithm, a clamp, log-sum-exp; where the loss had "
    "been growing before, a smaller step",
)
def _not_finite(signs: Signs) -> Seen | None:
    _, loss = signs.curve("loss")
    bad = ~np.isfinite(loss)
    if not bad.any() and not signs.origin:
        return None
    at = int(signs.steps[bad.argmax()]) if bad.any() else int(signs.steps[-1]) if len(signs.steps) else 0
    told = f"{signs.origin} is the first." if signs.origin else "Where is not known."
    when = "Already now" if signs.kind == "state" else f"At step {at}"
    partial = any(p in signs.operation for p in PARTIAL)
    # A sum that overflows is where growth ended, not where it came from.
    return Seen(
        10.0 if partial else 1.5,
        1.0,
        f"{when} a number is not finite: {told}",
        signs.origin or f"step {at}",
        EVERYTHING if partial else (),
    )


@rule(
    "frozen layer",
    explains=("plateau", "step too small", "vanishing gradients"),
    remedy="give these parameters to the optimizer, or let them require gradients; if they are to stay, nothing",
)
def _frozen(signs: Signs) -> Seen | None:
    own = {name: layer for name, layer in signs.layers.items() if layer.size and layer.trained is not None}
    still = [name for name, layer in own.items() if not layer.trained or (layer.reached and layer.update == 0)]
    if not still or len(still) == len(own):
        return None
    return Seen(10.0, 1.0, f"{named(still)} of {len(own)} layers with parameters never move.", still[0])


@rule(
    "disconnected layer",
    explains=("plateau", "vanishing gradients", "dead units"),
    remedy="look for a detach(), stop_gradient, .data or argmax on the way, or an output that is not used",
)
def _disconnected(signs: Signs) -> Seen | None:
    own = trained(signs)
    cut = [name for name, layer in own.items() if layer.reached is False]
    if not cut or (len(cut) == len(own) and signs.kind == "log"):
        return None
    # Where a layer of dead units lies behind, it is what stops the gradient.
    names = list(signs.layers)
    behind = [signs.layers[n].dead for n in names[names.index(cut[-1]) :]]
    if any(d >= 0.999 for d in behind if not math.isnan(d)):
        return None
    return Seen(10.0, 1.0, f"No gradient arrives at {named(cut)} of {len(own)} layers.", cut[-1])


@rule(
    "badly scaled inputs",
    explains=EVERYTHING,
    remedy="standardize the inputs: subtract the mean and divide by the standard deviation of each feature",
)
def _inputs(signs: Signs) -> Seen | None:
    spread, level = signs.number("input spread"), signs.number("input level")
    level = max(level, 1 / level) if level > 0 else NAN
    widest = signs.number("widest feature")
    which = "" if math.isnan(widest) else f", number {widest:.0f},"
    cases = [
        (
            spread,
            THRESHOLDS["input spread"],
            f"The largest input feature{which} has {spread:.3g} times the usual scale.",
        ),
        (level, THRESHOLDS["input level"], f"The inputs have size {signs.number('input level'):.3g}; expected is one."),
    ]
    if spread > THRESHOLDS["input spread"]:  # the more exact of both
        cases[1] = (*cases[1][:2], f"{cases[0][2]} {cases[1][2]}")
    seen = [c for c in cases if not math.isnan(c[0])]
    if not seen:
        return None
    number, threshold, sentence = max(seen, key=lambda c: c[0] / c[1])
    return Seen(number, threshold, sentence, "inputs")
