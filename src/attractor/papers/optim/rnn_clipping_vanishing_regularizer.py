"""Gradient clipping and the vanishing-gradient penalty: what lets plain recurrent networks learn long delays.

```python
import equinox as eqx
import jax.numpy as jnp
import optax
from attractor import run
from attractor.optim import vanishing_gradient_penalty
from attractor.problems import temporal_order

penalty = eqx.Partial(vanishing_gradient_penalty, weight=jnp.asarray(2.0))
problem = temporal_order(length=10, width=10, penalty=penalty)
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.2))
print(run(problem, optimizer, steps=300, seeds=2).last("test_accuracy").values)
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

WIDTH, STEPS = 30, 40
THRESHOLD, NO_CLIPPING, WEIGHT = 1.0, 1e9, 2.0  # nothing reaches 1e9
SLOPES = {"tanh": (jnp.tanh, 1.0), "sigmoid": (jax.nn.sigmoid, 0.25)}  # activations, with their steepest slope
NORMS = {"singular value": lambda a: np.linalg.norm(a, 2), "radius": lambda a: np.abs(np.linalg.eigvals(a)).max()}
_product_norms = eqx.filter_jit(jacobian_product_norms)


def _cell(activation, stream, size, norm):
    """A random cell with recurrent weights of a given size, whose state stays at 0 if it is there."""
    cell = ElmanCell(1, WIDTH, activation, 1.0, key=key(stream))
    cell = eqx.tree_at(lambda c: c.bias, cell, -cell.recurrent @ activation(jnp.zeros(WIDTH)))
    return jax.tree.map(lambda a: size / NORMS[norm](cell.recurrent) * a, cell)


@claim(
    "products of 40 Jacobians grow by spectral radius times slope a step, at 0.5 to 1.5, to 0.05 in the logarithm",
    source="ours", broken={"slope of the sigmoid taken for 1": {"slopes": SLOPES | {"sigmoid": (jax.nn.sigmoid, 1.0)}},
                           "singular value in place of the spectral radius": {"norm": "singular value"}},
)  # fmt: skip
def products_follow_the_spectral_radius(slopes=SLOPES, norm="radius"):
    """At a fixed point, where the activation is steepest."""
    errors = {}
    for name, (activation, slope) in slopes.items():
        for factor in (0.5, 0.9, 1.1, 1.5):
            cell = _cell(activation, 0, factor / slope, norm)
            norms = _product_norms(cell, jnp.zeros((STEPS, WIDTH)), jnp.zeros((STEPS, 1)))
            measured = np.polyfit(np.arange(STEPS // 2), np.log(norms[STEPS // 2 :]), 1)[0]
            errors[f"{name} at {factor}"] = float(abs(measured - np.log(factor)))
    return Evidence.of_cases(errors, at_most=0.05)


@claim(
    "driven by noise, largest singular value times slope 0.9: no product of k Jacobians exceeds 0.9^k times 1.001",
    source="paper", broken={"spectral radius in place of the singular value": {"norm": "radius"}},
)  # fmt: skip
def a_small_norm_makes_it_vanish(norm="singular value"):
    excess, inputs = {}, 3.0 * jax.random.normal(key(2), (STEPS, 1))
    for name, (activation, slope) in SLOPES.items():
        cell = _cell(activation, 1, 0.9 / slope, norm)
        norms = _product_norms(cell, unroll(cell, jnp.zeros(WIDTH), inputs), inputs)
        excess[name] = float((norms / 0.9 ** jnp.arange(1, STEPS + 1)).max())
    return Evidence.of_cases(excess, at_most=1.001)


@claim(
    "clipped gradients of a network at spectral radius 2 and length 50 are no longer than the threshold (to 1e-5)",
    source="paper",
    broken={"each entry clipped by itself": {"clip": optax.clip}, "no clipping": {"clip": lambda c: optax.identity()}},
)
def clipping_bounds_the_norm(clip=optax.clip_by_global_norm):
    problem = temporal_order(50, radius=2.0, samples=200)

    def norms(batch):
        gradient = jax.grad(problem.loss)(problem.init(key(0)), batch)
        clipped, _ = clip(THRESHOLD).update(gradient, clip(THRESHOLD).init(gradient))
        return optax.tree.norm(gradient), optax.tree.norm(clipped)

    before, after = jax.lax.map(norms, jax.tree.map(lambda a: a.reshape(20, 10, *a.shape[1:]), problem.full))
    given = {"there is something to clip": bool(before.max() > THRESHOLD)}
    return Evidence(float(after.max()) / THRESHOLD, at_most=1 + 1e-5, given=given, note=f"{before.max():.3g} before")


def _clipped_sgd(threshold):
    return optax.chain(optax.clip_by_global_norm(threshold), optax.sgd(0.2))


@cached
def _solved(weight, scale):
    """Per seed, whether test accuracy ever reaches 99 %: with clipping and without."""
    size = sizes(scale, length=(23, 50), width=(20, 50), steps=(1_000, 20_000), seeds=(16, 32))
    penalty = eqx.Partial(vanishing_gradient_penalty, weight=jnp.asarray(weight))  # an array: one program for all
    problem = temporal_order(size["length"], size["width"], penalty=penalty)
    how = {"steps": size["steps"], "every": size["steps"] // 5, "probes": {"test": problem.probes["test_accuracy"]}}
    trace = run(problem, _clipped_sgd, seeds=seeds(size["seeds"]), sweep={"threshold": [THRESHOLD, NO_CLIPPING]}, **how)
    return np.nan_to_num(trace["test"].values).max(-1) >= 0.99


FLIPPED = {"sign of the penalty flipped": {"weight": -WEIGHT}}


@claim(
    "temporal order, 23 symbols, 20 tanh units: SGD with clipping and penalty gets 99 % right in at least 60 % of runs",
    source="ours", broken={"no penalty": {"weight": 0.0}} | FLIPPED,
)  # fmt: skip
def learns_the_temporal_order(weight=WEIGHT, *, scale):
    solved = _solved(weight, scale)[0]
    return Evidence(proportion(int(solved.sum()), len(solved)), at_least=0.6)


@claim(
    "temporal order: both solve it at least as often as clipping, it as often as SGD, and both 40 points more than SGD",
    source="ours", broken=FLIPPED,
)  # fmt: skip
def each_part_helps(weight=WEIGHT, *, scale):
    (clipped, plain), both = _solved(0.0, scale), _solved(weight, scale)[0]
    gains = {"both over clipping": paired_difference(both, clipped)}
    gains |= {"clipping over plain SGD": paired_difference(clipped, plain)}
    gains |= {"both over plain SGD, less 0.4": paired_difference(both - 0.4, plain)}
    note = f"both {both.mean():.0%}, clipping {clipped.mean():.0%}, plain {plain.mean():.0%}"
    left = {"clipping solves some, and leaves some": bool(0 < clipped.mean() < 1)}
    return Evidence.of_cases(gains, at_least=0.0, given=left, note=note)
