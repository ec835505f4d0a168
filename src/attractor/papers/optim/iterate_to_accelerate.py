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

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.optim.averaged_iteration import AveragedIteration, open_loop
from attractor.papers.words import Evidence, cached, claim, first_step, key, log_slopes, run
from attractor.problem import FixedPoint

FACTORS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])  # all run at once, a row each
HALF = {"half the weight": {"weight": lambda t: 1 / (t + 2.0)}}
DISTANCES = {"distances": lambda problem, x, key: jnp.linalg.norm(x - problem.solution, axis=1)}


def _linear():  # x -> factor · x, but for a rotation of the coordinates
    return FixedPoint(lambda x: FACTORS[:, None] * x, jnp.ones((5, 4)), solution=jnp.zeros((5, 4)))


def _bellman():
    """Values of a random decision process with 10 states and 3 actions, under a soft maximum, by discount factor."""
    keys = jr.split(key(), 2)
    transitions, rewards = jax.nn.softmax(2 * jr.normal(keys[0], (10, 3, 10))), jr.normal(keys[1], (10, 3))

    def operator(v):
        ahead = jnp.einsum("sat,ft->fsa", transitions, v)
        return jax.nn.logsumexp(5 * (rewards + FACTORS[:, None, None] * ahead), axis=2) / 5

    start = jnp.zeros((5, 10))
    return FixedPoint(operator, start, solution=jax.lax.fori_loop(0, 400, lambda _, v: operator(v), start))


@cached
def _exponents(build, weight, steps=20_000):
    """By factor, of the squared distance against the last nine tenths of the steps."""
    with jax.enable_x64(True):
        trace = run(build(), AveragedIteration(weight), steps=steps, every=steps // 20, probes=DISTANCES)
    curves = np.maximum(trace["distances"].values[0, 0].T, 1e-300)
    return 2 * log_slopes(trace.dataset["step"].values, curves, since=steps // 10)


def _by_factor(name, values):
    return {f"{name}, g = {g}": v for g, v in zip(FACTORS, values, strict=False)}


@claim("linear contractions, g = 0.1 to 0.9: the squared distance falls as t^(-4 (1 - g)), the exponent within 0.05",
       source="ours", broken=HALF, deterministic=True)  # fmt: skip
def the_exponent_depends_on_the_factor(weight=open_loop):
    exponents = _exponents(_linear, weight)
    off = _by_factor("linear", abs(exponents + 4 * (1 - FACTORS)))
    return Evidence.of_cases(off, at_most=0.05, note=f"exponents {', '.join(f'{e:.2f}' for e in exponents)}")


@claim("linear and soft Bellman contractions, g = 0.1 to 0.9: the squared distance falls at least as fast as t^-2",
       source="paper", broken=HALF, reason="only for g up to 1/2: -0.4 at g = 0.9, as the closed form says; "
       "no constant can mend an exponent")  # fmt: skip
def is_quadratic_in_time(weight=open_loop, *, scale):
    steps = 20_000 if scale == "quick" else 500_000
    linear, bellman = _exponents(_linear, weight, steps), _exponents(_bellman, weight, steps)
    return Evidence.of_cases(_by_factor("linear", linear) | _by_factor("Bellman", bellman), at_most=-2.0)


@claim("linear contractions of factor up to 1/2: the squared distance falls at least as fast as t^-1.95",
       source="ours", broken=HALF, deterministic=True)  # fmt: skip
def is_quadratic_for_strong_contractions(weight=open_loop):
    return Evidence.of_cases(_by_factor("linear", _exponents(_linear, weight)[:3]), at_most=-1.95)


@claim("linear contractions, g = 0.1 to 0.9: the distance is 1e-3 of the first in no more steps than by x <- T(x)",
       source="ours", broken=HALF, deterministic=True, reason="Picard's iteration is geometric: "
       "it needs 3 steps at g = 0.1 and 66 at 0.9, a power of t many more")  # fmt: skip
def is_faster_than_plain_iteration(weight=open_loop):
    def steps(weight):
        trace = run(_linear(), AveragedIteration(weight), steps=20_000, every=1, probes=DISTANCES)
        curves = trace["distances"].values[0, 0].T
        return first_step(curves / curves[:, :1], 1e-3)

    return Evidence.of_cases(_by_factor("linear", steps(weight) / steps(1.0)), at_most=1.0)


@claim("a constant error at every step: the distance levels off in proportion to it (exponent within 0.1 of 1)",
       source="ours", broken={"error that fades": {"lasting": 0.0}}, deterministic=True)  # fmt: skip
def errors_leave_a_floor(lasting=1.0):
    errors = np.geomspace(1e-4, 1e-1, 4)
    with jax.enable_x64(True):
        problem = FixedPoint(lambda x: 0.3 * x + lasting * errors[:, None], jnp.ones((4, 4)),
                             solution=jnp.zeros((4, 4)), probes=DISTANCES)  # fmt: skip
        floors = run(problem, AveragedIteration(), steps=20_000, every=20_000)["distances"].values[0, 0, -1]
    return Evidence(float(abs(log_slopes(errors, floors)[0] - 1)), at_most=0.1)
