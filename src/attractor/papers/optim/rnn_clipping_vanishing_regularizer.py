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
trace = run(problem, optimizer, steps=300, seeds=2)
print(trace.last("test_accuracy").values)
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.nn.recurrent.cells import ElmanCell, unroll
from attractor.optim.recurrent_penalty import jacobian_product_norms, vanishing_gradient_penalty
from attractor.papers.words import (
    Evidence,
    cached,
    claim,
    key,
    paired_difference,
    probes,
    proportion,
    run,
    seeds,
    sizes,
)
from attractor.problems.temporal_order import temporal_order

WIDTH, STEPS = 30, 40
RATE, THRESHOLD, WEIGHT = 0.2, 1.0, 2.0
NO_CLIPPING = 1e9  # a threshold that nothing reaches
SLOPES = {"tanh": (jnp.tanh, 1.0), "sigmoid": (jax.nn.sigmoid, 0.25)}  # activations, with their steepest slope


def _cell(activation, start):
    """A random cell whose state stays at 0 if it is there: what the activation is at 0 is taken back by the bias."""
    cell = ElmanCell(1, WIDTH, activation, 1.0, key=start)
    return eqx.tree_at(lambda c: c.bias, cell, -cell.recurrent @ activation(jnp.zeros(WIDTH)))


def _scaled(cell, factor):
    return jax.tree.map(lambda a: factor * a, cell)


_product_norms = eqx.filter_jit(jacobian_product_norms)


def _spectral_radius(matrix):
    return np.abs(np.linalg.eigvals(matrix)).max()


def _largest_singular_value(matrix):
    return np.linalg.norm(matrix, 2)


@claim(
    "products of 40 Jacobians grow by spectral radius times slope a step, at 0.5 to 1.5, to 0.05 in the logarithm",
    source="ours",
    broken={"slope of the sigmoid taken for 1": {"slopes": SLOPES | {"sigmoid": (jax.nn.sigmoid, 1.0)}}},
)
def products_follow_the_spectral_radius(slopes=SLOPES):
    """At a fixed point, where the activation is steepest."""
    errors = {}
    for name, (activation, slope) in slopes.items():
        cell = _cell(activation, key(0))
        for factor in (0.5, 0.9, 1.1, 1.5):
            scaled = _scaled(cell, factor / slope / _spectral_radius(cell.recurrent))
            norms = _product_norms(scaled, jnp.zeros((STEPS, WIDTH)), jnp.zeros((STEPS, 1)))
            measured = np.polyfit(np.arange(STEPS // 2), np.log(norms[STEPS // 2 :]), 1)[0]
            errors[f"{name} at {factor}"] = float(abs(measured - np.log(factor)))
    return Evidence.of_cases(errors, at_most=0.05)


@claim(
    "driven by noise, largest singular value times slope 0.9: no product of k Jacobians exceeds 0.9^k times 1.001",
    source="paper",
    broken={"spectral radius in place of the singular value": {"size": _spectral_radius}},
)
def a_small_norm_makes_it_vanish(size=_largest_singular_value):
    excess = {}
    for name, (activation, slope) in SLOPES.items():
        cell = _cell(activation, key(1))
        scaled = _scaled(cell, 0.9 / slope / size(cell.recurrent))
        inputs = 3.0 * jax.random.normal(key(2), (STEPS, 1))
        norms = _product_norms(scaled, unroll(scaled, jnp.zeros(WIDTH), inputs), inputs)
        excess[name] = float((norms / 0.9 ** jnp.arange(1, STEPS + 1)).max())
    return Evidence.of_cases(excess, at_most=1.001)


@cached
def _exploding_gradients():
    """On 20 minibatches: leaves (20, …)."""
    problem = temporal_order(50, radius=2.0, samples=200)
    batches = jax.tree.map(lambda a: a.reshape(20, 10, *a.shape[1:]), problem.full)
    return jax.jit(jax.vmap(jax.grad(problem.loss), in_axes=(None, 0)))(problem.init(key(0)), batches)


@claim(
    "clipped gradients of a network at spectral radius 2 and length 50 are no longer than the threshold (to 1e-5)",
    source="paper",
    broken={"each entry clipped by itself": {"clip": optax.clip}, "no clipping": {"clip": lambda c: optax.identity()}},
)
def clipping_bounds_the_norm(clip=optax.clip_by_global_norm):
    def norm_after(gradient):
        clipped, _ = clip(THRESHOLD).update(gradient, clip(THRESHOLD).init(gradient))
        return optax.tree.norm(clipped)

    gradients = _exploding_gradients()
    before, after = (jax.jit(jax.vmap(norm))(gradients) for norm in (optax.tree.norm, norm_after))
    return Evidence(
        float(after.max()) / THRESHOLD,
        at_most=1 + 1e-5,
        given={"there is something to clip": bool(before.max() > THRESHOLD)},
        note=f"norms up to {before.max():.3g} before clipping",
    )


def _clipped_sgd(threshold):
    return optax.chain(optax.clip_by_global_norm(threshold), optax.sgd(RATE))


@cached
def _solved(threshold, weight, scale):
    """Per seed, whether test accuracy ever reaches 99 %."""
    size = sizes(scale, length=(20, 50), width=(20, 50), steps=(1_000, 20_000))
    penalty = eqx.Partial(vanishing_gradient_penalty, weight=jnp.asarray(weight))  # an array: one program for all
    problem = temporal_order(size["length"], size["width"], penalty=penalty)
    trace = run(
        problem, _clipped_sgd, steps=size["steps"], every=size["steps"] // 5, seeds=seeds(12),
        sweep={"threshold": [threshold]}, probes=probes(problem, "test_accuracy"),
    )  # fmt: skip
    return np.nan_to_num(trace["test_accuracy"].values[0]).max(-1) >= 0.99


FLIPPED = {"sign of the penalty flipped": {"weight": -WEIGHT}}


@claim(
    "temporal order, 20 symbols, 20 tanh units: SGD with clipping and penalty gets 99 % right in at least 60 % of runs",
    source="ours",
    broken={"neither": {"threshold": NO_CLIPPING, "weight": 0.0}} | FLIPPED,
)
def learns_the_temporal_order(threshold=THRESHOLD, weight=WEIGHT, *, scale):
    solved = _solved(threshold, weight, scale)
    return Evidence(proportion(int(solved.sum()), len(solved)), at_least=0.6)


@claim(
    "temporal order: both solve it at least as often as clipping, it as often as SGD, and both 40 points more than SGD",
    source="ours",
    broken=FLIPPED,
    reason="clipping alone solves every run of 20 symbols, so that it cannot be seen whether the penalty helps",
)
def each_part_helps(weight=WEIGHT, *, scale):
    plain, clipped = _solved(NO_CLIPPING, 0.0, scale), _solved(THRESHOLD, 0.0, scale)
    both = _solved(THRESHOLD, weight, scale)
    gains = {
        "both over clipping": paired_difference(both, clipped),
        "clipping over plain SGD": paired_difference(clipped, plain),
        "both over plain SGD, less 0.4": paired_difference(both - 0.4, plain),
    }
    rates = zip(("both", "clipping", "plain"), (both, clipped, plain), strict=True)
    note = ", ".join(f"{name}: {solved.mean():.0%}" for name, solved in rates)
    left = {"clipping leaves something to solve": bool(clipped.mean() < 1)}
    return Evidence.of_cases(gains, at_least=0.0, given=left, note=note)
