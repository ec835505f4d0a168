"""Optimal input gains: a small Newton solve scales each input's part of the gradient, between least-squares fits.

```python
import jax.numpy as jnp
from attractor import Composite, run
from attractor.nn import BypassNetwork
from attractor.second_order import TwoStageTraining
from sklearn.datasets import load_diabetes

inputs, targets = (jnp.asarray(a, dtype=float) for a in load_diabetes(return_X_y=True, scaled=False))
problem = Composite.of_model(  # raw inputs, in all their units
    lambda key: BypassNetwork(10, 1, 8, key=key),
    lambda outputs, batch: jnp.mean((outputs[:, 0] - batch[1]) ** 2),
    (inputs, targets),
)
trace = run(problem, TwoStageTraining(whiten=True), steps=30)
print(trace["loss"])
```
"""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree

from attractor.engine import flops_per_step
from attractor.papers.words import Evidence, cached, claim, key, paired_ratio, run, seed, seeds, sizes
from attractor.problems.friedman import friedman_regression
from attractor.second_order.input_gain import TwoStageTraining, gained, whitening
from attractor.second_order.levenberg_marquardt import LevenbergMarquardt
from attractor.trees import norm


@cached
def _small():
    """Without biases."""
    return friedman_regression(60, 5, 1.0, control=False, seed=seed())


@cached
def _badly_scaled():
    """Inputs in units between 10^-1.5 and 10^1.5, hidden units that start with a mean of 0.5, as the authors' do."""
    return friedman_regression(500, 10, 10**1.5, seed=seed())


def _transformed(problem, x, transform):
    """The problem with its inputs multiplied by a matrix, and the network that computes the same there."""
    problem = eqx.tree_at(lambda p: p.full[0], problem, problem.full[0] @ transform.T)
    back, n = jnp.linalg.inv(transform), len(transform)
    hidden, output = x.hidden.weight @ back, x.output.weight.at[:, :n].set(x.output.weight[:, :n] @ back)
    return problem, eqx.tree_at(lambda n: (n.hidden.weight, n.output.weight), x, (hidden, output))


_step = eqx.filter_jit(lambda problem, method, x: method.step(problem, x, None, jr.key(0))[0])


@claim(
    "a gradient step on inputs A x is, on the inputs x, the step along the gradient times A'A, to 1e-8",
    source="ours",
    broken={"A applied once": {"gained": lambda gradient, gains, transform: gradient * gains @ transform}},
)
def transformed_inputs_map_the_gradient(gained=gained):
    with jax.enable_x64(True):
        transform, problem = jr.normal(key(1), (5, 5)), _small()
        x = problem.init(key(0))
        other, y = _transformed(problem, x, transform)
        gradient = jax.grad(problem.loss)(x, problem.full).hidden.weight
        there = jax.grad(other.loss)(y, other.full).hidden.weight @ transform
        return Evidence(float(norm(gained(gradient, jnp.ones(5), transform) - there) / norm(there)), at_most=1e-8)


@claim(
    "hidden weight optimization is backpropagation on whitened inputs: 5 iterations agree to 1e-8",
    source="ours",
    broken={"inputs not whitened": {"whiten": False}},
)
def whitened_steps_are_those_on_whitened_inputs(whiten=True):
    with jax.enable_x64(True):
        problem = _small()
        inputs = problem.full[0]
        transform = whitening(inputs.T @ inputs / len(inputs))
        x = problem.init(key(0))
        other, y = _transformed(problem, x, transform)
        for _ in range(5):
            x = _step(problem, TwoStageTraining(gains=False, whiten=whiten), x)
            y = _step(other, TwoStageTraining(gains=False), y)
        found, expected = (ravel_pytree(z)[0] for z in (_transformed(problem, x, transform)[1], y))
        return Evidence(float(norm(found - expected) / norm(expected)), at_most=1e-8)


@cached
def _trained(method, scale):
    """The mean squared error after 100 iterations, per seed; less of them where an iteration costs more."""
    n = sizes(scale, n=(32, 128) if isinstance(method, TwoStageTraining) else (12, 128))["n"]
    trace = run(_badly_scaled(), method, steps=100, every=100, seeds=seeds(n))
    return 2 * trace.last("loss").values[0] / 500


def _against(method, baseline, scale, at_most):
    """The ratio of the errors, where the baseline learned something."""
    theirs = _trained(baseline, scale)
    ours, least = _trained(method, scale)[: len(theirs)], _linear_fit()
    note = f"medians {np.median(ours):.3g} and {np.median(theirs):.3g}, linear fit {least:.3g}"
    learned = {"the baseline gets below the linear fit": bool((theirs < least).all())}
    return Evidence(paired_ratio(ours, theirs), at_most=at_most, given=learned, note=note)


def _linear_fit():
    """The mean squared error of what the bypass alone can do."""
    inputs, targets = map(np.asarray, _badly_scaled().full)
    basis = np.column_stack([inputs, np.ones(500)])
    return float(np.mean((basis @ np.linalg.lstsq(basis, targets)[0] - targets) ** 2))


TWICE = {"steps twice as long": {"stepsize": 2.0}}


@claim(
    "inputs in badly chosen units, 100 iterations: with gains, backpropagation's training error is at most half",
    source="ours",
    broken=TWICE,
)
def gains_speed_up_backpropagation(stepsize=1.0, *, scale):
    return _against(TwoStageTraining(stepsize=stepsize), TwoStageTraining(gains=False), scale, 0.5)


@claim(
    "inputs in badly chosen units: with gains, hidden weight optimization's error is at most what it is without",
    source="scaled",
    broken=TWICE | {"inputs not whitened": {"whiten": False}},
)
def gains_help_hidden_weight_optimization(stepsize=1.0, whiten=True, *, scale):
    method = TwoStageTraining(whiten=whiten, stepsize=stepsize)
    return _against(method, TwoStageTraining(gains=False, whiten=True), scale, 1.0)


@claim(
    "badly chosen units, gains and whitening: the error is at most twice Levenberg-Marquardt's, at less arithmetic",
    source="ours",
    broken=TWICE | {"neither gains nor whitening": {"gains": False, "whiten": False}},
)
def rivals_levenberg_marquardt(gains=True, whiten=True, stepsize=1.0, *, scale):
    method, rival = TwoStageTraining(gains, whiten, stepsize=stepsize), LevenbergMarquardt()
    ours, theirs = (flops_per_step(_badly_scaled(), m) for m in (method, rival))
    evidence = _against(method, rival, scale, 2.0)
    if ours >= theirs:
        return replace(evidence, value=np.inf)
    return replace(evidence, note=f"{evidence.note}; arithmetic {ours / theirs:.3g}")
