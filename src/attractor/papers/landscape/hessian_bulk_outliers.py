"""The Hessian of wide networks: a bulk of eigenvalues near zero, and about as many outliers as there are classes.

```python
import jax, jax.numpy as jnp
from attractor.landscape import count_outliers, hessian_spectrum
inputs, labels = jax.random.normal(jax.random.key(0), (60, 5)).at[:, :3].multiply(3.0), jnp.arange(60) % 3
loss = lambda w: -jax.nn.log_softmax(inputs @ w)[jnp.arange(60), labels].mean()
values = jax.jit(lambda w: hessian_spectrum(loss, w))(jnp.zeros((5, 3)))
print(values[:6], count_outliers(values, 8))
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.landscape.paths import linear_barrier
from attractor.landscape.spectrum import count_outliers, hessian_spectrum
from attractor.papers.words import Evidence, cached, claim, mean, seeds, sizes
from attractor.problems.clusters import gaussian_clusters

DIM, MOST, N, CLASSES, WIDTHS = 10, 8, 160, (3, 5, 8), (16, 32)  # inputs, outputs, examples


def _start(draw, width):
    rng = np.random.default_rng([draw, 1])
    return rng.standard_normal((DIM, width)) / DIM**0.5, rng.standard_normal((width, MOST)) / width**0.5


def _stack(function, *lanes):
    parts = [function(*lane) for lane in zip(*lanes, strict=True)]
    return tuple(np.stack(part).astype(np.float32) for part in zip(*parts, strict=True))


def _loss(params, inputs, targets, cut):
    return -jnp.sum(targets * jax.nn.log_softmax(jnp.tanh(inputs @ params[0]) @ params[1] + cut), 1).mean()


@partial(jax.jit, static_argnames="steps")
def _trained(params, data, draws, steps):
    """After SGD at rate 0.2, batch 8, or without draws after descent on all examples; and the losses."""

    def one(params, order, inputs, targets, cut):
        def step(params, chosen):
            gradient = jax.grad(_loss)(params, inputs[chosen], targets[chosen], cut)
            return jax.tree.map(lambda p, g: p - 0.2 * g, params, gradient), None

        return jax.lax.scan(step, params, order)[0]

    order = jnp.broadcast_to(jnp.arange(N), (len(data[0]), steps, N))
    if draws is not None:
        order = jax.vmap(lambda draw: jr.randint(jr.key(draw), (steps, 8), 0, N))(draws)
    params = jax.vmap(one)(params, order, *data)
    return params, jax.vmap(_loss)(params, *data)


@cached
def _spectra(width, scale):  # losses, and spectra without the outputs that are cut off; (classes, seed)
    size = sizes(scale, seeds=(4, 16), steps=(600, 5_000))
    grid = np.meshgrid(CLASSES, seeds(size["seeds"]), indexing="ij")
    classes, draws = (a.ravel() for a in grid)
    data, start = _stack(gaussian_clusters, draws, classes), _stack(partial(_start, width=width), draws)
    params, losses = _trained(start, data, draws, size["steps"])
    spectrum = jax.jit(lambda lanes: jax.lax.map(lambda p: hessian_spectrum(lambda x: _loss(x, *p[1]), p[0]), lanes))
    values, kept = np.asarray(spectrum((params, data))), np.empty(losses.shape, object)
    for i, v in enumerate(values):
        kept[i] = v[np.sort(np.argsort(-np.abs(v))[: width * (DIM + classes[i])])]
    return np.asarray(losses), kept.reshape(grid[0].shape)


def _cases(measure, scale):
    found = {(k, w): _spectra(w, scale)[1][i] for i, k in enumerate(CLASSES) for w in WIDTHS}
    return {f"k = {k}, {w} units": mean([measure(v, k) for v in row]) for (k, w), row in found.items()}


@claim("tanh nets with 16 and 32 units on 3, 5 and 8 clusters: 85 % of eigenvalues are within 1 % of the largest",
       source="scaled", broken={"1 % of 1 %": {"share": 1e-4}},
       reason="what residuals add is 1 to 15 % of the top and fills all that the clusters span")  # fmt: skip
def most_are_near_zero(share=0.01, *, scale):
    fit = {"all reach a loss of 0.05": max(_spectra(w, scale)[0].max() for w in WIDTHS) < 0.05}
    return Evidence.of_cases(_cases(lambda v, k: np.mean(abs(v) < share * v[0]), scale), at_least=0.85, given=fit)


@claim("tanh nets with 16 and with 32 units: on k = 3, 5 and 8 clusters outliers are k, up to 2 in the mean",
       source="scaled", broken={"by the widest gap": {"rule": lambda v, _: 1 + np.argmin(np.diff(v))}},
       reason="for k = 3 the widest relative gap often comes after 2 k")  # fmt: skip
def outliers_follow_the_data(rule=count_outliers, *, scale):
    return Evidence.of_cases(_cases(lambda v, k: abs(int(rule(v[:21], 20)) - k), scale), at_most=2.0)


@cached
def _barriers(scale):
    """By where batches of 8 started, the barrier from their end to that of full batches, in first losses."""
    size = sizes(scale, seeds=(8, 32), steps=(600, 5_000))
    draws = np.array(seeds(size["seeds"]))
    data = _stack(gaussian_clusters, draws, np.full(len(draws), 5))
    start, other = (_stack(partial(_start, width=32), d) for d in (draws, draws + 5_000))
    full = _trained(start, data, None, size["steps"])[0]

    def barrier(data, start, a, b):
        return linear_barrier(lambda p: _loss(p, *data), a, b).height / _loss(start, *data)

    many, ends = jax.jit(jax.vmap(barrier)), {"same start": start, "continued": full, "another start": other}
    return {n: np.asarray(many(data, start, full, _trained(e, data, draws, size["steps"])[0])) for n, e in ends.items()}


@claim("5 clusters, 32 units: from full-batch to batch-8 ends, a line rises by 1 % of the first loss at most",
       source="ours", broken={"from another start": {"names": ("another start",)}})  # fmt: skip
def both_ends_share_a_basin(names=("same start", "continued"), *, scale):
    return Evidence.of_cases({name: mean(_barriers(scale)[name]) for name in names}, at_most=0.01)
