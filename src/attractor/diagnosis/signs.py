"""What was seen of a training run, as numbers that do not know in which framework it ran."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

NAN = float("nan")

# The curves that rules know, each over `Signs.steps`, NaN where it was not recorded.
CURVES = (
    "loss", "validation loss", "accuracy", "validation accuracy", "gradient norm", "weight norm", "update ratio",
    "learning rate", "input size",
)  # fmt: skip


@dataclass
class Layer:
    """One layer, in the order of the forward pass; NaN (or `None`) is what was not seen.

    Attributes:
        size: How many numbers its own parameters have.
        trained: Whether the optimizer is to move it; `None` for a layer without parameters.
        reached: Whether a gradient other than zero ever arrived at its parameters.
        weight: Root mean square of its weights.
        gradient: Root mean square of the gradient with respect to them: the median over looks.
        first_gradient: The same over the first looks.
        update: Length of a step over the length of the weights: the median over looks.
        output: Root mean square of what it puts out, at the first look.
        normalized: Whether it normalizes, so that this size says nothing of what came before.
        dead: Share of units that are constant over a batch, at the last look.
        first_dead: The same at the first look.
        saturated: Share of values at the ends of a bounded nonlinearity's range, at the last look.
        first_saturated: The same at the first look.
        rank: Effective rank of its outputs on a batch over the largest possible one, at the last look.
    """

    size: int = 0
    trained: bool | None = None
    reached: bool | None = None
    weight: float = NAN
    gradient: float = NAN
    first_gradient: float = NAN
    update: float = NAN
    output: float = NAN
    normalized: bool = False
    dead: float = NAN
    first_dead: float = NAN
    saturated: float = NAN
    first_saturated: float = NAN
    rank: float = NAN


@dataclass
class Signs:
    """All that a diagnosis is made from.

    Attributes:
        kind: A state of training (one look), a run (looks along the way), or a log (curves alone).
        steps: At which curves have values.
        curves: By the names in `CURVES`.
        layers: By name, in the order of the forward pass.
        numbers: ``sharpness`` with ``threshold`` (the optimizer's), ``noise scale`` and ``batch size`` (examples),
            ``least noise scale`` (what it may be as well, two standard errors away),
            ``input spread`` (largest over median scale of the features), ``widest feature`` (its number in an example
            laid flat), ``input level`` (root mean square of all
            inputs), ``conflict`` (least cosine between gradients of several losses), ``suspect labels`` (share of
            examples), ``seeds`` (how many runs), ``seed spread`` (their relative standard deviation at the end),
            ``classes`` (how many numbers an example has in the output), ``kept gradients`` (share of the steps looked
            at whose gradients were added to those of the step before).
        origin: Where a number stopped being finite first, in words; empty: nowhere.
        operation: The operation that made it so of finite numbers, such as ``log``; empty: not known.
        twice: Where probabilities are given to a loss that takes logits, in words; empty: nowhere.
        culprits: Examples or batches by name that a finding may point to.
        notes: What could not be looked at, and why.
        runs: Of a log with several runs, each of them.
    """

    kind: Literal["state", "run", "log"]
    steps: Float[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(0))
    curves: dict[str, Float[np.ndarray, " n"]] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    origin: str = ""
    operation: str = ""
    twice: str = ""
    culprits: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    runs: dict[str, "Signs"] = field(default_factory=dict)

    def curve(self, name: str) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Steps and values where a curve was recorded; not-finite values stay, as what they are, for the loss alone."""
        values = np.asarray(self.curves.get(name, np.full(len(self.steps), NAN)), float)
        kept = ~np.isnan(values) if name != "loss" else np.full(len(values), name in self.curves)
        return np.asarray(self.steps, float)[kept], values[kept]

    def number(self, name: str) -> float:
        """A number, NaN where it was not seen."""
        return float(self.numbers.get(name, NAN))


def median(values: Iterable[float]) -> float:
    """The median of what is not NaN; NaN of nothing."""
    seen = [v for v in values if not math.isnan(v)]
    return float(np.median(seen)) if seen else NAN


def smooth(values: Float[np.ndarray, " n"], windows: int = 20) -> Float[np.ndarray, " w"]:
    """Medians over consecutive windows of a curve, at most ``windows`` of them, not-finite values left out."""
    parts = np.array_split(np.asarray(values, float), min(windows, max(len(values), 1)))
    return np.asarray([median(p[np.isfinite(p)]) for p in parts])
