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
)
from attractor.papers.words import Evidence, cached, claim, key, paired_ratio, probes, seconds, seed, sizes, tune
from attractor.problems.physics import burgers_pinn
from attractor.registry import LogUniform

STEPS = 500


def _without_units(gradients, key=None):
    """The pseudo-inverse of the gradients themselves: equal products instead of equal angles."""
    direction = jnp.linalg.pinv(gradients) @ jnp.ones(len(gradients))
    return jnp.sum(gradients @ direction) / jnp.sum(direction**2) * direction


@claim(
    "2 to 6 losses: equal cosines, all >= 0, length the sum of projections, the bisector of 2 (errors at most 1e-5)",
    source="ours",
    broken={
        "lengths are not divided out": {"direction": _without_units},
        "plain sum": {"direction": lambda g: g.sum(0)},
    },
)
def bisects(direction=conflict_free_direction):
    rng, errors = np.random.default_rng(seed()), []
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


@cached
def _problem():
    return burgers_pinn(viscosity=0.05, width=32, depth=2, batch_size=96)


@cached
def _errors(method, steps, scale):
    """On fresh seeds, of a method whose peak rate was tuned; rates fall to 0 along a cosine."""

    def with_cosine(learning_rate):
        return method(optax.cosine_decay_schedule(learning_rate, steps))

    rates, task = {"learning_rate": LogUniform(1e-3, 3e-2)}, _problem()
    how = sizes(scale, seeds=(8, 32), budget=(4, 16), steps=steps, every=steps, metric="error")
    return tune(task, (with_cosine, rates), probes=probes(task, "error"), **how).final


def _at_most_adam(found, scale, note=""):
    adam = _errors(optax.adam, STEPS, scale)
    note += f"errors {np.median(found):.4f} and {np.median(adam):.4f}"
    return Evidence(
        paired_ratio(found, adam), at_most=1.0, given={"Adam halves the error": adam.max() < 0.5}, note=note
    )


@claim(
    "Burgers' equation, 500 steps, both tuned: the conflict-free direction's error is at most that of the sum",
    source="scaled",
    broken={"against the other losses": {"rule": lambda g, key: conflict_free_direction(g.at[0].multiply(-1))}},
)
def solves_more_accurately(rule=conflict_free_direction, *, scale):
    def ours(learning_rate):
        return CombinedGradient(optax.chain(combine_gradients(rule), optax.adam(learning_rate)))

    return _at_most_adam(_errors(ours, STEPS, scale), scale)


def _steps(method):
    """200 steps as a call without arguments, not batched over seeds, where only the branch taken is computed."""
    problem = _problem()
    x = problem.init(key())

    @jax.jit
    def many(carry):
        return jax.lax.scan(lambda c, k: (method.step(problem, *c, k), None), carry, jr.split(key(), 200))[0]

    return partial(many, (x, method.init(problem, x, key())))


@claim(
    "Burgers' equation: in the time of 500 Adam steps M-ConFIG has at most Adam's error (one loss a step, both tuned)",
    source="scaled",
    broken={"no second moment": {"m_config": partial(MomentumConfig, b2=0.0)}},
)
def saves_gradients(m_config=MomentumConfig, *, scale):
    ours, adam = seconds(_steps(m_config(3e-3)), _steps(CombinedGradient(optax.adam(3e-3))), rounds=10)
    relative = ours.min() / adam.min()
    found = _errors(m_config, round(STEPS / relative / 50) * 50, scale)
    return _at_most_adam(found, scale, f"a step takes {relative:.2f} of Adam's time; ")
