"""The rules: each looks at the signs of a run for one thing that goes wrong, and says it with its number.

A rule's number is judged by a threshold of `THRESHOLDS`; the confidence is one half there and grows with the distance.
The order of `RULES` is causal: data, wiring and initial weights come before the step, and that before what a curve
looks like. What another finding explains is named after it.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from attractor.diagnosis.findings import Diagnosis, Finding
from attractor.diagnosis.signs import NAN, Layer, Signs, median, smooth

# At these numbers a finding is as likely as not. Conventional values of the field, but for those marked *, which were
# chosen on half of the programs of `benchmarks/planted_faults.py` and tried on the other half.
THRESHOLDS = {
    "input spread": 100.0,  # * largest over median scale of the input features
    "input level": 20.0,  # * root mean square of the inputs
    "shrinkage": 1e-3,  # * gradient of the weights of the first layers over those of the last
    "growth": 20.0,  # * outputs of a layer over the smallest of those before it, at the start
    "dead": 0.5,  # units of a layer
    "saturated": 0.5,  # values of a layer
    "rise": 2.0,  # * loss over its start, or its best
    "large step": 0.1,  # * update over weights
    "small step": 1.5e-4,  # * update over weights
    "gain": 0.15,  # * share of the loss a run gains in its later four fifths; less is a plateau
    "noise": 10.0,  # * noise scale over batch size
    "waste": 30.0,  # batch size over noise scale
    "spike": 4.0,  # * loss over the median of the steps before
    "odd batch": 3.0,  # size of a batch's inputs over the usual one
    "edge": 0.8,  # sharpness over the optimizer's threshold
    "overfitting": 1.1,  # validation loss over its best, while the training loss falls
    "weights": 5.0,  # norm of the weights over its start
    "rank": 0.03,  # effective over possible rank of a layer's outputs
    "conflict": 0.1,  # minus the cosine between two losses' gradients
    "suspect": 0.02,  # share of the examples
    "seeds": 0.1,  # relative spread of the final loss over seeds
}


class Seen(NamedTuple):
    """What a rule saw: its number, the threshold, a sentence, the place, and what it explains if not the usual."""

    number: float
    threshold: float
    sentence: str
    where: str = ""
    explains: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Rule:
    """A kind of finding.

    Attributes:
        name: As findings are called.
        look: Gives the finding, or `None`.
        explains: Names of findings that are its consequence.
        remedy: What to try.
        paper: Slug of a paper that explains it.
        claim: A claim of that paper.
    """

    name: str
    look: Callable[[Signs], Seen | None]
    explains: tuple[str, ...]
    remedy: str
    paper: str = ""
    claim: str = ""


RULES: dict[str, Rule] = {}
EVERYTHING = ("*",)  # a finding that explains all others


def rule(name: str, *, remedy: str, explains: tuple[str, ...] = (), paper: str = "", claim: str = "") -> Callable:
    """Add a rule: a function of the signs that gives number, threshold, sentence and place, or `None`."""

    def add(look: Callable) -> Callable:
        RULES[name] = Rule(name, look, explains, remedy, paper, claim)
        return look

    return add


def judge(signs: Signs) -> Diagnosis:
    """All findings, the likeliest cause first."""
    found: list[Finding] = []
    explains: dict[str, tuple[str, ...]] = {}
    for r in RULES.values():
        seen = r.look(signs)
        if seen is None:
            continue
        sure = confidence(seen.number, seen.threshold)
        if sure >= 0.5:
            found.append(Finding(r.name, seen.sentence, seen.number, seen.threshold, sure, seen.where, r.remedy))
            found[-1].paper, found[-1].claim = r.paper, r.claim
            explains[r.name] = r.explains if seen.explains is None else seen.explains
    order = list(RULES)
    for finding in found:
        if explains[finding.name] == EVERYTHING:
            continue
        finding.follows = [
            other.name
            for other in found
            if other is not finding
            and (finding.name in explains[other.name] or explains[other.name] == EVERYTHING)
            and other.confidence >= min(0.65, finding.confidence)
        ]
    for first, second in itertools.combinations(found, 2):  # in the order of the rules
        if first.name in second.follows and second.name in first.follows:
            first.follows.remove(second.name)
    found.sort(key=lambda f: (bool(f.follows), -round(f.confidence, 2), order.index(f.name)))
    return Diagnosis(found, signs)


def confidence(number: float, threshold: float) -> float:
    """One half where the number is at the threshold, 0.8 at twice it, 0.99 at ten times; both as ratios above it."""
    if not math.isfinite(number):
        return 0.99 if number > 0 else 0.0
    ratio = max(number / threshold, 0.0)
    return min(ratio**2 / (1 + ratio**2), 0.99)


def _trained(signs: Signs) -> dict[str, Layer]:
    return {name: layer for name, layer in signs.layers.items() if layer.size and layer.trained}


def _percent(share: float) -> str:
    return f"{share:.0%}"


# What is broken outright.


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
    return Seen(10.0, 1.0, f"{_named(still)} of {len(own)} layers with parameters never move.", still[0])


@rule(
    "disconnected layer",
    explains=("plateau", "vanishing gradients", "dead units"),
    remedy="look for a detach(), stop_gradient, .data or argmax on the way, or an output that is not used",
)
def _disconnected(signs: Signs) -> Seen | None:
    own = _trained(signs)
    cut = [name for name, layer in own.items() if layer.reached is False]
    if not cut or (len(cut) == len(own) and signs.kind == "log"):
        return None
    # Where a layer of dead units lies behind, it is what stops the gradient.
    names = list(signs.layers)
    behind = [signs.layers[n].dead for n in names[names.index(cut[-1]) :]]
    if any(d >= 0.999 for d in behind if not math.isnan(d)):
        return None
    return Seen(10.0, 1.0, f"No gradient arrives at {_named(cut)} of {len(own)} layers.", cut[-1])


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


# What the initial weights and the activations do.


@rule(
    "exploding gradients",
    explains=(
        "step too large",
        "saturated units",
        "dead units",
        "spike",
        "plateau",
        "edge of stability",
        "noisy gradients",
    ),
    remedy="initial weights of variance 2 / (number of inputs), a normalization layer, or a clipped gradient norm",
    paper="pdlt-effective-theory",
    claim="critical-constants",
)
def _exploding(signs: Signs) -> Seen | None:
    least, growth, largest = math.inf, 0.0, ""
    for name, layer in signs.layers.items():
        if layer.normalized:
            least = layer.output  # whatever came before is forgotten
        elif layer.output > 0 and math.isfinite(layer.output):
            if layer.output / least > growth:
                growth, largest = layer.output / least, name
            least = min(least, layer.output)
    if not largest:
        return None
    sentence = f"At the start the outputs of {largest} are {growth:.3g} times those of a layer before it."
    dead = any(layer.first_dead >= THRESHOLDS["dead"] for layer in signs.layers.values())
    explained = tuple(n for n in RULES["exploding gradients"].explains if not (dead and n == "dead units"))
    return Seen(growth, THRESHOLDS["growth"], sentence, largest, explained)


@rule(
    "vanishing gradients",
    explains=("plateau", "step too small", "noisy gradients", "targets unrelated to inputs", "needlessly large batch"),
    remedy="rectifiers in place of sigmoids, initial weights of variance 2 / (number of inputs), skip connections, "
    "or normalization",
    paper="pdlt-effective-theory",
    claim="critical-constants",
)
def _vanishing(signs: Signs) -> Seen | None:
    ratios = []
    for when in ("first_gradient", "gradient"):
        own = [(n, getattr(v, when)) for n, v in _trained(signs).items() if v.reached and getattr(v, when) > 0]
        third = len(own) // 3
        if third:
            ratios.append((median(g for _, g in own[:third]) / max(g for _, g in own[-third:]), own[0][0]))
    if not ratios:
        return None
    ratio, where = min(ratios)
    sentence = f"The gradient of the first layers is {ratio:.2g} times that of the last ones (root mean squares)."
    return Seen(1 / max(ratio, 1e-30), 1 / THRESHOLDS["shrinkage"], sentence, where)


@rule(
    "dead units",
    explains=(
        "plateau",
        "vanishing gradients",
        "rank collapse",
        "disconnected layer",
        "step too small",
        "noisy gradients",
    ),
    remedy="smaller steps or biases, initial weights of variance 2 / (number of inputs), or leaky rectifiers",
)
def _dead(signs: Signs) -> Seen | None:
    more = ("exploding gradients", "step too large", "spike")
    explained = RULES["dead units"].explains
    return _share(signs, "dead", "units of {} are the same for all inputs", explained + more, explained)


def _share(signs: Signs, field: str, words: str, at_first: tuple[str, ...], later: tuple[str, ...]) -> Seen | None:
    """The layer with the largest share, as odds, so that 1 is far from one half; it may explain more if it was so at
    the start."""
    shares = {n: getattr(v, field) for n, v in signs.layers.items() if not math.isnan(getattr(v, field))}
    if not shares:
        return None
    worst, limit = max(shares, key=lambda n: shares[n]), THRESHOLDS[field]
    from_start = not getattr(signs.layers[worst], f"first_{field}") < limit
    ending = ", from the start." if signs.kind == "run" and from_start else "."
    sentence = f"{_percent(shares[worst])} of the {words.format(worst)}{ending}"
    odds = shares[worst] / max(1 - shares[worst], 1e-3)
    return Seen(odds, limit / (1 - limit), sentence, worst, at_first if from_start else later)


@rule(
    "saturated units",
    explains=("plateau", "vanishing gradients", "rank collapse", "step too small", "needlessly large batch"),
    remedy="smaller initial weights, scaled inputs, or a normalization layer before the nonlinearity",
)
def _saturated(signs: Signs) -> Seen | None:
    return _share(
        signs, "saturated", "values of {} are at the ends of its range", RULES["saturated units"].explains, ()
    )


# What the step does.


def _moved(signs: Signs) -> float:
    """The usual size of a step, over that of the weights: the median of the first looks, or of all if that is more."""
    _, ratios = signs.curve("update ratio")
    return max(median(ratios[:4]), median(ratios)) if len(ratios) else NAN


def _rise(loss: np.ndarray) -> float:
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
    rise, broke = _rise(loss), bool(len(loss)) and not np.isfinite(loss[-1])
    moved = _moved(signs)
    sharp, limit = signs.number("sharpness"), signs.number("threshold")
    if signs.kind == "state" and sharp > 2 * limit:
        sentence = f"The sharpness {sharp:.3g} is {sharp / limit:.3g} times what the optimizer can bear ({limit:.3g})."
        return Seen(sharp / limit, 1.4, sentence)
    if broke and (rise > THRESHOLDS["rise"] or moved > THRESHOLDS["large step"]):
        return Seen(10.0, 1.0, "The loss grew until it was not finite.")
    if rise > THRESHOLDS["rise"]:
        return Seen(rise, THRESHOLDS["rise"], f"The loss ends at {rise:.3g} times what it had been.")
    if moved > THRESHOLDS["large step"]:
        sentence = f"A step changes the weights by {_percent(moved)} of their size; about 0.1 % is usual."
        return Seen(moved, THRESHOLDS["large step"], sentence)
    return None


@rule("step too small", explains=("plateau",), remedy="a learning rate 10 times larger")
def _small(signs: Signs) -> Seen | None:
    moved = _moved(signs)
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


# What the data do.


@rule("spike", remedy="look at the batch that is named, clip the gradient norm, or skip steps with an odd gradient")
def _spike(signs: Signs) -> Seen | None:
    steps, loss = signs.curve("loss")
    sizes = np.asarray(signs.curves.get("input size", np.full(len(loss), NAN)), float)
    usual = median(sizes)
    ratios = sizes / usual if usual > 0 else np.full(len(loss), NAN)
    oddness = np.maximum(ratios, 1 / np.maximum(ratios, 1e-12))
    odd = oddness > THRESHOLDS["odd batch"]
    found = [s for s in spikes(loss) if s.returns or odd[s.at]]
    if not found and np.isfinite(oddness).any() and np.nanmax(oddness) > 10 * THRESHOLDS["odd batch"]:
        at = int(np.nanargmax(oddness))  # a normalization may hide it from the loss
        sentence = f"The batch of step {int(steps[at])} is odd: inputs of {ratios[at]:.3g} times the usual size."
        return Seen(oddness[at], 10 * THRESHOLDS["odd batch"], sentence, f"step {int(steps[at])}", ())
    if not found:
        return None
    spike = max(found, key=lambda s: (odd[s.at], s.height))
    step = int(steps[spike.at])
    if odd[spike.at]:
        cause = f"its batch is odd: inputs of {ratios[spike.at]:.3g} times the usual size"
    else:
        cause = "its inputs have the usual size" if np.isfinite(ratios[spike.at]) else "curves alone do not say why"
    sentence = f"At step {step} the loss jumps to {spike.height:.3g} times its median before; {cause}."
    return Seen(spike.height, THRESHOLDS["spike"], sentence, f"step {step}", EVERYTHING if odd[spike.at] else ())


class Spike(NamedTuple):
    """A jump of the loss: its index, its height over the median of the steps before, and whether it comes back."""

    at: int
    height: float
    returns: bool


def spikes(loss: np.ndarray, window: int = 20) -> list[Spike]:
    """The first steps at which a loss jumps above the median, and the scatter, of the steps before."""
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
    found: list[Spike] = []
    for i in np.flatnonzero(jumps[: n - 3]):
        if not (found and i - found[-1].at <= window):
            after = loss[i + 1 : i + 1 + window]
            found.append(Spike(int(i), float(heights[i]), bool(np.nanmin(after) < loss[i] / 2)))
    return found


@rule(
    "suspect labels",
    explains=("plateau", "noisy gradients", "overfitting"),
    remedy="look at the examples that are named: the model is sure, and the label says otherwise",
)
def _suspect(signs: Signs) -> Seen | None:
    share = signs.number("suspect labels")
    if math.isnan(share):
        return None
    sentence = f"{_percent(share)} of the examples contradict a model that fits the others"
    shown = signs.culprits.get("suspect labels", [])
    named = f": numbers {', '.join(map(str, shown[:8]))}{' and more' * (len(shown) > 8)}, counted over the batches"
    sentence += f"{named if shown else ''}."
    return Seen(share, THRESHOLDS["suspect"], sentence)


@rule(
    "targets unrelated to inputs",
    explains=("plateau", "noisy gradients", "overfitting"),
    remedy="check that inputs and targets are paired (shuffled alike, sorted alike), and what the labels say",
)
def _unrelated(signs: Signs) -> Seen | None:
    if signs.kind == "log":
        return None
    later, all_in_all = _gain(signs)
    gain, moved = max(later, all_in_all), _moved(signs)
    if math.isnan(gain) or not THRESHOLDS["small step"] < moved < THRESHOLDS["large step"]:
        return None
    if gain > THRESHOLDS["gain"] or _rise(signs.curve("loss")[1]) > THRESHOLDS["rise"]:
        return None
    sentence = "The steps have the usual size and nothing blocks the gradient, yet the loss has hardly ever fallen."
    return Seen(1.5, 1.0, sentence)


def _gain(signs: Signs) -> tuple[float, float]:
    """The share of its size that the loss falls by after the first fifth of a run, and in all; NaN for a short one."""
    _, loss = signs.curve("loss")
    if len(loss) < 40 or not np.isfinite(loss).all():
        return NAN, NAN
    windows = smooth(loss)
    early, last = windows[len(windows) // 5], windows[-3:].mean()
    start = loss[:3].mean()
    return float((early - last) / max(abs(early), 1e-12)), float((start - last) / max(abs(start), 1e-12))


@rule(
    "noisy gradients",
    explains=("plateau", "spike"),
    remedy="a larger batch (or accumulated gradients), a smaller step, or an average of the iterates",
    paper="sgd-dynamical-stability",
    claim="threshold-is-the-trace",
)
def _noisy(signs: Signs) -> Seen | None:
    noise, batch = signs.number("noise scale"), signs.number("batch size")
    if not batch >= 1 or math.isnan(noise):
        return None
    ratio = noise / batch
    size = f"{noise:.3g}" if math.isfinite(noise) else "more than could be measured"
    sentence = f"A batch of {batch:.0f} is mostly noise: the gradient and its noise are equal at a batch of {size}."
    return Seen(ratio, THRESHOLDS["noise"], sentence)


@rule(
    "needlessly large batch",
    remedy="a smaller batch: nearly the same progress a step, for less",
    paper="adadagrad",
    claim="gains-at-equal-samples",
)
def _wasteful(signs: Signs) -> Seen | None:
    noise, batch = signs.number("noise scale"), signs.number("batch size")
    if not batch >= 1 or not noise > 0:
        return None
    sentence = f"A batch of {batch:.0f} is {batch / noise:.3g} times what gradient and noise balance at."
    return Seen(batch / noise, THRESHOLDS["waste"], sentence)


@rule(
    "conflicting losses",
    explains=("plateau",),
    remedy="a step that none of them opposes: attractor.optim.config, projected gradients, or other weights",
    paper="config",
    claim="bisects",
)
def _conflict(signs: Signs) -> Seen | None:
    cosine = signs.number("conflict")
    if math.isnan(cosine):
        return None
    return Seen(-cosine, THRESHOLDS["conflict"], f"The gradients of two losses have a cosine of {cosine:.2f}.")


# What becomes of it.


@rule("overfitting", remedy="stop at the step that is named, more data or augmentation, weight decay, a smaller model")
def _overfitting(signs: Signs) -> Seen | None:
    steps, validation = signs.curve("validation loss")
    _, loss = signs.curve("loss")
    if len(validation) < 5 or not np.isfinite(validation).all() or np.min(validation) <= 0:
        return None
    best = int(np.argmin(validation))
    ratio = float(np.median(validation[-3:]) / validation[best])
    windows = smooth(loss)
    if best >= len(validation) - 3 or not windows[-1] < windows[len(windows) // 2] * 1.02:
        return None
    sentence = f"The validation loss was best at step {int(steps[best])} and is {ratio:.3g} times that now."
    return Seen(ratio - 1, THRESHOLDS["overfitting"] - 1, sentence, f"step {int(steps[best])}")


@rule("growing weights", remedy="weight decay, or a normalization that does not need it")
def _growing(signs: Signs) -> Seen | None:
    _, norms = signs.curve("weight norm")
    if len(norms) < 5 or not norms[0] > 0:
        return None
    ratio = float(norms[-1] / norms[0])
    return Seen(ratio, THRESHOLDS["weights"], f"The norm of the weights is {ratio:.3g} times what it was at the start.")


@rule(
    "rank collapse",
    explains=("plateau",),
    remedy="a normalization layer, skip connections, or less weight decay",
    paper="neural-collapse-deep-linear",
    claim="entropy-of-three-layers-prefers-low-rank",
)
def _rank(signs: Signs) -> Seen | None:
    ranks = {name: v.rank for name, v in list(signs.layers.items())[:-1] if not math.isnan(v.rank)}
    if not ranks:
        return None
    worst = min(ranks, key=lambda n: ranks[n])
    sentence = f"The outputs of {worst} fill {_percent(ranks[worst])} of the dimensions they could (effective rank)."
    return Seen(1 / max(ranks[worst], 1e-6), 1 / THRESHOLDS["rank"], sentence, worst)


@rule(
    "plateau",
    remedy="a larger step, a warm restart, or patience: saddles pass",
    paper="deep-linear-exact-dynamics",
    claim="predicts-when-random-starts-learn",
)
def _plateau(signs: Signs) -> Seen | None:
    later, _ = _gain(signs)
    if math.isnan(later) or later > THRESHOLDS["gain"] or _rise(signs.curve("loss")[1]) > THRESHOLDS["rise"]:
        return None
    # Whether it is stuck or done, the curve does not say.
    return Seen(1.2, 1.0, f"After the first fifth of the run the loss falls by {max(later, 0):.1%} only.")


@rule("luck of the seed", remedy="compare methods on several seeds, paired: attractor compare … --seeds 8")
def _luck(signs: Signs) -> Seen | None:
    spread, runs = signs.number("seed spread"), signs.number("seeds")
    if not runs >= 3 or math.isnan(spread):
        return None
    sentence = f"Over {runs:.0f} seeds the final loss spreads by {_percent(spread)}: one run says little."
    return Seen(spread, THRESHOLDS["seeds"], sentence)


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
