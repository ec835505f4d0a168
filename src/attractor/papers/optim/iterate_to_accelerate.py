"""Averaged fixed-point iteration with weights 2/(t + 2): how fast it is, and on what that depends.

```python
import jax.numpy as jnp
from attractor import FixedPoint, run
from attractor.optim import AveragedIteration

problem = FixedPoint(lambda x: 0.5 * jnp.cos(x), jnp.array([3.0]))
for weight in (1.0, 0.5):
    print(run(problem, AveragedIteration(weight), steps=20).last("residual").item())
```
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.engine import run
from attractor.optim.averaged_iteration import AveragedIteration, open_loop
from attractor.papers import Evidence, claim
from attractor.problem import FixedPoint

SLUG = "iterate-to-accelerate"
FACTORS = (0.1, 0.3, 0.5, 0.7, 0.9)


def _linear(factor):
    """x -> factor · x, but for a rotation of the coordinates."""
    return FixedPoint(lambda x: factor * x, jnp.ones(4), solution=jnp.zeros(4))


@functools.cache
def _bellman(factor):
    """Values of a random decision process with 10 states and 3 actions, under a soft maximum; discount ``factor``."""
    keys = jr.split(jr.key(0), 2)
    transitions, rewards = jax.nn.softmax(2 * jr.normal(keys[0], (10, 3, 10))), jr.normal(keys[1], (10, 3))

    def operator(v):
        return jax.nn.logsumexp(5 * (rewards + factor * transitions @ v), axis=1) / 5

    v = jnp.zeros(10)
    for _ in range(400):
        v = operator(v)
    return FixedPoint(operator, jnp.zeros(10), solution=v)


@functools.cache
def _slope(build, factor, weight):
    """Of the squared distance against steps 2,000 … 20,000, in logarithms."""
    with jax.enable_x64(True):
        trace = run(build(factor), AveragedIteration(weight), steps=20_000, every=1_000)
    steps, distance = trace.dataset["step"].values[2:], trace["distance"].values[0, 0, 2:]
    return 2 * np.polyfit(np.log(steps), np.log(np.maximum(distance, 1e-300)), 1)[0]


@claim(
    SLUG,
    "linear contractions of factor g: the squared distance falls as t^(-4 (1 - g)), within 0.05, for g from 0.1 to 0.9",
    broken={"half the weight": {"weight": lambda t: 1 / (t + 2.0)}},
)
def the_exponent_depends_on_the_factor(weight=open_loop, *, scale):
    slopes = [_slope(_linear, g, weight) for g in FACTORS]
    errors = [abs(s + 4 * (1 - g)) for s, g in zip(slopes, FACTORS, strict=True)]
    return Evidence(max(errors), at_most=0.05, note=", ".join(f"{s:.2f}" for s in slopes))


@claim(
    SLUG,
    "linear and soft Bellman contractions, g from 0.1 to 0.9: the squared distance falls at least as t^-2 (the largest "
    "exponent)",
    broken={"half the weight": {"weight": lambda t: 1 / (t + 2.0)}},
    reason="only for g up to 1/2: -0.4 at g = 0.9, as the closed form says; no constant can mend an exponent",
)
def is_quadratic_in_time(weight=open_loop, *, scale):
    slopes = [_slope(build, g, weight) for build in (_linear, _bellman) for g in FACTORS]
    return Evidence(max(slopes), at_most=-2.0, note=", ".join(f"{s:.2f}" for s in slopes))


@claim(
    SLUG,
    "linear contractions of factor up to 1/2: the squared distance falls at least as t^-1.95",
    broken={"half the weight": {"weight": lambda t: 1 / (t + 2.0)}},
)
def is_quadratic_for_strong_contractions(weight=open_loop, *, scale):
    return Evidence(max(_slope(_linear, g, weight) for g in FACTORS[:3]), at_most=-1.95)


def _noisy(problem, size):
    """The same error at every application."""
    return FixedPoint(lambda x: problem.operator(x) + size, problem.init, solution=problem.solution)


@claim(
    SLUG,
    "a constant error in every application: the distance levels off at a floor proportional to it (exponent within 0.1 "
    "of 1)",
    broken={"error that fades": {"noisy": lambda problem, size: problem}},
)
def errors_leave_a_floor(noisy=_noisy, *, scale):
    sizes = np.geomspace(1e-4, 1e-1, 4)
    with jax.enable_x64(True):
        floors = [
            run(noisy(_linear(0.3), float(s)), AveragedIteration(), steps=20_000, every=20_000).last("distance").item()
            for s in sizes
        ]
    return Evidence(float(abs(np.polyfit(np.log(sizes), np.log(floors), 1)[0] - 1)), at_most=0.1)
