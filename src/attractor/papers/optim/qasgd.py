"""Acceleration under quasar-convexity, from stochastic and from variance-reduced gradients.

```python
from attractor import run
from attractor.optim import quasar_accelerated
from attractor.problems import imitated_neuron

problem = imitated_neuron()  # not convex, but quasar-convex
print(run(problem, quasar_accelerated(learning_rate=5.0, gamma=0.2), steps=200).last("loss").values)
```
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.optim.quasar_convex import VarianceReduced, quasar_accelerated, quasar_convexity_within
from attractor.optim.variance_reduction import Svrg
from attractor.papers.words import Evidence, cached, claim, first_step, key, paired_ratio, run, seed, seeds, sizes
from attractor.problems.generalized_linear import imitated_neuron
from attractor.problems.quadratics import diagonal_quadratic
from attractor.problems.state_space import linear_system

NEURON = {"rates": np.geomspace(0.4, 100.0, 6).tolist(), "samples": 1_000, "batch": 32}
SYSTEM = {"rates": np.geomspace(0.01, 3.0, 6).tolist(), "samples": 200, "batch": 16}
PERIODS = ({"period": 50.0}, {"period": 200.0})


@cached
def _gamma(link=jax.nn.sigmoid, spread=1e3):
    problem = imitated_neuron(spread=spread, link=link, seed=seed())
    radius = 3 * jnp.linalg.norm(problem.solution)
    return float(quasar_convexity_within(lambda w: problem.loss(w, problem.full), problem.solution, radius, key()))


@claim(
    "sigmoid neuron: quasar-convex with gamma of at least 0.01 at 10,000 points up to 3 |solution| from the solution",
    source="ours", broken={"a link that is not monotone": {"link": jnp.sin}})  # fmt: skip
def is_quasar_convex(link=jax.nn.sigmoid):
    return Evidence(_gamma(link), at_least=0.01)


def _carried(share, gamma, learning_rate):
    """Momentum whose sum of weights A is carried on by so large a share."""
    whole = quasar_accelerated(learning_rate, gamma)

    def update(updates, state, params=None):
        return whole.update(updates, state._replace(weight=share * state.weight), params)

    return optax.GradientTransformation(whole.init, update)


def _accelerated(share, gamma):
    return eqx.Partial(_carried, jnp.asarray(share), jnp.asarray(gamma))  # one program for all


WEIGHTS = {"weights not carried on": {"share": 0.0}}


@claim("exact gradients, quadratic and neuron, steps 100 to 10,000: gap at most 2 L D² / (gamma k)², gamma as measured",
       source="scaled", broken=WEIGHTS)  # fmt: skip
def keeps_its_bound(share=1.0):
    quadratic, neuron = diagonal_quadratic(50, condition=1e6), imitated_neuron(spread=1e5, batch_size=None, seed=seed())
    rows, worst = np.asarray(neuron.full[0]), {}
    # The neuron's curvature: the largest slope of the sigmoid squared, and its largest bend times the largest error.
    curvature = (1 / 16 + 0.0963) * np.linalg.eigvalsh(rows.T @ rows / len(rows))[-1]
    for name, problem, smoothness, gamma in (
        ("quadratic", quadratic, quadratic.constants["L"], 1.0),
        ("neuron", neuron, curvature, _gamma(spread=1e5)),
    ):
        start = problem.init(jax.random.split(key(), 3)[0])  # as run starts that seed
        how = {"steps": 10_000, "every": 100, "seeds": [seed()], "sweep": {"learning_rate": [float(1 / smoothness)]}}
        trace = run(problem, _accelerated(share, gamma), **how)
        k, distance = trace.dataset["step"].values[1:], float(jnp.sum((start - problem.solution) ** 2))
        bound = 2 * smoothness * distance / (gamma * k) ** 2
        worst[name] = float((trace["loss"].values[0, 0, 1:] / bound).max())
    return Evidence.of_cases(worst, at_most=1.0)


@cached
def _gradients(problem, make, target, rates, samples, batch, n, periods, steps, lanes=16):
    """Component gradients until the loss is at the target, one number a seed; rate and period tuned on other seeds."""
    configs = [{"learning_rate": rate, **period} for period in periods for rate in rates]

    def cost(configs, draws):
        trace = run(problem, make, sweep=configs, seeds=draws, steps=steps, every=10, lanes=lanes)
        first = first_step(trace["loss"].values, target, trace.dataset["step"].values)
        full = [np.ceil(f / c["period"]) if "period" in c else 0 * f for f, c in zip(first, configs, strict=True)]
        return np.nan_to_num((1 + ("period" in configs[0])) * batch * first + samples * np.stack(full), nan=np.inf,
                             posinf=np.inf)  # fmt: skip

    best = configs[np.minimum(cost(configs, seeds(2, stream=1)), 1e9).mean(1).argmin()]
    return cost([best], seeds(n))[0], ", ".join(f"{name} {value:.2g}" for name, value in best.items())


def _in_stages(accelerated, learning_rate, period):
    return VarianceReduced(accelerated(learning_rate), period)


def _against(share, problem, gamma, scale, at_most=0.8, baseline=optax.sgd, periods=({},), **how):
    """Both tuned; the accelerated method is told the constant that was measured."""
    ours = _accelerated(share, min(max(gamma, 0.01), 1.0))
    ours = ours if baseline is optax.sgd else eqx.Partial(_in_stages, ours)
    both = (_gradients(problem, m, periods=periods, **how, **sizes(scale, n=(16, 64))) for m in (ours, baseline))
    (a, note), (b, other) = both
    text = f"{np.median(a):.3g} gradients ({note}) against {np.median(b):.3g} ({other}), gamma {gamma:.2g}"
    given = {"the baseline reaches the target": np.isfinite(b).all(), "quasar-convex": gamma > 0}
    return Evidence(paired_ratio(a, b), at_most=at_most, given=given, note=text)


@claim("sigmoid neuron: minibatches of 32 reach a loss of 1e-5 with at most 0.8 of tuned SGD's gradients",
       source="ours", broken=WEIGHTS)  # fmt: skip
def beats_sgd(share=1.0, *, scale):
    return _against(share, imitated_neuron(seed=seed()), _gamma(), scale, target=1e-5, steps=2_000, **NEURON)


@claim("sigmoid neuron: variance-reduced and accelerated, a loss of 1e-6 with at most 0.6 of tuned SVRG's gradients",
       source="ours", broken=WEIGHTS)  # fmt: skip
def beats_svrg(share=1.0, *, scale):
    how = {"at_most": 0.6, "baseline": Svrg, "periods": PERIODS, "target": 1e-6, "steps": 5_000}
    return _against(share, imitated_neuron(seed=seed()), _gamma(), scale, **how, **NEURON)


LINEAR = {"target": 1e-4, "n": 4, "periods": ({},), "steps": 1_500, "lanes": 8, **SYSTEM}


@eqx.filter_jit
def _constant(problem, key):
    loss = partial(problem.loss, batch=problem.full)
    return quasar_convexity_within(loss, problem.solution, 0.1, key, 1_000)


@cached
def _systems(scale):
    """The first 6 of random systems that are a test, their constants, and what tuned SGD takes: a system that it learns
    within 10 records leaves nothing to accelerate, and one that it does not learn nothing to compare with."""
    size, found = sizes(scale, n=(32, 256), kept=(6, 48)), []
    for draw in seeds(size["n"], stream=2):
        problem = linear_system(length=20, radius=0.5, seed=draw)
        soon, _ = _gradients(problem, optax.sgd, **LINEAR | {"steps": 100})
        needed = soon if np.isfinite(soon).any() else _gradients(problem, optax.sgd, **LINEAR)[0]
        if needed is not soon and np.isfinite(needed).all():
            found.append((problem, float(_constant(problem, key(draw))), needed))
        if len(found) == size["kept"]:
            break
    return found


def _typical(needed):
    """The geometric mean; a run that never reaches the target counts as ten times the longest."""
    return float(np.exp(np.log(np.minimum(needed, 10 * LINEAR["steps"] * LINEAR["batch"])).mean()))


@claim("linear systems of order 4: accelerated batches of 16 reach a loss of 1e-4 with 0.8 of tuned SGD's gradients",
       source="ours", broken=WEIGHTS,
       reason="0.13 to 0.27 on five systems; on the sixth most runs at the tuned rate do not come to 1e-4")  # fmt: skip
def learns_a_linear_system(share=1.0, *, scale):
    """On several systems, both methods tuned on each, as a replication draws another system and tunes anew."""
    tried = _systems(scale)[: None if share else 3]  # few are enough for a damaged one
    ours = [_gradients(p, _accelerated(share, min(max(gamma, 0.01), 1.0)), **LINEAR)[0] for p, gamma, _ in tried]
    pairs = [[_typical(needed) for needed in both] for both in zip(ours, (sgd for *_, sgd in tried), strict=True)]
    note = ", ".join(f"{a:.3g} of {b:.3g}" for a, b in pairs)
    given = {"5 systems are a test": len(_systems(scale)) >= 5}
    given |= {"quasar-convex": min((gamma for _, gamma, _ in tried), default=0) > 0}
    a, b = zip(*pairs, strict=True) if pairs else ((np.nan,), (1.0,))
    return Evidence(paired_ratio(a, b), at_most=0.8, given=given, note=note)
