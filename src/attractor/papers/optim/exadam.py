"""EXAdam: Adam with bias corrections that couple both moments, the raw gradient in the step, and a growing rate.

```python
import jax
import jax
import jax.numpy as jnp
import optax
from attractor.optim import exadam

optimizer = exadam(1e-2)
w = jnp.zeros(3)
state = optimizer.init(w)

@jax.jit
def step(w, state):
    updates, state = optimizer.update(jax.grad(lambda w: jnp.sum((w - 3.0) ** 2))(w), state, w)
    return optax.apply_updates(w, updates), state

for _ in range(500):
    w, state = step(w, state)
print(w)  # near 3, 3, 3
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.comparison import compare
from attractor.engine import run
from attractor.optim.adaptive import exadam
from attractor.papers import Evidence, claim
from attractor.problems.digits import digits_mlp
from attractor.registry import LogUniform
from attractor.stats import paired_ratio

SLUG = "exadam"
TARGET, EVERY = 0.05, 5

_network = functools.cache(digits_mlp)  # one object, so that its programs are compiled once


def _slow(learning_rate):
    """Neither growth nor the raw gradient: half the step of plain Adam."""
    return optax.adam(0.5 * learning_rate)


@claim(
    SLUG,
    "the first step is ln 2 times the coupled moments' ratio, and the rate multiplier grows as ln sqrt(2 (t + 1)) "
    "(relative error at most 1e-5)",
    broken={"Adam": {"exadam": optax.adam}},
)
def follows_its_formula(exadam=exadam, *, scale):
    with jax.enable_x64(True):
        optimizer, g = exadam(1.0), jnp.ones(())

        def step(state, _):
            update, state = optimizer.update(g, state, g)
            return state, -update

        _, steps = jax.lax.scan(step, optimizer.init(g), length=1_000)
        steps = np.asarray(steps)
    # A constant gradient of 1 has these moments exactly.
    t = np.arange(1, len(steps) + 1)
    m, v = 1 - 0.9**t, 1 - 0.999**t
    coupled = 1 + v / (v + 1e-8) * 0.999**t
    expected = np.log(np.sqrt(2) * np.sqrt(t + 1)) * coupled * (m + 1) / m
    expected /= np.sqrt(1 + m**2 / (m**2 + 1e-8) * 0.9**t) + 1e-8
    return Evidence(float(np.abs(steps / expected - 1).max()), at_most=1e-5)


@functools.cache
def _equal_rates(method, scale):
    """Steps to the target at learning rate 1e-3, by seed."""
    problem, seeds = _network(), 5 if scale == "quick" else 32
    probes = {"loss": problem.probes["loss"]}
    trace = run(problem, method(1e-3), steps=2_500, every=EVERY, seeds=seeds, probes=probes)
    hit = trace["loss"].values[0] <= TARGET
    return np.where(hit.any(1), trace.dataset["step"].values[hit.argmax(1)], np.inf)


@claim(
    SLUG,
    "digits network, both at learning rate 1e-3: reaches training loss 0.05 in at most 0.75 of Adam's steps",
    broken={"neither growth nor the raw gradient": {"exadam": _slow}},
)
def is_faster_at_equal_rates(exadam=exadam, *, scale):
    return Evidence(paired_ratio(_equal_rates(exadam, scale), _equal_rates(optax.adam, scale)), at_most=0.75)


@functools.cache
def _tuned(method, scale):
    problem, (seeds, budget) = _network(), (5, 8) if scale == "quick" else (32, 16)
    shared = {"probes": {"loss": problem.probes["loss"]}, "steps": 600, "every": EVERY, "target": TARGET}
    methods = {"it": (method, {"learning_rate": LogUniform(1e-3, 1e-1)})}
    return compare(problem, methods, seeds=seeds, budget=budget, **shared)["it"].steps_to_target


@claim(
    SLUG,
    "digits network, both tuned over 8 learning rates: reaches training loss 0.05 in at most 1.1 of Adam's steps",
    broken={"no memory of squared gradients": {"exadam": functools.partial(exadam, b2=0.0)}},
    reason="the gain at equal rates is the larger step: once both are tuned, Adam needs about as many",
)
def is_as_fast_as_tuned_adam(exadam=exadam, *, scale):
    return Evidence(paired_ratio(_tuned(exadam, scale), _tuned(optax.adam, scale)), at_most=1.1)
