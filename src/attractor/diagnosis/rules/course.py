"""What becomes of a run."""

import math

import numpy as np

from attractor.diagnosis.rules.curves import gains, in_spite, rise_of
from attractor.diagnosis.rules.judging import THRESHOLDS, Seen, percent, rule
from attractor.diagnosis.signs import Signs, smooth


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
    limit = THRESHOLDS["overfitting"]
    return Seen(ratio, limit, sentence, f"step {int(steps[best])}", ratio=(ratio - 1) / (limit - 1))


@rule("growing weights", remedy="weight decay, or a normalization that does not need it")
def _growing(signs: Signs) -> Seen | None:
    _, norms = signs.curve("weight norm")
    if len(norms) < 5 or not norms[0] > 0:
        return None
    ratio = float(norms[-1] / norms[0])
    sentence = f"The norm of the weights is {ratio:.3g} times what it was at the start."
    return Seen(ratio, THRESHOLDS["weights"], sentence, at_most=in_spite(signs))


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
    sentence = f"The outputs of {worst} fill {percent(ranks[worst])} of the dimensions they could (effective rank)."
    limit = THRESHOLDS["rank"]
    return Seen(ranks[worst], limit, sentence, worst, ratio=limit / max(ranks[worst], 1e-6), at_most=in_spite(signs))


@rule(
    "plateau",
    remedy="a larger step, a warm restart, or patience: saddles pass",
    paper="deep-linear-exact-dynamics",
    claim="predicts-when-random-starts-learn",
)
def _plateau(signs: Signs) -> Seen | None:
    later, _ = gains(signs)
    if math.isnan(later) or later > THRESHOLDS["gain"] or rise_of(signs.curve("loss")[1]) > THRESHOLDS["rise"]:
        return None
    # Whether it is stuck or done, the curve does not say.
    sentence = f"After the first fifth of the run the loss falls by {max(later, 0):.1%} only."
    return Seen(later, THRESHOLDS["gain"], sentence, ratio=1.2)


@rule("luck of the seed", remedy="compare methods on several seeds, paired: attractor compare … --seeds 8")
def _luck(signs: Signs) -> Seen | None:
    spread, runs = signs.number("seed spread"), signs.number("seeds")
    if not runs >= 3 or math.isnan(spread):
        return None
    sentence = f"Over {runs:.0f} seeds the final loss spreads by {percent(spread)}: one run says little."
    return Seen(spread, THRESHOLDS["seeds"], sentence)
