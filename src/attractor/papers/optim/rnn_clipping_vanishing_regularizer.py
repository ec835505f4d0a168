"""Gradient clipping and the vanishing-gradient penalty: what lets plain recurrent networks learn long delays.

```python
import equinox as eqx
import optax
from attractor import run
from attractor.optim import vanishing_gradient_penalty
from attractor.problems import temporal_order

problem = temporal_order(length=10, width=10, penalty=eqx.Partial(vanishing_gradient_penalty, weight=2.0))
clipped_sgd = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.2))
print(run(problem, clipped_sgd, steps=50)["test_accuracy"])
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.nn.recurrent.cells import ElmanCell, unroll
from attractor.optim.recurrent_penalty import jacobian_product_norms, vanishing_gradient_penalty
from attractor.papers.words import Evidence, cached, claim, key, paired_difference, proportion, run, seeds, sizes
from attractor.problems.temporal_order import temporal_order

WIDTH, STEPS, THRESHOLD, NO_CLIPPING, WEIGHT = 30, 40, 1.0, 1e9, 2.0  # nothing reaches 1e9
SLOPES = {"tanh": (jnp.tanh, 1.0), "sigmoid": (jax.nn.sigmoid, 0.25)}  # activations, with their steepest slope
NORMS = {"singular value": lambda a: np.linalg.norm(a, 2), "radius": lambda a: np.abs(np.linalg.eigvals(a)).max()}
_clipped_sgd = lambda threshold: optax.chain(optax.clip_by_global_norm(threshold), optax.sgd(0.2))  # noqa: E731
_product_norms = eqx.filter_jit(jacobian_product_norms)


def _cell(activation, stream, size, norm):
    """A random cell with recurrent weights of a given size, whose state stays at 0 if it is there."""
    cell = ElmanCell(1, WIDTH, activation, 1.0, key=key(stream))
    cell = eqx.tree_at(lambda c: c.bias, cell, -cell.recurrent @ activation(jnp.zeros(WIDTH)))
    return jax.tree.map(lambda a: size / NORMS[norm](cell.recurrent) * a, cell)


@claim("products of 40 Jacobians grow by spectral radius times slope a step, at 0.5 to 1.5, to 0.05 in the logarithm",
       source="ours",
       broken={"slope of the sigmoid taken for 1": {"slopes": SLOPES | {"sigmoid": (jax.nn.sigmoid, 1.0)}},
               "singular value in place of the spectral radius": {"norm": "singular value"}})  # fmt: skip
def products_follow_the_spectral_radius(slopes=SLOPES, norm="radius"):
    errors = {}
    for name, (activation, slope) in slopes.items():
        for factor in (0.5, 0.9, 1.1, 1.5):
            cell = _cell(activation, 0, factor / slope, norm)
            norms = _product_norms(cell, jnp.zeros((STEPS, WIDTH)), jnp.zeros((STEPS, 1)))
            measured = np.polyfit(np.arange(STEPS // 2), np.log(norms[STEPS // 2 :]), 1)[0]
            errors[f"{name} at {factor}"] = float(abs(measured - np.log(factor)))
    return Evidence.of_cases(errors, at_most=0.05)


@claim("driven by noise, largest singular value times slope 0.9: no product of k Jacobians exceeds 0.9^k times 1.001",
       source="paper", broken={"spectral radius in place of the singular value": {"norm": "radius"}})  # fmt: skip
def a_small_norm_makes_it_vanish(norm="singular value"):
    excess, inputs = {}, 3.0 * jax.random.normal(key(2), (STEPS, 1))
    for name, (activation, slope) in SLOPES.items():
        cell = _cell(activation, 1, 0.9 / slope, norm)
        norms = _product_norms(cell, unroll(cell, jnp.zeros(WIDTH), inputs), inputs)
        excess[name] = float((norms / 0.9 ** jnp.arange(1, STEPS + 1)).max())
    return Evidence.of_cases(excess, at_most=1.001)


@cached
def _exploding_gradients():
    problem = temporal_order(50, radius=2.0, samples=200)  # in 20 minibatches
    batches = jax.tree.map(lambda a: a.reshape(20, 10, *a.shape[1:]), problem.full)
    return jax.jit(jax.vmap(jax.grad(problem.loss), in_axes=(None, 0)))(problem.init(key(0)), batches)


@claim("clipped gradients of a network at spectral radius 2 and length 50 are no longer than the threshold (to 1e-5)",
       source="paper", broken={"each entry clipped by itself": {"clip": optax.clip},
                               "no clipping": {"clip": lambda c: optax.identity()}})  # fmt: skip
def clipping_bounds_the_norm(clip=optax.clip_by_global_norm):
    gradients = _exploding_gradients()
    clipped = jax.jit(jax.vmap(lambda g: clip(THRESHOLD).update(g, clip(THRESHOLD).init(g))[0]))(gradients)
    before, after = (float(jax.jit(jax.vmap(optax.tree.norm))(g).max()) for g in (gradients, clipped))
    return Evidence(after / THRESHOLD, at_most=1 + 1e-5, given={"there is something to clip": before > THRESHOLD})


@cached
def _solved(threshold, weight, scale):  # per seed, whether test accuracy ever reaches 99 %
    size = sizes(scale, length=(23, 50), width=(20, 50), steps=(1_000, 20_000), seeds=(16, 32))
    penalty = eqx.Partial(vanishing_gradient_penalty, weight=jnp.asarray(weight))  # 0 for none: one program for all
    problem = temporal_order(size["length"], size["width"], penalty=penalty)
    how = {"steps": size["steps"], "every": size["steps"] // 5, "probes": {"test": problem.probes["test_accuracy"]}}
    trace = run(problem, _clipped_sgd, seeds=seeds(size["seeds"]), sweep={"threshold": [threshold]}, **how)
    return np.nan_to_num(trace["test"].values[0]).max(-1) >= 0.99


@claim(
    "temporal order, 23 symbols, 20 tanh units: SGD with clipping and penalty gets 99 % right in at least 60 % of runs",
    source="ours", broken={"sign of the penalty flipped": {"weight": -WEIGHT}})  # fmt: skip
def learns_the_temporal_order(weight=WEIGHT, *, scale):
    solved = _solved(THRESHOLD, weight, scale)
    return Evidence(proportion(int(solved.sum()), len(solved)), at_least=0.6)


@claim(
    "temporal order: both solve it at least as often as clipping, it as often as SGD, and both 40 points more than SGD",
    source="ours", broken={"sign of the penalty flipped": {"weight": -WEIGHT}})  # fmt: skip
def each_part_helps(weight=WEIGHT, *, scale):
    settings = (NO_CLIPPING, 0.0), (THRESHOLD, 0.0), (THRESHOLD, weight)
    plain, clipped, both = (_solved(*setting, scale) for setting in settings)
    gains = {"both over clipping": paired_difference(both, clipped)}
    gains |= {"clipping over plain SGD": paired_difference(clipped, plain)}
    gains |= {"both over plain SGD, less 0.4": paired_difference(both - 0.4, plain)}
    return Evidence.of_cases(gains, at_least=0.0, given={"clipping solves some, not all": 0 < clipped.mean() < 1})
