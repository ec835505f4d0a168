"""Equilibrium propagation without symmetric weights: nudges that are complex, and Jacobians kept symmetric.

```python
from attractor import run
from attractor.credit import equilibrium_descent, equilibrium_digits

sweep = {"learning_rate": [0.01], "homeostasis": [0.0, 0.1]}
trace = run(equilibrium_digits(), equilibrium_descent, sweep=sweep, steps=60, every=60)
print(trace["test_accuracy"].values[:, 0, -1])
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor import LogUniform
from attractor.credit import backpropagation, equilibrium_propagation, estimator_quality, layers_loss, settling_params
from attractor.credit.equilibrium import logits
from attractor.papers.words import Evidence, cached, claim, mean, paired_difference, seeds, tune_descent
from attractor.problems.digits import digits
from attractor.problems.held_out import halves

SIZES = (64, 24, 24, 24)
LOSS, IMAGES, LABELS, PARTS = layers_loss(SIZES, 12), *digits()[0], halves(digits()[1])
SYMMETRIES = 1.0, 0.75, 0.5, 0.25, 0.0


NUDGES = [equilibrium_propagation(0.4, 8), equilibrium_propagation(0.4, 2), equilibrium_propagation(0.4, 1)]
CAUCHY, SYMMETRIC, ONE_SIDED, LIMIT, TRANSPOSED = range(5)
ESTIMATORS = [*NUDGES, equilibrium_propagation(), backpropagation]


@cached
@jax.jit
def _quality(symmetry, number, gain=0.5):
    """Bias and cosine of each estimator in the forward weights, against the gradient, at a network as it starts."""
    params = settling_params(jr.key(number), SIZES, symmetry, gain=gain)
    loss = layers_loss(SIZES, 60).at((jnp.asarray(IMAGES[:16]), jnp.asarray(LABELS[:16])))
    gradient = jax.grad(loss)(params)
    found = [estimator_quality(e, loss, params, jr.key(number), 2, gradient) for e in ESTIMATORS]
    return jnp.stack([jnp.stack([quality.bias[1], quality.cosine[1]]) for quality in found])


@claim("symmetric weights that settle: eight complex nudges of 0.4 give forward weights' gradient within a thousandth",
       source="scaled", broken={"two real ones": {"nudges": SYMMETRIC}})  # fmt: skip
def complex_nudges_are_exact(nudges=CAUCHY):
    bias = np.stack([_quality(1.0, number, 0.25)[:, 0] for number in seeds(8)])
    given = {"a one-sided nudge errs ten times as much": bias[:, ONE_SIDED].min() > 0.01,
             "the networks have settled": bias[:, LIMIT].max() < 1e-4}  # fmt: skip
    note = f"one-sided: {bias[:, ONE_SIDED].mean():.3f}"
    return Evidence(mean(bias[:, nudges]), at_most=1e-3, given=given, note=note)


@claim("weights back that are less and less those forward: at each quarter the cosine with the gradient falls by 0.05",
       source="scaled", broken={"errors through the transpose": {"errors": TRANSPOSED}},
       reason="0.067 at the last quarter, and eight networks leave 0.03")  # fmt: skip
def asymmetry_turns_the_errors(errors=LIMIT):
    cosine = np.array([[_quality(s, number)[errors, 1] for s in SYMMETRIES] for number in seeds(8)])
    cases = {f"{s}": paired_difference(cosine[:, i], cosine[:, i + 1]) for i, s in enumerate(SYMMETRIES[1:])}
    return Evidence.of_cases(cases, at_least=0.05, note=", ".join(f"{c:.2f}" for c in cosine.mean(0)))


def _start(key):
    return settling_params(key, SIZES, 0.0)


def _slope(params, key, share, exact, weight):
    """By equilibrium propagation and homeostasis of a weight, or the gradient."""
    drawn = jr.randint(key, (32,), 0, len(IMAGES))
    loss = LOSS.at((jnp.asarray(IMAGES)[drawn], jnp.asarray(LABELS)[drawn]))
    ways = partial(equilibrium_propagation(homeostasis=weight, probes=1), loss), partial(backpropagation, loss)
    return jax.lax.switch(exact, [lambda way=way: way(params, key)[1] for way in ways])


def _grade(params, key, exact, weight):
    """Accuracy on validation images; on test images, after the cosine of forward weights' errors with the gradient."""
    right = [(jax.vmap(lambda x: logits(params, LOSS.outputs(LOSS.settle(params, x))))(x).argmax(-1) == y).mean()
             for x, y in (PARTS["validation"], PARTS["test"])]  # fmt: skip
    loss = LOSS.at(jax.tree.map(lambda a: jnp.asarray(a[:64]), PARTS["validation"]))
    return right[0], jnp.stack([estimator_quality(ESTIMATORS[LIMIT], loss, params, key, 2).cosine[1], right[1]])


@cached
def _trained(weight, exact=False):
    """Cosines and accuracies of eight tuned runs from weights without symmetry."""
    traced = jnp.asarray(exact, int), jnp.asarray(weight)
    return tune_descent(_start, _slope, _grade, *traced, searched=LogUniform(1e-3, 3e-2), steps=300).T


FLIPPED = {"sign flipped": {"weight": -0.1}}


@claim("digits, weights without symmetry, both tuned: homeostasis raises the trained cosine with the gradient by 0.2",
       source="ours", broken=FLIPPED)  # fmt: skip
def homeostasis_aligns(weight=0.1):
    return Evidence(paired_difference(_trained(weight)[0], _trained(0.0)[0]), at_least=0.2)


@claim("digits, weights without symmetry, both tuned: homeostasis raises test accuracy by three points", source="ours",
       broken=FLIPPED)  # fmt: skip
def homeostasis_learns_more(weight=0.1):
    ours, plain, exact = (found[1] for found in (_trained(weight), _trained(0.0), _trained(0.0, True)))
    given = {"there is room": exact.mean() - plain.mean() > 0.03}
    note = ", ".join(f"{a.mean():.3f}" for a in (ours, plain, exact))
    return Evidence(paired_difference(ours, plain), at_least=0.03, given=given, note=note)


@claim("digits, weights without symmetry, tuned: with homeostasis within two points of the gradient's test accuracy",
       source="ours", broken=FLIPPED,
       reason="from 1.2 points below to 2.3 above on other seeds, and eight networks leave three")  # fmt: skip
def homeostasis_matches_the_gradient(weight=0.1):
    exact = _trained(0.0, True)[1]
    given = {"the gradient learns": exact.mean() > 0.85}
    return Evidence(paired_difference(_trained(weight)[1], exact), within=(-0.02, 0.02), given=given)
