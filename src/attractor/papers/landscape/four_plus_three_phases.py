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
from attractor.papers.words import Evidence, cached, claim, log_slopes, mean, seeds, sizes

POINTS = {"Ia": (1.0, 0.2), "Ib": (0.4, 0.3), "Ic": (0.2, 0.8), "II": (1.2, 0.8), "III": (0.8, 1.3),
          "IVa": (0.4, 0.9), "IVb": (0.27, 0.9)}  # fmt: skip
RATE = 0.3  # at which one example's risk has a finite variance, too: below 0.38 over the trace


def _model(d, phase, rng):
    """With features of trace 1: that of the draw varies by a half at small d, and rates are to be relative to it."""
    model = laws.power_law_random_features(4 * d, d, *POINTS[phase], rng)
    return model._replace(weights=model.weights / np.linalg.norm(model.scales[:, None] * model.weights))


def _modes(models):
    return laws.Modes(*map(np.stack, zip(*(model.modes() for model in models), strict=True)))


@cached
def _runs(scale):
    """Of phases II and III, for several draws of W: one-pass SGD's mean risk at every step, and the modes."""
    size = sizes(scale, d=(16, 128), draws=8, runs=(2_048, 1_024), steps=(180, 4_000))
    found, draws = {}, seeds(size["draws"])

    @jax.jit
    def sgd(key, weights, scales, target):
        def step(theta, key):
            phi = (x := scales * jr.normal(key, scales.shape)) @ weights
            theta = theta - RATE * (phi @ theta - x @ target) * phi
            return theta, jnp.sum((scales * (weights @ theta - target)) ** 2)

        keys = jr.split(key, (size["runs"], size["steps"]))
        return jax.vmap(lambda keys: jax.lax.scan(step, jnp.zeros(size["d"]), keys)[1])(keys).mean(0)

    for phase in ("II", "III"):
        models = [_model(size["d"], phase, np.random.default_rng(draw)) for draw in draws]
        risks = [sgd(jr.key(draw), *map(jnp.asarray, model)) for draw, model in zip(draws, models, strict=True)]
        found[phase] = np.array(risks, float), _modes(models)
    return found


@claim("d = 16, v = 64, phases II and III, 8 draws: SGD's mean risk is within 5 % of the Volterra solution at 17 times",
       source="scaled", broken={"half the noise kernel": {"noise": 0.5}, "no noise": {"noise": 0.0}})  # fmt: skip
def volterra_equation_is_followed(noise=1.0, *, scale):
    cases, falls = {}, {}
    for phase, (risks, modes) in _runs(scale).items():
        curves = laws.sgd_volterra_loss(modes, RATE, np.arange(risks.shape[1] + 1), noise=noise)
        for t in np.unique(np.geomspace(1, risks.shape[1], 20).astype(int)):
            cases[f"{phase}, step {t}"] = mean(risks[:, t - 1] / curves[:, t])
        falls[f"{phase}: the risk falls tenfold"] = curves[:, 0].mean() > 10 * curves[:, -1].mean()
    return Evidence.of_cases(cases, within=(0.95, 1.05), given=falls)


@cached
def _exponents(phase, scale):
    """Without and with noise, per seed: amounts of compute that count, exponents of the best size and the best loss."""
    largest, found = sizes(scale, largest=(512, 2_048))["largest"], []
    ds = np.rint(16 * 2 ** np.arange(0, np.log2(largest / 16) + 0.1, 0.5)).astype(int).tolist()
    times, flops = laws.log_spaced_steps(300_000, 20, 0.06), np.geomspace(1e2, 1e8, 300)
    for rng in map(np.random.default_rng, seeds({"II": 8, "III": 16}.get(phase, 4))):  # III is nearest to its bounds
        logs = []
        for d in ds:  # the smaller, the more draws, so that all curves are as smooth
            modes = _modes(_model(d, phase, rng) for _ in range(round(largest / d)))
            logs.append(np.log([laws.sgd_volterra_loss(modes, 0.5, times, noise=n) for n in (0, 1)]).mean(1))
        best = [laws.compute_optimal_frontier(ds, times, np.exp(log), flops) for log in np.stack(logs, 1)]
        found.append([[len(b.flops), *log_slopes(b.flops, np.stack([b.sizes, b.losses]))] for b in best])
    return np.moveaxis(np.array(found), 0, -1)


def _measured_less_predicted(phases, of_loss, noise, law, scale):
    found = {phase: _exponents(phase, scale)[noise] for phase in phases}
    predicted = {p: -law(*POINTS[p]).loss_exponent if of_loss else law(*POINTS[p]).size_exponent for p in phases}
    cases = {f"{p}, {predicted[p]:.3f}": mean(found[p][1 + of_loss] - predicted[p]) for p in phases}
    given = {"the best size is inside 20 times": min(f[0].min() for f in found.values()) > 20}
    return Evidence.of_cases(cases, within=(-0.05, 0.05) if of_loss else (-0.08, 0.08), given=given)


ONE = {"Ia's law for all": {"law": lambda a, b: laws.Phase("Ia", 1 / (2 * a + 1), (2 * a + 2 * b - 1) / (2 * a + 1))}}
BROKEN, SWAPPED = {"gradient noise forgotten": {"noise": 0}, **ONE}, {"law": lambda a, b: laws.scaling_phase(b, a)}
WHY = "in Ic and IVb the loss falls more slowly than that at these sizes, by 0.11 and 0.09"


@claim("2α > 1 (phases Ia, II, III), d = 16 to 512: the compute-optimal loss has the table's exponent within 0.05",
       source="scaled", broken={"alpha and beta exchanged": SWAPPED, **ONE})  # fmt: skip
def loss_exponents(noise=1, law=laws.scaling_phase, *, scale):
    return _measured_less_predicted(["Ia", "II", "III"], True, noise, law, scale)


@claim("2α > 1 (phases Ia, II, III), d = 16 to 512: the compute-optimal size has the table's exponent within 0.08",
       source="scaled", broken=BROKEN, reason="III is 0.06 above it here")  # fmt: skip
def size_exponents(noise=1, law=laws.scaling_phase, *, scale):
    return _measured_less_predicted(["Ia", "II", "III"], False, noise, law, scale)


@claim("2α < 1 (phases Ib, Ic, IVa, IVb), d = 16 to 512: the compute-optimal loss has the table's exponent within 0.05",
       source="scaled", broken=BROKEN, reason=WHY)  # fmt: skip
def loss_exponents_of_the_subphases(noise=1, law=laws.scaling_phase, *, scale):
    return _measured_less_predicted(["Ib", "Ic", "IVa", "IVb"], True, noise, law, scale)


@claim("2α < 1 (phases Ib, Ic, IVa, IVb), d = 16 to 512: the compute-optimal size has the table's exponent within 0.08",
       source="scaled", broken=BROKEN, reason=WHY)  # fmt: skip
def size_exponents_of_the_subphases(noise=1, law=laws.scaling_phase, *, scale):
    return _measured_less_predicted(["Ib", "Ic", "IVa", "IVb"], False, noise, law, scale)
