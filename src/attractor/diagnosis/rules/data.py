"""What the data do."""

import math

import numpy as np

from attractor.diagnosis.rules.curves import POSSIBLE, announced, gains, in_spite, rise_of, spikes, step_size
from attractor.diagnosis.rules.judging import EVERYTHING, THRESHOLDS, Seen, percent, rule, short
from attractor.diagnosis.signs import NAN, Signs, median

LARGEST = 2.0  # times the threshold, of a noise scale: it is one signal out of much noise, which a few gradients show


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
        sentence = f"The batch of step {int(steps[at])} is odd: inputs of {short(ratios[at])} times the usual size."
        return Seen(oddness[at], 10 * THRESHOLDS["odd batch"], sentence, f"step {int(steps[at])}", ())
    if not found:
        return None
    spike = max(found, key=lambda s: (odd[s.at], s.height))
    step = int(steps[spike.at])
    if odd[spike.at]:
        cause = f"its batch is odd: inputs of {short(ratios[spike.at])} times the usual size"
    elif raised := announced(signs, spike.at):
        cause = f"before, {' and '.join(raised)}, so that it is an instability"
    else:
        cause = "its inputs have the usual size" if np.isfinite(ratios[spike.at]) else "curves alone do not say why"
    sentence = f"At step {step} the loss jumps to {short(spike.height)} times its median before; {cause}."
    return Seen(spike.height, THRESHOLDS["spike"], sentence, f"step {step}", EVERYTHING if odd[spike.at] else ())


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
    return Seen(gain, THRESHOLDS["gain"], sentence, ratio=1.5)


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
    ratio, limit = noise / batch, THRESHOLDS["noise"]
    size = short(noise) if math.isfinite(noise) else "more than could be measured"
    sentence = f"A batch of {batch:.0f} is mostly noise: the gradient and its noise are equal at a batch of {size}."
    # From few pairs of gradients, it may well be less.
    sure = POSSIBLE if signs.number("least noise scale") / batch < limit else in_spite(signs)
    return Seen(ratio, limit, sentence, ratio=min(ratio / limit, LARGEST), at_most=sure)


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
