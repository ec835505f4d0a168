"""ConFIG: one direction with the same angle to the gradient of every loss.

```python
import optax
from attractor import compare
from attractor.optim import config, pcgrad
from attractor.problems import burgers_pinn

problem = burgers_pinn(width=16, depth=2, batch_size=32)  # equation, initial values, boundary values
print(compare(problem, {"config": config, "pcgrad": pcgrad, "adam": optax.adam},
              steps=100, seeds=2, budget=2, metric="error"))
```
"""

import functools
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.comparison import compare
from attractor.optim.multi_objective import (
    CombinedGradient,
    MomentumConfig,
    combine_gradients,
    conflict_free_direction,
)
from attractor.papers import Evidence, claim
from attractor.problems.physics import burgers_pinn
from attractor.registry import LogUniform
from attractor.stats import paired_ratio

SLUG = "config"
STEPS = 500


def _without_units(gradients, key=None):
    """The pseudo-inverse of the gradients themselves: equal products instead of equal angles."""
    direction = jnp.linalg.pinv(gradients) @ jnp.ones(len(gradients))
    return jnp.sum(gradients @ direction) / jnp.sum(direction**2) * direction


@claim(
    SLUG,
    "random gradients of 2 to 6 losses: the direction improves all of them, has the same cosine to each, its length is "
    "the sum of the projections, and for two losses it bisects their angle (errors at most 1e-5)",
    broken={
        "lengths are not divided out": {"direction": _without_units},
        "plain sum": {"direction": lambda g: g.sum(0)},
    },
)
def bisects(direction=conflict_free_direction, *, scale):
    rng, errors = np.random.default_rng(0), []
    for m in (2, 3, 4, 5, 6):
        for _ in range(4):
            g = jnp.asarray(rng.standard_normal((m, 50)) * 10 ** rng.uniform(-2, 2, (m, 1)))
            d = direction(g)
            cosines = g @ d / jnp.linalg.norm(g, axis=1) / jnp.linalg.norm(d)
            errors += [jnp.ptp(cosines), jnp.maximum(-cosines.min(), 0)]
            errors += [jnp.linalg.norm(d) / jnp.sum(g @ d / jnp.linalg.norm(d)) - 1]
            if m == 2:
                bisector = (g / jnp.linalg.norm(g, axis=1, keepdims=True)).sum(0)
                errors += [1 - d @ bisector / jnp.linalg.norm(d) / jnp.linalg.norm(bisector)]
    return Evidence(float(jnp.max(jnp.abs(jnp.stack(errors)))), at_most=1e-5)


@functools.cache
def _problem():
    return burgers_pinn(viscosity=0.05, width=32, depth=2, batch_size=96)


@functools.cache
def _errors(method, steps, scale):
    """On fresh seeds, of a method whose peak rate was tuned; rates fall to 0 along a cosine."""
    seeds, budget = (8, 4) if scale == "quick" else (32, 16)

    def with_cosine(learning_rate):
        return method(optax.cosine_decay_schedule(learning_rate, steps))

    methods = {"it": (with_cosine, {"learning_rate": LogUniform(1e-3, 3e-2)})}
    return compare(_problem(), methods, steps=steps, every=steps, seeds=seeds, budget=budget, metric="error")[
        "it"
    ].final


@claim(
    SLUG,
    "Burgers' equation, 500 steps, both tuned: the relative error of Adam on the conflict-free direction is at most "
    "that of Adam on the sum of the losses",
    broken={"against the other losses": {"rule": lambda g, key: conflict_free_direction(g.at[0].multiply(-1))}},
)
def solves_more_accurately(rule=conflict_free_direction, *, scale):
    def ours(learning_rate):
        return CombinedGradient(optax.chain(combine_gradients(rule), optax.adam(learning_rate)))

    found, baseline = _errors(ours, STEPS, scale), _errors(optax.adam, STEPS, scale)
    note = f"errors {np.median(found):.4f} and {np.median(baseline):.4f}"
    return Evidence(paired_ratio(found, baseline), at_most=1.0, note=note)


def _seconds(method):
    """Of one step, not batched over seeds, where only the branch taken is computed."""
    problem, key = _problem(), jr.key(0)
    x = problem.init(key)

    @jax.jit
    def many(carry):
        return jax.lax.scan(lambda c, k: (method.step(problem, *c, k), None), carry, jr.split(key, 200))[0]

    carry, times = jax.block_until_ready(many((x, method.init(problem, x, key)))), []
    for _ in range(10):
        start = time.perf_counter()
        jax.block_until_ready(many(carry))
        times.append(time.perf_counter() - start)
    return min(times)


@claim(
    SLUG,
    "Burgers' equation: in the time that Adam takes for 500 steps on all losses M-ConFIG, differentiating one loss a "
    "step, gets at least as far (ratio of errors at most 1, both tuned)",
    broken={"no second moment": {"m_config": functools.partial(MomentumConfig, b2=0.0)}},
)
def saves_gradients(m_config=MomentumConfig, *, scale):
    relative = _seconds(m_config(3e-3)) / _seconds(CombinedGradient(optax.adam(3e-3)))
    found, baseline = _errors(m_config, round(STEPS / relative / 50) * 50, scale), _errors(optax.adam, STEPS, scale)
    note = f"a step takes {relative:.2f} of Adam's time; errors {np.median(found):.4f} and {np.median(baseline):.4f}"
    return Evidence(paired_ratio(found, baseline), at_most=1.0, note=note)
