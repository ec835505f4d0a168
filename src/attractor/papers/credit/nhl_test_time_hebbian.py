"""Test-time adaptation by soft Hebbian filters and a modulator that the entropy of predictions moves.

```python
import jax, optax
from attractor.credit import NormalizedNetwork, StreamAdaptation
from attractor.problems.digits import digits
images = jax.numpy.asarray(digits()[1][0][:320]).reshape(10, 32, 64) * 0.3
ours = StreamAdaptation(lambda net, x: net(x), lambda net: (net.early.scale, net.early.shift), optax.adam(1e-3),
    lambda net: net.filters, lambda net, x: net.patches(x).reshape(-1, 9))
print(ours.run(NormalizedNetwork(jax.random.key(0)), images)[0].shape)
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor import LogUniform
from attractor.credit import NormalizedNetwork, StreamAdaptation, soft_hebb
from attractor.papers.words import Evidence, cached, claim, descend, key, paired_difference, seeds
from attractor.problems.digits import cross_entropy_of, digits
from attractor.registry import sample

CLUSTERS, DRAWN, BATCH = 4, 16, 32
# Signs of the Hebbian and the entropy's step, late modulator, temperature, share of the training data's statistics.
OURS, OURS_ALL, HEBB, TENT = (1, 1, 0, 1, 0), (1, 1, 1, 1, 0), (1, 0, 0, 1, 0), (0, 1, 1, 1, 0)
EARLY, BATCH_STATISTICS, NONE = (0, 1, 0, 1, 0), (0, 0, 0, 1, 0), (0, 0, 0, 1, 1)
MISTAKES = {"away from what a unit wins": (-1, 1, 0, 1, 0), "no competition": (1, 1, 0, 1e6, 0)}


def _farthest(at, temperature):
    """From each center on the sphere to the nearest unit, after 500 steps: the largest distance."""
    of_centers, of_start, of_steps = jr.split(at, 3)
    centers = jnp.linalg.qr(jr.normal(of_centers, (8, CLUSTERS)))[0].T

    def step(weight, at):
        of_cluster, of_noise = jr.split(at)
        drawn = centers[jr.randint(of_cluster, (64,), 0, CLUSTERS)] + 0.1 * jr.normal(of_noise, (64, 8))
        return weight + 0.1 * soft_hebb(weight, drawn, temperature), None

    weight = jax.lax.scan(step, 0.1 * jr.normal(of_start, (CLUSTERS, 8)), jr.split(of_steps, 500))[0]
    return jnp.linalg.norm(centers[:, None] - weight, axis=-1).min(1).max()


@claim("four clusters, four units, 8 starts: the soft rule puts a unit within 0.1 of every center",
       source="ours", broken={"no competition": {"temperature": 1e6}})  # fmt: skip
def finds_prototypes(temperature=0.2):
    found = np.asarray(jax.vmap(lambda at: _farthest(at, temperature))(jr.split(key(), 8)))
    return Evidence(found.max(), at_most=0.1, note=f"median {np.median(found):.3f}")


def _trained(number, images, labels, others):
    """A network of half the digits, and streams of the others: clean, noisy, low in contrast, blurred."""
    of_start, of_steps, of_noise = jr.split(jr.key(number), 3)
    start = NormalizedNetwork(of_start)

    def slope(net, at):
        drawn = jr.randint(at, (64,), 0, len(images))
        return jax.grad(lambda net: cross_entropy_of(net(images[drawn]), (images[drawn], labels[drawn])))(net)

    net = descend(optax.adam(1e-2), slope, start, jr.split(of_steps, 200)).stored(images, 0.0)
    noisy = others + 0.4 * jr.normal(of_noise, others.shape)
    mean = others.mean(1, keepdims=True)
    shifted = [others, noisy, mean + 0.3 * (others - mean), net.patches(others).mean(-1)]
    return net, jnp.stack(shifted).reshape(4, 2, -1, BATCH, 64)


@cached
def _networks():
    """Networks of other splits and starts each, streams as (network, shift, half, batch, …), labels."""
    numbers = [*seeds(DRAWN), *seeds(2, 1)]
    parts = [digits(0.5, number) for number in numbers]
    images, labels = (np.stack([train[i] for train, _ in parts]) for i in (0, 1))
    others, answers = (np.stack([test[i][:896] for _, test in parts]) for i in (0, 1))
    nets, streams = jax.jit(jax.vmap(_trained))(jnp.asarray(numbers), images, labels, others)
    return nets, streams, answers.reshape(len(numbers), 2, -1, BATCH)


@jax.jit
def _accurate(nets, streams, labels, rates, setting):
    hebbian, entropy, late, temperature, source = setting

    def one(net, streams, labels, rates):
        net = eqx.tree_at(lambda net: (net.early.source, net.late.source), net, (source, source))
        masks = (1.0, 1.0, late, late)
        scaled = optax.stateless(
            lambda g, _: tuple(entropy * m * a for m, a in zip(masks, tuple(g), strict=True)))  # pyright: ignore  # fmt: skip
        ours = StreamAdaptation(lambda net, x: net(x),
                                lambda net: (net.early.scale, net.early.shift, net.late.scale, net.late.shift),
                                optax.chain(optax.adam(rates[1]), scaled), lambda net: net.filters,
                                lambda net, x: net.patches(x).reshape(-1, 9), hebbian * rates[0],
                                temperature)  # fmt: skip
        return jax.vmap(lambda stream: (ours.run(net, stream)[0].argmax(-1) == labels).mean())(streams)

    return jax.vmap(one)(nets, streams, labels, rates)


@cached
def _accuracies(setting):
    """By network and shift on the test half, at the best of eight pairs of rates, chosen by two other networks."""
    setting, searched = (jnp.asarray(setting, float),
                         {"hebbian": LogUniform(1e-3, 1.0), "entropy": LogUniform(1e-3, 0.1)})  # fmt: skip
    rates = np.array([[tried["hebbian"], tried["entropy"]] for tried in sample(searched, 8)])
    nets, streams, labels = _networks()

    def found(which, half, rates):
        chosen = jax.tree.map(lambda a: a[which], nets)
        return np.asarray(_accurate(chosen, streams[which][:, :, half], labels[which, half], rates, setting))

    scores = found(DRAWN + np.arange(16) % 2, 0, rates.repeat(2, 0))
    best = rates[scores[:, 1:].mean(1).reshape(8, 2).mean(1).argmax()]
    return found(np.arange(DRAWN), 1, np.tile(best, (DRAWN, 1)))


def _shifted(setting):
    return _accuracies(setting)[:, 1:].mean(1)


def _solves():
    none, batch = _accuracies(NONE), _accuracies(BATCH_STATISTICS)
    given = {"trained: over 0.9 on clean images": none[:, 0].mean() > 0.9, "shifts hurt": none[:, 1:].mean() < 0.85,
             "TENT beats batch statistics": _shifted(TENT).mean() > batch[:, 1:].mean()}  # fmt: skip
    names = {"none": NONE, "batch": BATCH_STATISTICS, "TENT": TENT, "soft-Hebb": HEBB, "NHL": OURS, "all": OURS_ALL}
    return {"given": given, "note": ", ".join(f"{name} {_shifted(of).mean():.3f}" for name, of in names.items())}


@claim("digits, noise, contrast, blur, tuned: at least TENT's accuracy, with the early modulator and with all",
       source="paper", broken={name: {"early": setting} for name, setting in MISTAKES.items()},
       reason="0.2 to 0.4 points above, undecided: TENT itself is 0.2 above batch statistics")  # fmt: skip
def beats_tent(early=OURS, all_of_them=OURS_ALL):
    cases = {"early modulator": early, "all scales and shifts": all_of_them}
    found = {name: paired_difference(_shifted(of), _shifted(TENT)) for name, of in cases.items()}
    return Evidence.of_cases(found, at_least=0.0, **_solves())


@claim("digits, shifted, tuned: the modulator adds half a point to soft-Hebb; soft-Hebb does not hurt the modulator",
       source="scaled", broken={"uphill in the entropy": {"ours": (1, -1, 0, 1, 0)}, **{
           name: {"ours": setting} for name, setting in MISTAKES.items()}},
       reason="0.6 and 0.4 points, undecided on 16 networks: batch statistics alone bring nearly all")  # fmt: skip
def each_part_helps(ours=OURS):
    cases = {"modulator, less 0.5 points": paired_difference(_shifted(ours) - 0.005, _shifted(HEBB)),
             "Hebbian": paired_difference(_shifted(ours), _shifted(EARLY))}  # fmt: skip
    return Evidence.of_cases(cases, at_least=0.0, **_solves())


@claim("digits, tuned on shifts: 5 points over no adaptation where images are shifted, under 1 lost where they are not",
       source="scaled", broken={"the training data's statistics stay": {"ours": (1, 1, 0, 1, 1)}},
       reason="38 points gained; clean images lose 0.7 points, give or take 0.4")  # fmt: skip
def gains_and_keeps(ours=OURS):
    lost = paired_difference(_accuracies(ours)[:, 0] + 0.01, _accuracies(NONE)[:, 0])
    cases = {"shifted, less 5 points": paired_difference(_shifted(ours) - 0.05, _shifted(NONE)),
             "clean, plus 1 point": lost}  # fmt: skip
    return Evidence.of_cases(cases, at_least=0.0, **_solves())
