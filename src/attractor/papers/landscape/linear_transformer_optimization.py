"""Linear attention on random regressions: what makes Transformers hard to train is there without softmax and text.

```python
import equinox as eqx, jax
from attractor.landscape import LinearTransformer, in_context_regression
model = LinearTransformer.random(3, 5, key=jax.random.key(0))
tokens, answers = jax.jit(lambda key: in_context_regression(key, batch=4, dim=5, examples=20))(jax.random.key(1))
print(eqx.filter_jit(jax.vmap(model))(tokens), answers)
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.stats import kurtosis

from attractor.landscape.linear_attention import LinearTransformer, in_context_regression
from attractor.landscape.spectrum import robust_condition_number
from attractor.papers.words import Evidence, cached, claim, mean, paired_ratio, seeds, sizes

TAILS = {"normal": 2.5, "heavy tails": 0.3}  # shapes of the squared lengths of inputs; 5 / 2 is that of normal ones
RATES = {"sgd": (3e-4, 1e-3, 3e-3, 1e-2), "adam": (1e-3, 3e-3, 1e-2, 3e-2)}


@partial(jax.jit, static_argnames="number")
def _pool(draw, tail, number):
    start = ravel_pytree(LinearTransformer.random(3, 5, key=jr.key(draw)))[0]
    return in_context_regression(jr.fold_in(jr.key(draw), 1), number, 5, 20, tail=tail), start


def _loss(flat, tokens, answers):
    return jnp.mean((jax.vmap(LinearTransformer(*flat.reshape(2, 3, 6, 6)))(tokens) - answers) ** 2)


@partial(jax.jit, static_argnames="steps")
def _runs(pools, starts, batches, rates, adaptive, steps):
    def one(rate, pool, start, order):
        def step(state, chosen):
            x, first, second, t = state
            loss, gradient = jax.value_and_grad(_loss)(x, *(a[chosen] for a in pool))
            gradient, t = gradient / jnp.maximum(1, jnp.linalg.norm(gradient)), t + 1
            first, second = 0.9 * first + gradient, 0.999 * second + 0.001 * gradient**2
            adam = 0.1 * first / (1 - 0.9**t) / (jnp.sqrt(second / (1 - 0.999**t)) + 1e-8)
            return (x - rate * jnp.where(adaptive, adam, first), first, second, t), (x, loss)

        return jax.lax.scan(step, (start, 0 * start, 0 * start, 0), order)[1]

    return jax.vmap(jax.vmap(one, (None, 0, 0, 0)), (0, None, None, None))(rates, pools, starts, batches)


@cached
def _tried(kind, tail, scale):
    size = sizes(scale, seeds=(6, 12), steps=(500, 5_000), number=(1_024, 16_384))
    draws = jnp.asarray(seeds(size["seeds"]))
    pools, starts = jax.vmap(partial(_pool, number=size["number"]), (0, None))(draws, TAILS[tail])
    batches = jax.vmap(lambda d: jr.randint(jr.key(d), (size["steps"], 16), 0, size["number"]))(draws)
    return *_runs(pools, starts, batches, jnp.asarray(RATES[kind]), kind == "adam", size["steps"]), batches, pools


def _trained(kind, tail, scale, pick=None):
    """At the best rate in the median, or a picked one: paths, batches, medians of the last and first losses, pools."""
    paths, losses, batches, pools = _tried(kind, tail, scale)
    first, last = (np.median(losses[:, :, part], 2) for part in (slice(100), slice(-100, None)))
    pick = int(np.argmin(np.nan_to_num(np.median(last, 1), nan=np.inf))) if pick is None else pick
    return paths[pick], batches, last[pick], first[pick], pools


@claim("3 layers, 500 steps of 16 sequences, rates tuned: Adam's loss is at most 0.7 times that of SGD with momentum",
       source="scaled", broken={"Adam at the least rate": {"pick": 0}},
       reason="with heavy-tailed inputs it is 0.56 to 0.86 times, with normal ones 0.43 times")  # fmt: skip
def adam_beats_sgd(pick=None, *, scale):
    runs = {tail: (_trained("sgd", tail, scale), _trained("adam", tail, scale, pick)) for tail in TAILS}
    given = {f"{tail}: SGD learns": np.median(sgd[2] / sgd[3]) < 0.9 for tail, (sgd, _) in runs.items()}
    cases = {tail: paired_ratio(adam[2], sgd[2]) for tail, (sgd, adam) in runs.items()}
    return Evidence.of_cases(cases, at_most=0.7, given=given)


@claim("along SGD's path the logarithms of local smoothness and of the gradient's norm are correlated, over 0.5",
       source="scaled", broken={"against the next batch's gradient": {"shift": 1}})  # fmt: skip
def smoothness_grows_with_the_gradient(shift=0, *, scale):
    slopes, cases = jax.jit(jax.vmap(jax.vmap(jax.grad(_loss)))), {}
    for tail in TAILS:
        paths, batches, _, _, pools = _trained("sgd", tail, scale)
        used = [jax.vmap(lambda a, order: a[order])(a, batches[:, :-1:2]) for a in pools]  # every other step
        here, there = slopes(before := paths[:, :-1:2], *used), slopes(after := paths[:, 1::2], *used)
        smooth = np.log(np.linalg.norm(there - here, axis=2) / np.linalg.norm(after - before, axis=2))
        norms = np.log(np.linalg.norm(np.roll(here, shift, 1), axis=2))
        cases[tail] = mean([np.corrcoef(a, b)[0, 1] for a, b in zip(smooth, norms, strict=True)])
    return Evidence.of_cases(cases, at_least=0.5)


@claim("gradient noise of batches of 16 where SGD ends: its kurtosis is 3 times a normal one's, 9, and more",
       source="scaled", broken={"batches of 1024": {"batch": 1_024}})  # fmt: skip
def gradient_noise_is_heavy_tailed(batch=16, *, scale):
    each, cases = jax.jit(jax.vmap(jax.grad(_loss), (None, 0, 0))), {}
    for tail in TAILS:
        (paths, _, _, _, pools), found, rng = _trained("sgd", tail, scale), [], np.random.default_rng(seeds(1))
        for path, *pool in zip(paths, *pools, strict=True):
            gradients = np.asarray(each(path[-1], *(a[:, None] for a in pool)), float)
            noise = np.stack([gradients[rng.integers(0, len(gradients), batch)].mean(0) for _ in range(1_000)])
            found.append(np.nanmean(kurtosis(noise, fisher=False)))  # what the last layer does not use has none
        cases[tail] = mean(found)
    return Evidence.of_cases(cases, at_least=9.0)


@claim("where they end, the Hessian's diagonal is less even for SGD than for Adam: max / median, ratio at least 1.1",
       source="scaled", broken={"at the starts": {"at": 0}},
       reason="with heavy-tailed inputs Adam ends where it is less even, over 16 sequences")  # fmt: skip
def sgd_ends_worse_conditioned(at=-1, *, scale):
    diagonal = lambda lane: jnp.diag(jax.hessian(_loss)(lane[0], lane[1][:16], lane[2][:16]))  # noqa: E731
    many, cases = jax.jit(lambda *lanes: jax.lax.map(lambda lane: robust_condition_number(diagonal(lane)), lanes)), {}
    for tail in TAILS:
        sgd, adam = (np.asarray(many(run[0][:, at], *run[4])) for run in (_trained(k, tail, scale) for k in RATES))
        cases[tail] = paired_ratio(sgd, adam)
    return Evidence.of_cases(cases, at_least=1.1)
