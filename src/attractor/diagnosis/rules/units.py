"""What initial weights and activations do."""

import math

from attractor.diagnosis.rules.curves import in_spite
from attractor.diagnosis.rules.judging import RULES, THRESHOLDS, Seen, percent, rule, short, trained
from attractor.diagnosis.signs import Signs, median


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
    sentence = f"At the start the outputs of {largest} are {short(growth)} times those of a layer before it."
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
        own = [(n, getattr(v, when)) for n, v in trained(signs).items() if v.reached and getattr(v, when) > 0]
        third = len(own) // 3
        if third:
            ratios.append((median(g for _, g in own[:third]) / max(g for _, g in own[-third:]), own[0][0]))
    if not ratios:
        return None
    ratio, where = min(ratios)
    sentence = f"The gradient of the first layers is {ratio:.2g} times that of the last ones (root mean squares)."
    limit = THRESHOLDS["shrinkage"]
    return Seen(ratio, limit, sentence, where, ratio=limit / max(ratio, 1e-30))


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
    sentence = f"{percent(shares[worst])} of the {words.format(worst)}{ending}"
    ratio = shares[worst] / max(1 - shares[worst], 1e-3) * (1 - limit) / limit
    sure = in_spite(signs) if shares[worst] < THRESHOLDS["nearly all"] else 1.0  # what is left of the layer may do
    return Seen(shares[worst], limit, sentence, worst, at_first if from_start else later, ratio, sure)


@rule(
    "saturated units",
    explains=("plateau", "vanishing gradients", "rank collapse", "step too small", "needlessly large batch"),
    remedy="smaller initial weights, scaled inputs, or a normalization layer before the nonlinearity",
)
def _saturated(signs: Signs) -> Seen | None:
    return _share(
        signs, "saturated", "values of {} are at the ends of its range", RULES["saturated units"].explains, ()
    )
