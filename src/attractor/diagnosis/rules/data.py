"""What the data do."""

import math
from typing import NamedTuple

import numpy as np

from attractor.diagnosis.rules.judging import EVERYTHING, THRESHOLDS, Seen, percent, rule
from attractor.diagnosis.rules.steps import gains, rise_of, step_size
from attractor.diagnosis.signs import NAN, Signs, median


@rule("spike", remedy="look at the batch that is named, clip the gradient norm, or skip steps with an odd gradient")
def _spike(signs: Signs) -> Seen | None:
    steps, loss = signs.curve("loss")
    sizes = np.asarray(signs.curves.get("input size", np.full(len(loss), NAN)), float)
    usual = median(sizes)
    ratios = sizes / usual if usual > 0 else np.full(len(loss), NAN)
    oddness = np.maximum(ratios, 1 / np.maximum(ratios, 1e-12))
    odd = oddness > THRESHOLDS["odd batch"]
    # Where the loss has become small, one example that is still wrong is a spike of no weight.
    least = THRESHOLDS["spike level"] * median(loss[:5][np.isfinite(loss[:5])])
    found = [s for s in spikes(loss) if odd[s.at] or (s.returns and not loss[s.at] < least)]
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
    sentence = f"{percent(share)} of the examples contradict a model that fits the others"
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
    later, all_in_all = gains(signs)
    gain, moved = max(later, all_in_all), step_size(signs)
    if math.isnan(gain) or not THRESHOLDS["small step"] < moved < THRESHOLDS["large step"]:
        return None
    if gain > THRESHOLDS["gain"] or rise_of(signs.curve("loss")[1]) > THRESHOLDS["rise"]:
        return None
    sentence = "The steps have the usual size and nothing blocks the gradient, yet the loss has hardly ever fallen."
    return Seen(1.5, 1.0, sentence)


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
