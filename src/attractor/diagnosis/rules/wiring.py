"""What is broken outright: numbers that are not finite, layers that are left out, inputs out of scale."""

import math

import numpy as np

from attractor.diagnosis.rules.judging import EVERYTHING, THRESHOLDS, Seen, fact, named, percent, rule, short, trained
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
    sentence = f"{when} a number is not finite: {told}"
    return fact(10.0 if partial else 1.5, sentence, signs.origin or f"step {at}", EVERYTHING if partial else ())


@rule(
    "frozen layer",
    explains=("plateau", "step too small", "vanishing gradients"),
    remedy="give these parameters to the optimizer, or let them require gradients; if they are to stay, nothing",
)
def _frozen(signs: Signs) -> Seen | None:
    own = {name: layer for name, layer in signs.layers.items() if layer.size and layer.trained is not None}
    # One whose gradient has become zero, behind units that have died say, stands still for another reason.
    held = {name for name, layer in own.items() if layer.reached and layer.update == 0 and layer.gradient != 0}
    still = [name for name, layer in own.items() if not layer.trained or name in held]
    if not still or len(still) == len(own):
        return None
    return fact(10.0, f"{named(still)} of {len(own)} layers with parameters never move.", still[0])


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
    return fact(10.0, f"No gradient arrives at {named(cut)} of {len(own)} layers.", cut[-1])


@rule(
    "probabilities taken for logits",
    explains=("plateau", "step too small", "vanishing gradients", "saturated units", "targets unrelated to inputs",
              "noisy gradients", "needlessly large batch", "rank collapse"),
    remedy="take the softmax or sigmoid out of the model: the loss applies its own; probabilities are for predictions",
)  # fmt: skip
def _twice(signs: Signs) -> Seen | None:
    _, loss = signs.curve("loss")
    finite = loss[np.isfinite(loss)]
    if not len(finite):
        return None
    end, start = float(np.median(finite[-max(len(finite) // 10, 1) :])), float(finite[0])
    if signs.twice:
        classes = signs.number("classes")
        pair = "sigmoid" in signs.twice
        floor = math.log1p(math.exp(-1)) if pair else _floor(classes)
        least = "" if math.isnan(floor) else f" The loss cannot fall below {floor:.3g}; it is at {end:.3g}."
        return fact(10.0, f"A loss that takes logits is given probabilities: {signs.twice}.{least}", "loss")
    # A curve alone: from the logarithm of a number of classes to what this mistake leaves, and no further.
    if signs.kind == "state" or len(finite) < 40:
        return None
    for classes in range(3, 101):
        if abs(start - math.log(classes)) < 0.02 and -0.01 < end - _floor(classes) < 0.03 * start:
            sentence = (
                f"The loss goes from log {classes} to {end:.3g}, below which it would not fall ({_floor(classes):.3g}"
            )
            return fact(1.1, f"{sentence}) if the softmax of {classes} classes were taken for logits.", "loss")
    return None


def _floor(classes: float) -> float:
    """The least cross-entropy of logits between 0 and 1."""
    return math.log(math.e + classes - 1) - 1


@rule(
    "gradients never cleared",
    explains=("step too large", "exploding gradients", "spike", "plateau", "growing weights", "edge of stability",
              "noisy gradients", "needlessly large batch", "dead units", "saturated units", "overfitting",
              "rank collapse", "targets unrelated to inputs"),
    remedy="optimizer.zero_grad() before every backward pass, inside the loop over batches; in JAX, start from zeros "
    "where gradients are summed",
)  # fmt: skip
def _kept(signs: Signs) -> Seen | None:
    steps, norms = signs.curve("gradient norm")
    share = signs.number("kept gradients")
    if share > 0:
        grown = f" Their norm went from {norms[0]:.3g} to {np.max(norms):.3g}." if len(norms) else ""
        sentence = (
            f"In {percent(share)} of the steps looked at, gradients were added to those of the step before.{grown}"
        )
        limit = THRESHOLDS["kept"]
        ratio = share / max(1 - share, 1e-3) * (1 - limit) / limit
        return Seen(share, limit, sentence, "gradients", ratio=ratio)
    # Curves alone: a sum of n gradients is between the root of n and n times as long as one of them.
    if (
        not math.isnan(share)
        or signs.kind == "state"
        or len(norms) < 5
        or not norms[0] > 0
        or not np.isfinite(norms).all()
    ):
        return None
    n, ratio = steps - steps[0] + 1, norms / norms[0]
    top = int(np.argmax(ratio)) + 1
    if top < 5 or ratio[top - 1] < THRESHOLDS["grown"] or not (steps[0] <= 1 and n[1] < 8):
        return None
    if ((ratio[:top] < 0.7 * np.sqrt(n[:top])) | (ratio[:top] > 1.3 * n[:top])).any():
        return None
    sentence = (
        f"Over {n[top - 1]:.0f} steps the gradient's norm grows to {ratio[top - 1]:.3g} times the first, as a sum does."
    )
    return Seen(float(ratio[top - 1]), THRESHOLDS["grown"], sentence, "gradients", ratio=1.2)


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
    feature = f"The largest input feature{which} has {short(spread)} times the usual scale."
    size = f"The inputs have size {short(signs.number('input level'))}; expected is one."
    cases = [(spread, THRESHOLDS["input spread"], feature), (level, THRESHOLDS["input level"], size)]
    if spread > THRESHOLDS["input spread"]:  # the more exact of both
        cases[1] = (*cases[1][:2], f"{cases[0][2]} {cases[1][2]}")
    seen = [c for c in cases if not math.isnan(c[0])]
    if not seen:
        return None
    number, threshold, sentence = max(seen, key=lambda c: c[0] / c[1])
    return Seen(number, threshold, sentence, "inputs")
