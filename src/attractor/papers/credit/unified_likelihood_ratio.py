"""Likelihood ratios: noise in the units, and how the loss goes along with it, give every layer its gradient.

```python
from attractor import run
from attractor.credit import layered_digits, likelihood_ratio_descent
trace = run(layered_digits((64, 32, 32, 10)), likelihood_ratio_descent(0.01, copies=8), steps=50, every=50)
print(trace["test_accuracy"].values[0, 0, -1], "without a backward pass through the network")
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor import LogUniform
from attractor.credit import LayeredGradient, estimator_quality, layered_digits, likelihood_ratio
from attractor.credit import smoothed_backpropagation as smoothed
from attractor.papers.words import Evidence, cached, claim, key, paired_difference, paired_ratio, probes, seeds, tune

SIZES, SIGMA = (64, 32, 32, 10), 0.3


def _times(factor, loss, params, key):
    """Likelihood ratios of independent copies, with another factor in the hidden layers."""
    value, (*hidden, last) = likelihood_ratio(SIGMA, 8, antithetic=False)(loss, params, key)
    return value, [*jax.tree.map(lambda g: factor * g, hidden), last]


@claim("noise of 0.3 in two hidden layers: in each, the bias is at most 5 % of the gradient of the smoothed loss",
       source="scaled", broken={"a copy's own loss in its baseline": {"factor": 7 / 8},
                                "over the noise's variance": {"factor": 1 / SIGMA}})  # fmt: skip
def is_unbiased(factor=1.0):
    problem = layered_digits(SIZES, batch_size=16)

    @jax.jit
    def quality(factor, params, batch, of_gradient, of_draws):
        loss = problem.at(batch)
        gradient = smoothed(SIGMA, 1_000)(loss, params, of_gradient)[1]
        return estimator_quality(eqx.Partial(_times, factor), loss, params, of_draws, 8_000, gradient)

    found = quality(factor, problem.init(key()), problem.sample(key(1)), key(2), key(3))
    cases = {f"layer {i + 1}": float(b) for i, b in enumerate(found.bias[:2])}
    return Evidence.of_cases(cases, at_most=0.05, given={"draws enough": found.variance[:2].max() / 8_000 < 0.005})


@cached
def _variance(**way):
    """Of the hidden layers' estimates at eight starts, ``(8, 2)``."""
    problem, estimator = layered_digits(SIZES, batch_size=16), likelihood_ratio(SIGMA, 16, **way)

    def at(number):
        of_start, of_batch, of_noise = jr.split(jr.key(number), 3)
        loss = problem.at(problem.sample(of_batch))
        return estimator_quality(estimator, loss, problem.init(of_start), of_noise, 64).variance[:2]

    return np.asarray(jax.jit(jax.vmap(at))(jnp.asarray(seeds(8))))


ALONE, BASELINE, BOTH = {"antithetic": False, "baseline": False}, {"antithetic": False}, {}
STEPS = {"pairs": (BOTH, BASELINE), "one layer at a time": ({"layerwise": True}, BOTH),
         "Sobol": ({"sobol": True}, BOTH)}  # fmt: skip


@claim("16 passes: pairs, noise in one layer at a time, a Sobol sequence: each leaves at most the variance without it",
       source="paper", broken={"switched off": {"instead": ALONE}},
       reason="pairs see half the directions: 1.8 times the variance of the baseline alone")  # fmt: skip
def each_technique_helps(instead=None):
    pairs = {name: (_variance(**(instead or ours)), _variance(**other)) for name, (ours, other) in STEPS.items()}
    cases = {f"{n}, layer {i + 1}": paired_ratio(a[:, i], b[:, i]) for n, (a, b) in pairs.items() for i in range(2)}
    return Evidence.of_cases(cases, at_most=1.0)


def _chain(noise, loss, params, key):
    return smoothed(noise)(loss, params, key)


def _descent(learning_rate, estimator):
    return LayeredGradient(optax.adam(learning_rate), lambda *of: estimator(*of))


def _unit(jumps, inputs):
    return jnp.where(jumps, jnp.sign(inputs), jnp.tanh(inputs))


@cached
def _trained(way, factor, jumps):
    """The last measures of eight runs at the best of four rates; backpropagation's factor is its noise."""
    problem = layered_digits(SIZES, eqx.Partial(_unit, jnp.asarray(jumps)), 32)
    pair = eqx.Partial(_descent, estimator=eqx.Partial(way, jnp.asarray(factor))), {"learning_rate": RATES}
    measures = probes(problem, "validation_accuracy", *MEASURES)
    return tune(problem, pair, metric=MEASURES[0], probes=measures, steps=300, every=300, budget=4).trace


def _above(measure, factor, *noise, jumps=False):
    """By how much likelihood ratios are better than backpropagation without noise, or through some."""
    ours, *chain = (_trained(*of, jumps).last(measure).values[0]
                    for of in ((_times, factor), *((_chain, n) for n in noise)))  # fmt: skip
    cases = {f"noise of {n}": paired_difference(ours, c) for n, c in zip(noise, chain, strict=True)}
    given = {"backpropagation learns": chain[0].mean() > (0.9 if measure == MEASURES[0] and not jumps else 0.2)}
    return {"cases": cases, "given": given, "note": ", ".join(f"{a.mean():.3f}" for a in (ours, *chain))}


RATES = LogUniform(1e-3, 0.1)
MEASURES = "test_accuracy", "attacked_accuracy"
DAMAGED = {"hidden layers as they start": {"factor": 0.0}}


@claim("tanh network on digits, both tuned: test accuracy within two points of backpropagation's", source="scaled",
       broken=DAMAGED, reason="two points less with 8 passes an example")  # fmt: skip
def learns_as_well(factor=1.0):
    return Evidence.of_cases(**_above(MEASURES[0], factor, 0.0), within=(-0.02, 0.02))


@claim("digits, gradient signs of 0.1: keeps the accuracy of backpropagation, without noise and through the same noise",
       source="scaled", broken={"a sign in hidden layers": {"factor": -1.0}},
       reason="better than without noise; derivatives through the noise do as well")  # fmt: skip
def is_more_robust(factor=1.0):
    return Evidence.of_cases(**_above(MEASURES[1], factor, 0.0, SIGMA), at_least=0.0)


@claim("sign units, digits: 5 points above training the last layer, all that derivatives see; both tuned",
       source="ours", broken=DAMAGED)  # fmt: skip
def trains_units_that_jump(factor=1.0):
    return Evidence.of_cases(**_above(MEASURES[0], factor, 0.0, jumps=True), at_least=0.05)
