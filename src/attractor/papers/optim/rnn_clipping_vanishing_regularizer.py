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

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.engine import run
from attractor.nn.recurrent import ElmanCell, unroll
from attractor.optim.recurrent_penalty import jacobian_product_norms, vanishing_gradient_penalty
from attractor.papers import Evidence, claim
from attractor.problems.temporal_order import temporal_order
from attractor.stats import paired_difference, proportion

SLUG = "rnn-clipping-vanishing-regularizer"
WIDTH, STEPS = 30, 40
RATE, THRESHOLD, WEIGHT = 0.2, 1.0, 2.0
NO_CLIPPING = 1e9  # a threshold that nothing reaches
SLOPES = {"tanh": (jnp.tanh, 1.0), "sigmoid": (jax.nn.sigmoid, 0.25)}  # activations, with their steepest slope


def _cell(activation, key):
    """A random cell whose state stays at 0 if it is there: what the activation is at 0 is taken back by the bias."""
    cell = ElmanCell(1, WIDTH, activation, 1.0, key=key)
    return eqx.tree_at(lambda c: c.bias, cell, -cell.recurrent @ activation(jnp.zeros(WIDTH)))


_product_norms = eqx.filter_jit(jacobian_product_norms)


def _spectral_radius(matrix):
    return np.abs(np.linalg.eigvals(matrix)).max()


def _largest_singular_value(matrix):
    return np.linalg.norm(matrix, 2)


@claim(
    SLUG,
    "at a fixed point where the activation is steepest, products of 40 Jacobians change by the spectral radius times "
    "that slope per step, at 0.5, 0.9, 1.1 and 1.5, to 0.05 in the logarithm: they vanish below 1 and explode above",
    broken={"slope of the sigmoid taken for 1": {"slopes": SLOPES | {"sigmoid": (jax.nn.sigmoid, 1.0)}}},
)
def products_follow_the_spectral_radius(slopes=SLOPES, *, scale):
    errors, inputs = [], jnp.zeros((STEPS, 1))
    for activation, slope in slopes.values():
        cell = _cell(activation, jr.key(0))
        for factor in (0.5, 0.9, 1.1, 1.5):
            scaling = factor / slope / _spectral_radius(cell.recurrent)
            scaled = jax.tree.map(lambda a, by=scaling: by * a, cell)
            norms = _product_norms(scaled, jnp.zeros((STEPS, WIDTH)), inputs)
            slope_of_log = np.polyfit(np.arange(STEPS // 2), np.log(norms[STEPS // 2 :]), 1)[0]
            errors.append(abs(slope_of_log - np.log(factor)))
    return Evidence(float(np.max(errors)), at_most=0.05)


@claim(
    SLUG,
    "driven by noise, with the largest singular value of the weights at 0.9 over the activation's steepest slope, no "
    "product of k Jacobians has a norm above 0.9^k (to 1e-3, relative)",
    broken={"spectral radius in place of the singular value": {"size": _spectral_radius}},
)
def a_small_norm_makes_it_vanish(size=_largest_singular_value, *, scale):
    worst = 0.0
    for activation, slope in SLOPES.values():
        cell = _cell(activation, jr.key(1))
        scaling = 0.9 / slope / size(cell.recurrent)
        scaled = jax.tree.map(lambda a, by=scaling: by * a, cell)
        inputs = 3.0 * jr.normal(jr.key(2), (STEPS, 1))
        states = unroll(scaled, jnp.zeros(WIDTH), inputs)
        norms = _product_norms(scaled, states, inputs)
        worst = max(worst, float((norms / 0.9 ** jnp.arange(1, STEPS + 1)).max()))
    return Evidence(worst, at_most=1.001)


@functools.cache
def _exploding_gradients():
    """On 20 minibatches: leaves (20, …)."""
    problem = temporal_order(50, radius=2.0, samples=200)
    batches = jax.tree.map(lambda a: a.reshape(20, 10, *a.shape[1:]), problem.full)
    return jax.jit(jax.vmap(jax.grad(problem.loss), in_axes=(None, 0)))(problem.init(jr.key(0)), batches)


@claim(
    SLUG,
    "clipped gradients of a network at spectral radius 2 and length 50 are no longer than the threshold (to 1e-5)",
    broken={"each entry clipped by itself": {"clip": optax.clip}, "no clipping": {"clip": lambda c: optax.identity()}},
)
def clipping_bounds_the_norm(clip=optax.clip_by_global_norm, *, scale):
    def norm_after(gradient):
        clipped, _ = clip(THRESHOLD).update(gradient, clip(THRESHOLD).init(gradient))
        return optax.tree.norm(clipped)

    gradients = _exploding_gradients()
    before, after = (jax.jit(jax.vmap(norm))(gradients) for norm in (optax.tree.norm, norm_after))
    note = f"norms up to {before.max():.3g} before clipping"
    return Evidence(float(after.max()) / THRESHOLD, at_most=1 + 1e-5, note=note)


def _clipped_sgd(threshold):
    return optax.chain(optax.clip_by_global_norm(threshold), optax.sgd(RATE))


@functools.cache
def _solved(threshold, weight, scale):
    """Per seed, whether test accuracy ever reaches 99 %."""
    length, width, steps = (20, 20, 1_000) if scale == "quick" else (50, 50, 20_000)
    penalty = eqx.Partial(vanishing_gradient_penalty, weight=jnp.asarray(weight))  # an array: one program for all
    problem = temporal_order(length, width, penalty=penalty)
    trace = run(
        problem, _clipped_sgd, steps=steps, every=steps // 5, seeds=12, sweep={"threshold": [threshold]},
        probes={"test_accuracy": problem.probes["test_accuracy"]},
    )  # fmt: skip
    return np.nan_to_num(trace["test_accuracy"].values[0]).max(-1) >= 0.99


@claim(
    SLUG,
    "temporal order, 20 symbols, 20 tanh units, SGD: clipping and the penalty together solve it (99 % right) in at "
    "least 60 % of the runs",
    broken={
        "neither": {"threshold": NO_CLIPPING, "weight": 0.0},
        "sign of the penalty flipped": {"weight": -WEIGHT},
    },
)
def learns_the_temporal_order(threshold=THRESHOLD, weight=WEIGHT, *, scale):
    solved = _solved(threshold, weight, scale)
    return Evidence(proportion(int(solved.sum()), len(solved)), at_least=0.6)


@claim(
    SLUG,
    "… as often as clipping alone or more, which does it as often as plain SGD or more, and 40 points more often than "
    "plain SGD",
    broken={"sign of the penalty flipped": {"weight": -WEIGHT}},
)
def each_part_helps(weight=WEIGHT, *, scale):
    plain, clipped = _solved(NO_CLIPPING, 0.0, scale), _solved(THRESHOLD, 0.0, scale)
    both = _solved(THRESHOLD, weight, scale)
    gains = [paired_difference(*pair) for pair in ((both, clipped), (clipped, plain), (both - 0.4, plain))]
    rates = zip(("both", "clipping", "plain"), (both, clipped, plain), strict=True)
    note = ", ".join(f"{name}: {solved.mean():.0%}" for name, solved in rates)
    return Evidence(min(gains, key=lambda gain: gain.low), at_least=0.0, note=note)
