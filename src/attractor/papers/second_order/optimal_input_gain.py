"""Optimal input gains: a small Newton solve scales each input's part of the gradient, between least-squares fits.

```python
from attractor import run
from attractor.problems import friedman_regression  # a network with weights around its hidden layer
from attractor.second_order import TwoStageTraining

print(run(friedman_regression(spread=30.0), TwoStageTraining(whiten=True), steps=30)["loss"])
```
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree

from attractor.engine import flops_per_step, run
from attractor.papers.words import Evidence, cached, claim, key, paired_ratio, seed, seeds, sizes
from attractor.problems.friedman import friedman_regression
from attractor.second_order.input_gain import TwoStageTraining, gained, whitening
from attractor.second_order.levenberg_marquardt import LevenbergMarquardt
from attractor.trees import norm

WITH, WITHOUT = partial(TwoStageTraining, True), partial(TwoStageTraining, False)  # gains
TWICE, STAYS = {"steps twice as long": {"stepsize": 2.0}}, {"hidden layer untrained": {"stepsize": 1e-9}}
_small = cached(lambda: friedman_regression(60, 5, 1.0, control=False, seed=seed()))
_badly_scaled = cached(lambda draw: friedman_regression(300, 10, 10**1.5, seed=draw))  # units from 10^-1.5 to 10^1.5
_draws = lambda scale: seeds(**sizes(scale, n=(8, 32)), stream=1)  # noqa: E731
_step = eqx.filter_jit(lambda problem, method, x: method.step(problem, x, None, jr.key(0))[0])


def _transformed(problem, x, transform):
    """The problem with its inputs multiplied by a matrix, and the network that computes the same there."""
    problem = eqx.tree_at(lambda p: p.full[0], problem, problem.full[0] @ transform.T)
    back, n = jnp.linalg.inv(transform), len(transform)
    hidden, output = x.hidden.weight @ back, x.output.weight.at[:, :n].set(x.output.weight[:, :n] @ back)
    return problem, eqx.tree_at(lambda n: (n.hidden.weight, n.output.weight), x, (hidden, output))


@claim("a gradient step on inputs A x is, on the inputs x, the step along the gradient times A'A, to 1e-8",
       source="ours",
       broken={"A applied once": {"gained": lambda gradient, r, transform: gradient * r @ transform}})  # fmt: skip
def transformed_inputs_map_the_gradient(gained=gained):
    with jax.enable_x64(True):
        transform, problem, x = jr.normal(key(1), (5, 5)), _small(), _small().init(key(0))
        other, y = _transformed(problem, x, transform)
        gradient = jax.grad(problem.loss)(x, problem.full).hidden.weight
        there = jax.grad(other.loss)(y, other.full).hidden.weight @ transform
        return Evidence(float(norm(gained(gradient, jnp.ones(5), transform) - there) / norm(there)), at_most=1e-8)


@claim("hidden weight optimization is backpropagation on whitened inputs: 5 iterations agree to 1e-8",
       source="ours", broken={"inputs not whitened": {"whiten": False}})  # fmt: skip
def whitened_steps_are_those_on_whitened_inputs(whiten=True):
    with jax.enable_x64(True):
        problem, moments = _small(), _small().full[0].T @ _small().full[0] / 60
        transform, x = whitening(moments), jax.tree.map(lambda a: 5 * a, problem.init(key(0)))  # far from linear
        other, y = _transformed(problem, x, transform)
        for _ in range(5):
            x = _step(problem, TwoStageTraining(False, whiten, damping=1e-13), x)
            y = _step(other, TwoStageTraining(False, damping=1e-13), y)
        found, expected = (ravel_pytree(z)[0] for z in (_transformed(problem, x, transform)[1], y))
        return Evidence(float(norm(found - expected) / norm(expected)), at_most=1e-8)


@cached
def _errors(method, whiten, scale, stepsize=1.0):
    """The mean squared error after 100 iterations, (data sets, runs); fewer runs where something is damaged."""
    sweep = [{"whiten": float(whiten), "stepsize": stepsize}]
    how = {"seeds": seeds(4 if stepsize == 1.0 else 1), "sweep": sweep, "steps": 100, "every": 100, "lanes": 4}
    with jax.enable_x64(True):
        ends = [run(_badly_scaled(draw), method, **how).last("loss").values[0] for draw in _draws(scale)]
    return 2 * np.array(ends) / 300


@cached
def _rival(scale):
    """The same of Levenberg-Marquardt, in a form that no units matter to, and how much more arithmetic it does."""
    rival, how = LevenbergMarquardt(diagonal=True), {"seeds": seeds(2), "steps": 100, "every": 100}
    with jax.enable_x64(True):
        problems = [_badly_scaled(draw) for draw in _draws(scale)]
        more = flops_per_step(problems[0], rival) / flops_per_step(problems[0], WITH(True))
        ends = [run(problem, rival, **how).last("loss").values[0] for problem in problems]
    return 2 * np.array(ends) / 300, more


def _against(ours, theirs, at_most, scale):
    """Over the data sets on which the baseline is better than no training of the hidden layer: no other tells."""
    learns = np.median(theirs, 1) < np.median(_errors(WITH, 0, scale, 1e-9), 1)
    given = {"the baseline beats an untrained hidden layer on half of the data sets": learns.mean() >= 0.5}
    a, b = (np.exp(np.log(errors[learns]).mean(1)) for errors in (ours, theirs))
    return Evidence(paired_ratio(a, b), at_most=at_most, given=given, note=f"{learns.sum()} data sets")


@claim("inputs in badly chosen units, 100 iterations: with gains, backpropagation's training error is at most half",
       source="ours", broken=TWICE | STAYS, reason="0.8 to 0.95 times: it learns more, but not that much")  # fmt: skip
def gains_speed_up_backpropagation(stepsize=1.0, *, scale):
    return _against(_errors(WITH, 0, scale, stepsize), _errors(WITHOUT, 0, scale), 0.5, scale)


@claim("inputs in badly chosen units: with gains, hidden weight optimization's error is at most what it is without",
       source="scaled", broken=STAYS)  # fmt: skip
def gains_help_hidden_weight_optimization(stepsize=1.0, *, scale):
    return _against(_errors(WITH, 1, scale, stepsize), _errors(WITHOUT, 1, scale), 1.0, scale)


@claim("badly chosen units, gains and whitening: the error is at most Levenberg-Marquardt's, at less arithmetic",
       source="scaled", broken=STAYS | {"neither gains nor whitening": {"method": WITHOUT, "whiten": 0}})  # fmt: skip
def rivals_levenberg_marquardt(method=WITH, whiten=1, stepsize=1.0, *, scale):
    theirs, more = _rival(scale)
    return _against(_errors(method, whiten, scale, stepsize) * (1.0 if more > 1 else np.inf), theirs, 1.0, scale)
