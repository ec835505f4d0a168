"""Bloop: an auxiliary loss descends across the averaged gradient of the main one, not across its noise.

```python
import jax.numpy as jnp
from attractor import MultiObjective, run
from attractor.optim import bloop

def losses(x):  # fit first; among the solutions, the smallest
    return jnp.stack([(x[0] + x[1] - 2) ** 2, jnp.sum(x**2)])

problem = MultiObjective(losses, jnp.array([3.0, -2.0]), names=("fit", "size"))
trace = run(problem, bloop(learning_rate=0.05, strength=1.0), steps=300)
print(trace.final[0, 0])  # 1, 1; the sum of the losses ends at 0.67, 0.67
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.objectives import MultiObjective
from attractor.optim.multi_objective import CombinedGradient, bloop, combine_gradients, project_auxiliary
from attractor.papers.words import Evidence, cached, claim, key, mean, paired_ratio, run, seed, seeds, sizes

DIM = 50


def _bilevel():
    """Main loss: a quadratic in the first half of the variables, in the other flat. Auxiliary: distance from c."""
    rng = np.random.default_rng(seed())
    curvature, c = jnp.asarray(rng.uniform(0.5, 2.0, DIM // 2)), jnp.asarray(rng.standard_normal(DIM))
    noise = rng.standard_normal((10_000, DIM))

    def losses(x, batch):
        main = 0.5 * jnp.sum(curvature * x[: DIM // 2] ** 2) + batch.mean(0) @ x
        return jnp.stack([main, 0.5 * jnp.sum((x - c) ** 2)])

    data = jnp.asarray(noise - noise.mean(0))
    problem = MultiObjective(
        losses, lambda key: jr.normal(key, (DIM,)), data, names=("main", "auxiliary"), batch_size=1
    )
    return problem, 0.5 * float(jnp.sum(c[: DIM // 2] ** 2))


@cached
def _final(method, scale):
    """Main loss by seed, and the auxiliary one over its optimum among the minimizers of the main one."""
    (problem, optimum), n = _bilevel(), sizes(scale, seeds=(10, 100))["seeds"]
    trace = run(problem, method(lambda t: 0.3 / (1 + t / 100)), steps=10_000, every=10_000, seeds=seeds(n))
    return trace.last("main").values[0], trace.last("auxiliary").values[0] / optimum


def _sum_of_losses(learning_rate):
    return CombinedGradient(optax.chain(combine_gradients(lambda g, key: g.sum(0)), optax.sgd(learning_rate)))


SLOW = partial(bloop, rho=1e-3)
INSTANT = partial(bloop, rho=1.0)


@claim(
    "random gradients of a pytree: what is added to the main gradient is orthogonal to its moving average, to 1e-10",
    source="ours",
    broken={"plain sum": {"projection": lambda strength, rho: combine_gradients(lambda g, key: g.sum(0))}},
)
def is_orthogonal_to_the_average(projection=project_auxiliary):
    with jax.enable_x64(True):
        transformation, average, worst = projection(0.5, 0.1), jnp.zeros(12), 0.0
        params = {"w": jnp.zeros((3, 3)), "b": jnp.zeros(3)}
        state = transformation.init(params)
        for k in jr.split(key(), 20):
            g = {"w": jr.normal(k, (2, 3, 3)), "b": jr.normal(jr.fold_in(k, 1), (2, 3))}
            d, state = transformation.update(params, state, params, gradients=g, key=k)
            main = jnp.concatenate([g["b"][0], g["w"][0].ravel()])
            average = 0.9 * average + 0.1 * main
            added = jnp.concatenate([d["b"], d["w"].ravel()]) - main
            worst = max(worst, float(jnp.abs(added @ average)))
    return Evidence(worst, at_most=1e-10)


@claim(
    "noisy bilevel quadratic: the main loss is at most half that of minibatch projection, and that of the summed loss",
    source="ours",
    broken={"no average": {"method": INSTANT}},
)
def spares_the_main_loss(method=SLOW, *, scale):
    ours = _final(method, scale)[0]
    others = {"projection per minibatch": INSTANT, "sum of the losses": _sum_of_losses}
    ratios = {name: paired_ratio(ours, _final(other, scale)[0]) for name, other in others.items()}
    return Evidence.of_cases(ratios, at_most=0.5, note=f"main loss {np.median(ours):.4f}")


@claim(
    "noisy bilevel quadratic: the auxiliary loss ends within 5 % of its optimum among the minimizers of the main loss",
    source="ours",
    broken={"main loss alone": {"method": partial(SLOW, strength=0.0)}},
    reason="6 % [4, 8] over 10 seeds: the main loss ends a little above its minimum, where the auxiliary one is below "
    "its optimum, and a gap below counts as one above does",
)
def minimizes_the_auxiliary_loss(method=SLOW, *, scale):
    return Evidence(mean(np.abs(_final(method, scale)[1] - 1)), at_most=0.05)
