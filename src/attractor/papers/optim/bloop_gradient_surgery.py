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

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.engine import run
from attractor.objectives import MultiObjective
from attractor.optim.multi_objective import CombinedGradient, bloop, combine_gradients, project_auxiliary
from attractor.papers import Evidence, claim
from attractor.stats import mean, paired_ratio

SLUG = "bloop-gradient-surgery"
DIM = 50


def _bilevel():
    """Main loss: a quadratic in the first half of the variables, in the other flat. Auxiliary: distance from c."""
    rng = np.random.default_rng(0)
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


@functools.cache
def _final(method, scale):
    """Main loss by seed, and the auxiliary one over its optimum among the minimizers of the main one."""
    problem, optimum = _bilevel()
    steps = 10_000
    trace = run(
        problem, method(lambda t: 0.3 / (1 + t / 100)), steps=steps, every=steps, seeds=10 if scale == "quick" else 100
    )
    return trace.last("main").values[0], trace.last("auxiliary").values[0] / optimum


def _sum_of_losses(learning_rate):
    return CombinedGradient(optax.chain(combine_gradients(lambda g, key: g.sum(0)), optax.sgd(learning_rate)))


SLOW = functools.partial(bloop, rho=1e-3)
INSTANT = functools.partial(bloop, rho=1.0)


@claim(
    SLUG,
    "random gradients of a pytree: what is added to the main gradient is orthogonal to its moving average (1e-10)",
    broken={"plain sum": {"projection": lambda strength, rho: combine_gradients(lambda g, key: g.sum(0))}},
)
def is_orthogonal_to_the_average(projection=project_auxiliary, *, scale):
    with jax.enable_x64(True):
        transformation, average, worst = projection(0.5, 0.1), jnp.zeros(12), 0.0
        params = {"w": jnp.zeros((3, 3)), "b": jnp.zeros(3)}
        state = transformation.init(params)
        for key in jr.split(jr.key(0), 20):
            g = {"w": jr.normal(key, (2, 3, 3)), "b": jr.normal(jr.fold_in(key, 1), (2, 3))}
            d, state = transformation.update(params, state, params, gradients=g, key=key)
            main = jnp.concatenate([g["b"][0], g["w"][0].ravel()])
            average = 0.9 * average + 0.1 * main
            added = jnp.concatenate([d["b"], d["w"].ravel()]) - main
            worst = max(worst, float(jnp.abs(added @ average)))
    return Evidence(worst, at_most=1e-10)


@claim(
    SLUG,
    "bilevel quadratic, gradient noise 1, decaying steps: the main loss ends at most half as far from its minimum as "
    "with projection against the minibatch's own gradient, and as with the sum of the losses",
    broken={"no average": {"method": INSTANT}},
)
def spares_the_main_loss(method=SLOW, *, scale):
    ours = _final(method, scale)[0]
    ratios = [paired_ratio(ours, _final(other, scale)[0]) for other in (INSTANT, _sum_of_losses)]
    return Evidence(max(ratios, key=lambda r: r.high), at_most=0.5, note=f"main loss {np.median(ours):.4f}")


@claim(
    SLUG,
    "the same: the auxiliary loss ends within 5 % of its optimum among the minimizers of the main loss",
    broken={"main loss alone": {"method": functools.partial(SLOW, strength=0.0)}},
    reason="6 % [4, 8]: the main loss ends a little above its minimum, where the auxiliary one is below its optimum",
)
def minimizes_the_auxiliary_loss(method=SLOW, *, scale):
    return Evidence(mean(np.abs(_final(method, scale)[1] - 1)), at_most=0.05)
