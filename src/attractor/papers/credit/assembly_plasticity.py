"""Assemblies under other rules of plasticity: Oja's and spike timing in place of Hebb's, in random areas with a k-cap.

```python
import jax, jax.numpy as jnp
from attractor.credit import assembly_project, hebb, oja, random_area, stdp, support
area = random_area(jax.random.key(0), 1_000, 50, 0.05)
for rule in (hebb(0.0), hebb(0.1), oja(0.1, 0.1), stdp(0.1, 0.05)):
    print(support(assembly_project(area, jnp.ones(50), 50, 30, rule, jax.random.key(1)).winners, 1_000)[::10])
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.credit import assembly_project, hebb, oja, random_area, random_stdp, stdp, support
from attractor.papers.words import Evidence, cached, claim, mean, paired_ratio, seeds

SIZES = 500, 1_000  # neurons, of which a twentieth fires; a synapse in 20 exists
# Which rule, β, α, β₋, the share that is rewarded.
OURS = {"Oja": (0, 0.1, 0.1, 0.0, 0.0), "timing": (1, 0.1, 0.0, 0.05, 0.0), "random timing": (2, 0.1, 0.0, 0.05, 0.8)}
NOTHING = (0, 0.0, 0.0, 0.0, 0.0)  # learned
REVERSED, REWARDS, EVERYWHERE = 1, 2, 3
DAMAGES = (lambda rule, w, x, key: rule(w, x, key), lambda rule, w, x, key: 2 * w - rule(w, x, key),
           lambda rule, w, x, key: w + jnp.abs(rule(w, x, key) - w),
           lambda rule, w, x, key: rule(w, jnp.ones_like(x), key))  # fmt: skip


@partial(jax.jit, static_argnames="n")
def _areas(setting, damage, numbers, n):
    """By seed: support by round, recall by half the stimulus and by half another, the heaviest synapse."""
    k, stimulus = n // 20, jnp.arange(n // 10)
    which, beta, alpha, punish, share = setting
    rules = oja(beta, alpha), stdp(beta, punish), random_stdp(beta, punish, share)
    undamaged = partial(jax.lax.switch, which.astype(int), rules)
    rule = partial(jax.lax.switch, damage, [partial(d, undamaged) for d in DAMAGES])

    def one(number):
        drawn, played = jr.split(jr.key(number))
        weights = random_area(drawn, n, 2 * k, 0.05)
        learned, fired = assembly_project(weights, 1.0 * (stimulus < k), k, 30, rule, played)
        heard = 1.0 * (stimulus < k // 2), 1.0 * (stimulus >= 2 * k - k // 2)
        recalled = [assembly_project(learned, s, k, 2, hebb(0.0), played).winners[-1] for s in heard]
        return support(fired, n) / k, *[jnp.isin(r, fired[-1]).mean() for r in recalled], learned.max()

    return jax.lax.map(one, numbers)


@cached
def _found(n, damage, *settings):
    """By setting: supports (seeds, rounds), the two recalls (seeds,), heaviest synapses (seeds,)."""
    each = [_areas(jnp.asarray(s, float), damage, jnp.asarray(seeds(8)), n) for s in settings]
    return [[np.asarray(f, float) for f in found] for found in each]


@claim("Oja's rule, β 0.2 and 0.4, α 0.05 to 0.5, 30 rounds: the heaviest synapse weighs 1/√α within 1 %",
       source="ours", broken={"α twice": {"factor": 2.0}})  # fmt: skip
def weights_stay_bounded(factor=1.0):
    pairs = [(beta, alpha) for beta in (0.2, 0.4) for alpha in (0.05, 0.2, 0.5)]
    *found, free = _found(500, 0, *[(0, b, factor * a, 0.0, 0.0) for b, a in pairs], (0, 0.2, 0.0, 0.0, 0.0))
    cases = {f"{b}, {a}": mean(f[3] * a**0.5) for (b, a), f in zip(pairs, found, strict=True)}
    return Evidence.of_cases(cases, within=(0.99, 1.01), given={"Hebb's weigh 50": free[3].min() > 50})


@claim("500 and 1,000 neurons, Oja and both timing rules: in rounds 21 to 30 at most 2 % of k fire for the first time",
       source="scaled", broken={"reward and punishment exchanged": {"damage": REVERSED}})  # fmt: skip
def assemblies_form(damage=0):
    found = {n: [f[0][:, -1] - f[0][:, -11] for f in _found(n, damage, *OURS.values(), NOTHING)] for n in SIZES}
    cases = {f"{rule}, {n}": mean(new) for n in SIZES for rule, new in zip(OURS, found[n][:3], strict=True)}
    given = {"without learning a fifth is new": min(f[3].mean() for f in found.values()) > 0.2}
    return Evidence.of_cases(cases, at_most=0.02, given=given)


@claim("500 and 1,000 neurons, all three rules: half the stimulus wakes 60 points more of the assembly than another's",
       source="ours", broken={"whatever fired or not grows": {"damage": EVERYWHERE}},
       reason="0.65, between 0.39 and 0.90, for timing in 500 neurons")  # fmt: skip
def halves_recall(damage=0):
    found = {n: _found(n, damage, *OURS.values(), NOTHING) for n in SIZES}
    cases = {f"{rule}, {n}": mean(f[1] - f[2]) for n in SIZES for rule, f in zip(OURS, found[n][:3], strict=True)}
    given = {"recall has to be learned": max(f[3][1].mean() for f in found.values()) < 0.5}
    note = "; ".join(f"{f[1].mean():.2f} and {f[2].mean():.2f}" for n in SIZES for f in found[n][:3])
    return Evidence.of_cases(cases, at_least=0.6, given=given, note=note)


@claim("500 and 1,000 neurons: supports with 70 % rewarded to 30 %, with α = 0.1 to 0.9, are in a ratio of at most 2/3",
       source="ours", broken={"punishments reward": {"damage": REWARDS}},
       reason="0.81 for α in 500 neurons; 0.60 in 1,000")  # fmt: skip
def settings_decide(damage=0):
    tried = *[(2, 0.1, 0.0, 0.1, share) for share in (0.7, 0.3)], OURS["Oja"], (0, 0.1, 0.9, 0.0, 0.0)
    found = {n: [f[0][:, -1] for f in _found(n, damage, *tried)] for n in SIZES}
    ratios = {f"rewards, {n}": paired_ratio(*f[:2]) for n, f in found.items()}
    return Evidence.of_cases(ratios | {f"α, {n}": paired_ratio(*f[2:]) for n, f in found.items()}, at_most=2 / 3)
