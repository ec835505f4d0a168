"""ConFIG: one direction with the same angle to the gradient of every loss.

```python
import jax.numpy as jnp
from attractor import MultiObjective, run
from attractor.optim import config

def losses(x):  # of very different size; every point between 1 and -1 is a compromise
    return jnp.stack([100 * jnp.sum((x - 1) ** 2), jnp.sum((x + 1) ** 2)])

problem = MultiObjective(losses, jnp.array([3.0, -2.0]), names=("large", "small"))
trace = run(problem, config(learning_rate=0.05), steps=300)
print(trace.final[0, 0])  # between; Adam on the sum of the losses ends at 0.98, next to the minimum of the large one
```
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.optim.multi_objective import (
    CombinedGradient,
    MomentumConfig,
    combine_gradients,
    conflict_free_direction,
    projected_sum,
)
from attractor.papers.words import Evidence, cached, claim, key, paired_ratio, probes, seconds, seed, sizes, tune
from attractor.problems.physics import burgers_pinn
from attractor.registry import LogUniform

STEPS = 500


def _without_units(gradients, key=None):
    """The pseudo-inverse of the gradients themselves: equal products instead of equal angles."""
    direction = jnp.linalg.pinv(gradients) @ jnp.ones(len(gradients))
    return jnp.sum(gradients @ direction) / jnp.sum(direction**2) * direction


def _sum(gradients, key=None):
    return gradients.sum(0)


def _sum_of_units(gradients, key=None):
    """No pseudo-inverse: equal lengths only."""
    return (gradients / jnp.linalg.norm(gradients, axis=1, keepdims=True)).sum(0)


RULES = (_sum, conflict_free_direction, projected_sum, _sum_of_units)


@claim(
    "2 to 6 losses: equal cosines, all >= 0, length the sum of projections, the bisector of 2 (errors at most 1e-5)",
    source="ours",
    broken={"lengths are not divided out": {"direction": _without_units}, "plain sum": {"direction": _sum}},
)
def bisects(direction=conflict_free_direction):
    rng, errors = np.random.default_rng(seed()), []
    for m in (2, 3, 4, 5, 6):
        g = jnp.asarray(rng.standard_normal((4, m, 50)) * 10 ** rng.uniform(-2, 2, (4, m, 1)))
        g, d = (np.asarray(a, float) for a in (g, jax.jit(jax.vmap(direction))(g)))
        lengths, units = np.linalg.norm(g, axis=2), d / np.linalg.norm(d, axis=1, keepdims=True)
        projections = np.einsum("kmd,kd->km", g, units)
        cosines = projections / lengths
        errors += [np.ptp(cosines, axis=1), np.maximum(-cosines.min(1), 0)]
        errors += [np.linalg.norm(d, axis=1) / projections.sum(1) - 1]
        if m == 2:
            bisector = (g / lengths[..., None]).sum(1)
            errors += [1 - np.sum(bisector * units, 1) / np.linalg.norm(bisector, axis=1)]
    return Evidence(float(np.max(np.abs(errors))), at_most=1e-5)


@cached
def _problem():
    return burgers_pinn(viscosity=0.05, width=32, depth=2, batch_size=32)


def _by_rule(index, learning_rate):
    """Adam behind one of the `RULES`; which of them is data, so that one program serves all."""

    def rule(gradients, key):
        return jnp.stack([r(gradients, key) for r in RULES])[index]

    rate = optax.cosine_decay_schedule(learning_rate, STEPS)
    return CombinedGradient(optax.chain(combine_gradients(rule), optax.adam(rate)))


def _one_by_one(steps, b1, b2, learning_rate):
    return MomentumConfig(optax.cosine_decay_schedule(learning_rate, steps), b1, b2)


@cached
def _errors(method, settings, steps, scale):
    """On fresh seeds, of a method whose peak rate was tuned; rates fall to 0 along a cosine."""
    rates, task = {"learning_rate": LogUniform(1e-3, 3e-2)}, _problem()
    how = sizes(scale, seeds=(8, 32), budget=(4, 16), steps=steps, every=steps, metric="error")
    made = eqx.Partial(method, *map(jnp.asarray, settings))
    return tune(task, (made, rates), probes=probes(task, "error"), **how).final


def _of_rule(rule, scale):
    return _errors(_by_rule, (RULES.index(rule),), STEPS, scale)
