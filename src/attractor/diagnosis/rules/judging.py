"""What judges: thresholds, the list of rules, and findings in order.

A rule's number is judged by a threshold of `THRESHOLDS`; the confidence is one half there and grows with the distance.
The order of `RULES` (of imports in the package) is causal: wiring and initial weights come before the step, and
that before what a curve looks like. What another finding explains is named after it.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from attractor.diagnosis.findings import Diagnosis, Finding
from attractor.diagnosis.signs import Layer, Signs

# At these numbers a finding is as likely as not. Conventional values of the field, but for those marked *, which were
# chosen on half of the programs of `benchmarks/planted_faults.py` and tried on the other half.
THRESHOLDS = {
    "input spread": 100.0,  # * largest over median scale of the input features
    "input level": 20.0,  # * root mean square of the inputs
    "shrinkage": 1e-3,  # * gradient of the weights of the first layers over those of the last
    "growth": 20.0,  # * outputs of a layer over the smallest of those before it, at the start
    "dead": 0.5,  # units of a layer
    "saturated": 0.5,  # values of a layer
    "nearly all": 0.9,  # units or values of a layer, for a loss that falls to be no excuse
    "rise": 2.0,  # * loss over its start, or its best
    "large step": 0.1,  # * update over weights
    "small step": 1.5e-4,  # * update over weights
    "gain": 0.15,  # * share of the loss a run gains in its later four fifths; less is a plateau
    "learned": 0.5,  # share of its start that the loss has lost; then what does not stop it is possible only
    "noise": 10.0,  # * noise scale over batch size
    "waste": 30.0,  # batch size over noise scale
    "spike": 4.0,  # * loss over the median of the steps before
    "spike level": 0.25,  # * loss over that of the first steps, for a spike to count
    "kept": 0.5,  # steps whose gradients were added to those of the step before
    "grown": 5.0,  # gradient norm over that of the first step, growing with the number of steps
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
    """What a rule saw.

    Attributes:
        number: What is judged; NaN for what is so or not.
        threshold: By what.
        sentence: With the number in it.
        where: The place.
        explains: Names of other findings, if not the usual ones.
        ratio: How far the number is past its threshold, where that is not the one over the other.
        at_most: How sure it may be.
    """

    number: float
    threshold: float
    sentence: str
    where: str = ""
    explains: tuple[str, ...] | None = None
    ratio: float | None = None
    at_most: float = 1.0


def fact(ratio: float, sentence: str, where: str = "", explains: tuple[str, ...] | None = None) -> Seen:
    """What is so or not, as sure as a number that many times past its threshold."""
    return Seen(math.nan, math.nan, sentence, where, explains, ratio)


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
        ratio = seen.number / seen.threshold if seen.ratio is None else seen.ratio
        sure = min(confidence(ratio), seen.at_most)
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


def confidence(ratio: float) -> float:
    """One half where a number is at its threshold, 0.8 at twice it, 0.99 at ten times."""
    if not math.isfinite(ratio):
        return 0.99 if ratio > 0 else 0.0
    ratio = max(ratio, 0.0)
    return min(ratio**2 / (1 + ratio**2), 0.99)


def trained(signs: Signs) -> dict[str, Layer]:
    """The layers that the optimizer is to move."""
    return {name: layer for name, layer in signs.layers.items() if layer.size and layer.trained}


def short(x: float) -> str:
    """A number in three digits."""
    return f"{float(f'{x:.3g}'):,.0f}" if 1000 <= abs(x) < 1e6 else f"{x:.3g}"


def percent(share: float) -> str:
    """A share in words."""
    return f"{share:.0%}"


def named(names: list[str]) -> str:
    """The first of some names."""
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
