"""Compute-optimal scaling of power-law random features under one-pass SGD: which exponents hold in which phase.

```python
import numpy as np
from attractor.landscape import log_spaced_steps, power_law_random_features, scaling_phase, sgd_volterra_loss

model = power_law_random_features(v=200, d=50, alpha=0.8, beta=1.3, rng=np.random.default_rng(0))
print(scaling_phase(0.8, 1.3), sgd_volterra_loss(model.modes(), rate=0.2, times=log_spaced_steps(10_000))[::50])
```
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.landscape import scaling_laws as laws
from attractor.papers.words import Evidence, cached, claim, key, log_slopes, mean, seed, seeds, sizes

POINTS = {"Ia": (1.0, 0.2), "Ib": (0.4, 0.3), "Ic": (0.2, 0.8), "II": (1.2, 0.8), "III": (0.8, 1.3),
          "IVa": (0.4, 0.9), "IVb": (0.27, 0.9)}  # fmt: skip


@cached
def _runs(scale):
    """Of phases II and III: one-pass SGD's risks (run, step), the problem's modes, and the rate."""
    size = sizes(scale, d=(16, 128), runs=(16_384, 8_192), steps=(120, 4_000))
    d, v, keys = size["d"], 4 * size["d"], jr.split(key(1), size["runs"])

    @jax.jit
    def sgd(rate, weights, scales, target):
        def step(theta, key):
            x = scales * jr.normal(key, (v,))
            phi = x @ weights
            theta = theta - rate * (phi @ theta - x @ target) * phi
            return theta, jnp.sum((scales * (weights @ theta - target)) ** 2)

        return jax.vmap(lambda key: jax.lax.scan(step, jnp.zeros(d), jr.split(key, size["steps"]))[1])(keys)

    found, rng = {}, np.random.default_rng(seed())
    for phase, (alpha, beta) in list(POINTS.items())[3:5]:
        model = laws.power_law_random_features(v, d, alpha, beta, rng)
        rate = 0.5 / float(model.scales @ model.scales)
        found[phase] = np.asarray(sgd(rate, *map(jnp.asarray, model)), float), model.modes(), rate
    return found


@claim(
    "d = 16, v = 64, phases II and III: SGD's mean risk is within 5 % of the Volterra solution at 17 times",
    source="scaled", broken={"half the noise kernel": {"noise": 0.5}, "a kernel without noise": {"noise": 0.0}},
)  # fmt: skip
def volterra_equation_is_followed(noise=1.0, *, scale):
    cases, falls = {}, []
    for phase, (risks, modes, rate) in _runs(scale).items():
        curve = laws.sgd_volterra_loss(modes, rate, np.arange(risks.shape[1] + 1), noise=noise)
        times = np.unique(np.geomspace(1, risks.shape[1], 20).astype(int))
        cases |= {f"{phase}, step {t}": mean(risks[:, t - 1] / curve[t]) for t in times}
        falls.append(curve[0] > 10 * curve[-1])
    return Evidence.of_cases(cases, within=(0.95, 1.05), given={"the risk falls tenfold": all(falls)})


@cached
def _exponents(phase, scale):
    """Without and with noise, per seed: amounts of compute that count, exponents of the best size and the best loss."""
    largest, found = sizes(scale, largest=(512, 2_048))["largest"], []
    ds = np.rint(16 * 2 ** np.arange(0, np.log2(largest / 16) + 0.1, 0.5)).astype(int).tolist()
    times, flops = laws.log_spaced_steps(300_000, 20, 0.06), np.geomspace(1e2, 1e8, 300)
    for rng in map(np.random.default_rng, seeds(5)):
        logs = []
        for d in ds:  # the smaller, the more draws, so that all curves are as smooth
            models = [laws.power_law_random_features(4 * d, d, *POINTS[phase], rng) for _ in range(round(largest / d))]
            modes = laws.Modes(*map(np.stack, zip(*(model.modes() for model in models), strict=True)))
            rate = 0.5 / float(models[0].scales @ models[0].scales)
            curves = [laws.sgd_volterra_loss(modes, rate, times, noise=n) for n in (0, 1)]
            logs.append(np.log(curves).mean(1))
        best = [laws.compute_optimal_frontier(ds, times, np.exp(log), flops) for log in np.stack(logs, 1)]
        found.append([[len(b.flops), *log_slopes(b.flops, np.stack([b.sizes, b.losses]))] for b in best])
    return np.moveaxis(np.array(found), 0, -1)


def _apart(phases, of_loss, noise, law, scale):
    """Measured less predicted exponent, by phase."""
    found = {phase: _exponents(phase, scale)[noise] for phase in phases}
    predicted = {p: -law(*POINTS[p]).loss_exponent if of_loss else law(*POINTS[p]).size_exponent for p in phases}
    cases = {f"{p}, {predicted[p]:.3f}": mean(found[p][1 + of_loss] - predicted[p]) for p in phases}
    enough, near = min(f[0].min() for f in found.values()) > 20, 0.05 if of_loss else 0.08
    return Evidence.of_cases(cases, within=(-near, near), given={"the best size is inside 20 times": enough})


def _one_law(alpha, beta):
    return laws.Phase("Ia", 1 / (2 * alpha + 1), (2 * alpha + 2 * beta - 1) / (2 * alpha + 1))


BROKEN = {"gradient noise forgotten": {"noise": 0}, "phase Ia's law for all": {"law": _one_law}}
WHY = "in Ic and IVb the loss falls more slowly than that at these sizes, by 0.11 and 0.09"


@claim("2α > 1 (phases Ia, II, III), d = 16 to 512: the compute-optimal loss has the table's exponent within 0.05",
       source="scaled", broken=BROKEN)  # fmt: skip
def loss_exponents(noise=1, law=laws.scaling_phase, *, scale):
    return _apart(["Ia", "II", "III"], True, noise, law, scale)


@claim("2α > 1 (phases Ia, II, III), d = 16 to 512: the compute-optimal size has the table's exponent within 0.08",
       source="scaled", broken=BROKEN, reason="II and III are 0.06 below and 0.05 above it here")  # fmt: skip
def size_exponents(noise=1, law=laws.scaling_phase, *, scale):
    return _apart(["Ia", "II", "III"], False, noise, law, scale)


@claim("2α < 1 (phases Ib, Ic, IVa, IVb), d = 16 to 512: the compute-optimal loss has the table's exponent within 0.05",
       source="scaled", broken=BROKEN, reason=WHY)  # fmt: skip
def loss_exponents_of_the_subphases(noise=1, law=laws.scaling_phase, *, scale):
    return _apart(["Ib", "Ic", "IVa", "IVb"], True, noise, law, scale)


@claim("2α < 1 (phases Ib, Ic, IVa, IVb), d = 16 to 512: the compute-optimal size has the table's exponent within 0.08",
       source="scaled", broken=BROKEN, reason=WHY)  # fmt: skip
def size_exponents_of_the_subphases(noise=1, law=laws.scaling_phase, *, scale):
    return _apart(["Ib", "Ic", "IVa", "IVb"], False, noise, law, scale)
