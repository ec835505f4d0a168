"""Neural collapse in deep linear heads on free features: a frame if classes are balanced, unequal lengths if not.

```python
from attractor.landscape import collapsed_strengths

print(collapsed_strengths((1, 3, 6, 10), depth=1, weight_decay=0.1, feature_decay=0.1))  # two are given up
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from attractor.landscape import collapsed_strengths, deep_linear_map, free_features_loss, neural_collapse
from attractor.papers.words import Evidence, cached, claim, seeds

C, D, N, DECAY = 4, 6, 20, 2e-3  # classes; width of all layers; examples; both decays
KINDS, BALANCED, IMBALANCED = ("mse", "ce"), (5, 5, 5, 5), (1, 3, 6, 10)
HOW = {"jac": True, "method": "L-BFGS-B", "options": {"maxiter": 1_000, "maxfun": 2_000, "gtol": 1e-9, "ftol": 0.0}}


def _unpack(flat, depth):
    parts = jnp.split(flat, np.cumsum([D * D] * (depth - 1) + [C * D, D * N]).tolist())
    return [p.reshape(-1, D) for p in parts[:depth]], parts[-2].reshape(D, N), parts[-1]


@partial(jax.jit, static_argnums=1)
def _value_and_slope(flat, depth, labels, decays, biased, entropy):
    def loss(flat):
        weights, features, bias = _unpack(flat, depth)
        each = [free_features_loss(weights, features, labels, *decays, bias=biased * bias, loss=k) for k in KINDS]
        return jnp.where(entropy, each[1], each[0])

    return jax.value_and_grad(loss)(flat)


@cached
def _minima(depth, counts=BALANCED, decays=(DECAY, DECAY), biased=False, entropy=False):
    """From 8 random starts, where L-BFGS ends: the head's map, features, largest slope, loss, NC1; and the labels."""
    labels, found, size = np.repeat(np.arange(C), counts), [], (depth - 1) * D * D + C * D + D * N + C
    with jax.enable_x64(True):
        for seed in seeds(8):
            start = 0.6 * np.random.default_rng(seed).standard_normal(size)
            end = minimize(_value_and_slope, start, (depth, labels, decays, biased, entropy), **HOW)
            weights, features, _ = _unpack(jnp.asarray(end.x), depth)
            within = neural_collapse(features.T, jnp.asarray(labels), C).within
            maps = map(np.asarray, (deep_linear_map(weights), features))
            found.append((*maps, np.abs(end.jac).max(), end.fun, float(within)))
    return found, labels


def _means(found, labels):
    """Per run: the classifier, class means as rows, and their cosines with each other."""
    for weight, features, *_ in found:
        means = np.stack([features[:, labels == c].mean(1) for c in range(C)])
        unit = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-99)
        yield weight, means, (unit @ unit.T)[~np.eye(C, dtype=bool)]


def _solved(*runs):
    return {"all gradients are below 1e-6": all(slope < 1e-6 for found, _ in runs for _, _, slope, *_ in found)}


@claim("free features, 4 classes, 1, 3 and 6 linear layers, squared loss: NC1 is below 1e-5 in all 8 runs",
       source="ours", broken={"features not decayed": {"decays": (DECAY, 0.0)}})  # fmt: skip
def features_collapse(decays=(DECAY, DECAY)):
    runs = {f"{depth} layers": _minima(depth, decays=decays) for depth in (1, 3, 6)}
    right = all((np.argmax(w @ h, 0) == labels).all() for found, labels in runs.values() for w, h, *_ in found)
    worst = {name: max(float(within) for *_, within in found) for name, (found, _) in runs.items()}
    return Evidence.of_cases(worst, at_most=1e-5, given={"all examples are classified": right})


@claim("no bias, 5 x 4 or 1 + 3 + 6 + 10 examples: means are orthogonal, as long as predicted, parallel to W, to 1 %",
       source="scaled", broken={"a bias": {"biased": True}, "lengths of equal classes": {"equal": True},
       "of one layer more": {"more": 1}})  # fmt: skip
def means_are_orthogonal_and_sized_by_class(biased=False, equal=False, more=0):
    worst, runs = {}, []
    for counts, depth in ((BALANCED, 1), (BALANCED, 3), (BALANCED, 6), (IMBALANCED, 1), (IMBALANCED, 3)):
        runs.append(_minima(depth, counts, biased=biased))
        length, off = collapsed_strengths(BALANCED if equal else counts, depth + more, DECAY, DECAY)[1], []
        for weight, means, cosines in _means(*runs[-1]):
            sizes, rows = (np.linalg.norm(m, axis=1) for m in (means, weight))
            off += [np.abs(cosines), np.abs(sizes / length - 1), 1 - np.sum(weight * means, 1) / sizes / rows]
        worst[f"{counts}, {depth} layers"] = float(np.concatenate(off).max())
    return Evidence.of_cases(worst, at_most=0.01, given=_solved(*runs))


@claim("squared loss with a bias, and cross-entropy, 1 and 3 layers: class means have cosines -1/3, to 0.01",
       source="scaled", broken={"squared loss without a bias": {"biased": False}},
       reason="cross-entropy and 3 layers: most runs end in a map of rank 2, whose loss is smaller")  # fmt: skip
def a_bias_or_entropy_gives_a_simplex(biased=True):
    kinds = [(name, depth) for name in ("squared", "entropy") for depth in (1, 3)]
    runs = {f"{name}, {d} layers": _minima(d, biased=biased, entropy=name == "entropy") for name, d in kinds}
    worst = {name: float(max(np.abs(c + 1 / (C - 1)).max() for *_, c in _means(*run))) for name, run in runs.items()}
    return Evidence.of_cases(worst, at_most=0.01, given=_solved(*runs.values()))


@claim("cross-entropy, 4 classes, 3 layers: the best minimum has rank 2, and at most 0.95 of the simplex's loss",
       source="ours", broken={"two layers": {"layers": 2}})  # fmt: skip
def entropy_of_three_layers_prefers_low_rank(layers=3):
    run = _minima(layers, biased=True, entropy=True)
    ranks = np.array([np.linalg.matrix_rank(w, 1e-4) for w, *_ in run[0]])
    losses = np.array([loss for *_, loss, _ in run[0]])
    low, simplex = (losses[ranks == r].min(initial=np.inf) for r in (2, 3))
    return Evidence(float(low / simplex), at_most=0.95, given={"both are found": {2, 3} <= set(ranks.tolist())})


@claim("one layer, classes of 1, 3, 6, 10: those of at most N^2 l_W l_H examples vanish, no others, at five decays",
       source="ours", broken={"the power of N forgotten": {"power": 1}, "N cubed": {"power": 3}})  # fmt: skip
def small_classes_vanish(power=2):
    wrong = 0
    for decays in ((0.04, 0.04), (0.02, 0.25), (0.12, 0.1), (0.2, 0.1), (0.15, 0.2)):
        lengths = [np.linalg.norm(means, axis=1) for _, means, _ in _means(*_minima(1, IMBALANCED, decays))]
        learned = np.array(IMBALANCED) > N**power * decays[0] * decays[1]
        wrong += int(np.sum((np.array(lengths) > 1e-3) != learned))
    return Evidence(float(wrong), at_most=0.0)
