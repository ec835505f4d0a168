"""Acceleration as a damped system: where Nesterov's method and triple momentum arrive, the heavy ball may cycle.

```python
from attractor import problems, run
from attractor.optim import heavy_ball, nesterov, triple_momentum

problem = problems.ridge()
L, mu = problem.constants["L"], problem.constants["mu"]
for method in (nesterov, triple_momentum, heavy_ball):
    trace = run(problem, method(1 / L, condition=L / mu), steps=200)
    print(method.__name__, trace.last("loss").item() - problem.optimum)
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.linalg import expm

from attractor.engine import run
from attractor.optim.momentum import heavy_ball, nesterov, triple_momentum
from attractor.papers import Evidence, claim
from attractor.problem import Minimization, norm
from attractor.problems.convex import logistic_regression

SLUG = "passivity-immersion-acceleration-ode"


def _three_slopes(x):
    """Strongly convex and smooth, mu = 1, L = 25: its derivative is 25x below 1, x + 24 up to 2, then 25x - 24."""
    middle, last = jnp.clip(x - 1, 0, 1), jnp.maximum(x - 2, 0)
    below = jnp.minimum(x, 1)
    return 12.5 * below**2 + 25 * middle + 0.5 * middle**2 + 26 * last + 12.5 * last**2


@claim(
    SLUG,
    "a one-dimensional smooth, strongly convex loss, each method with its own optimal parameters: Nesterov's method "
    "and triple momentum end within 1e-8 of the minimum, the heavy ball more than 0.1 away (else infinite)",
    broken={"heavy ball": {"methods": (nesterov, heavy_ball)}},
)
def only_the_heavy_ball_cycles(methods=(nesterov, triple_momentum), *, scale):
    with jax.enable_x64(True):
        problem = Minimization(_three_slopes, jnp.asarray(3.3))
        probes = {"distance": lambda problem, x, key: jnp.abs(x)}
        ours, cycle = (
            [run(problem, m(1 / 25, 25.0), steps=2_000, every=1, probes=probes)["distance"].values[0, 0] for m in some]
            for some in (methods, (heavy_ball,))
        )
    cycles = np.isfinite(cycle[0]).all() and cycle[0][-10:].max() > 0.1
    return Evidence(float(max(d[-1] for d in ours)) if cycles else np.inf, at_most=1e-8)


def _quadratic(condition):
    curvature = jnp.geomspace(1 / condition, 1.0, 50)
    return Minimization(lambda x: 0.5 * jnp.sum(curvature * x**2), jnp.ones(50)), 1.0, condition


def _logistic():
    known = logistic_regression(l2=3e-3)
    return Minimization(known.loss, jnp.zeros(31), known.full), known.constants["L"], known.constants["L"] / 3e-3


def _plain(learning_rate, condition):
    return optax.sgd(learning_rate)


@claim(
    SLUG,
    "quadratic and logistic regression of condition about 1,000: Nesterov's distance shrinks at least as fast as "
    "(1 - 1/√κ)^(1/2) a step, triple momentum's as 1 - 1/√κ (smallest ratio of logarithms)",
    broken={"no momentum": {"methods": (_plain, _plain)}},
)
def converges_at_the_rates(methods=(nesterov, triple_momentum), *, scale):
    speeds = []
    with jax.enable_x64(True):
        for problem, smoothness, condition in (_quadratic(1_000.0), _logistic()):
            solution = run(problem, nesterov(1 / smoothness, condition), steps=6_000, every=6_000).final[0, 0]
            probes = {"distance": lambda problem, x, key, solution=solution: norm(x - solution)}
            for method, power in zip(methods, (0.5, 1.0), strict=True):
                trace = run(problem, method(1 / smoothness, condition), steps=600, every=10, probes=probes)
                distance = trace["distance"].values[0, 0]
                slope = np.polyfit(np.arange(20, 61) * 10, np.log(distance[20:]), 1)[0]
                speeds.append(slope / (power * np.log(1 - condition**-0.5)))
    return Evidence(float(min(speeds)), at_least=0.98, note=", ".join(f"{s:.3f}" for s in speeds))


def _system(curvature, mu, step, damping=2.0):
    """The high-resolution equation of Nesterov's method on a quadratic, as a linear system in (x, x')."""
    friction = damping * mu**0.5 + step**0.5 * curvature
    return np.array([[0.0, 1.0], [-(1 + (mu * step) ** 0.5) * curvature, -friction]])


@claim(
    SLUG,
    "quadratics: the gap between Nesterov's iterates and the differential equation at t = k √s up to t = 50 shrinks as "
    "a power of the step s of at least 0.4",
    broken={"half the friction": {"system": functools.partial(_system, damping=1.0)}},
)
def follows_the_equation(system=_system, *, scale):
    mu, steps, gaps = 0.01, np.geomspace(1e-4, 1e-1, 7), []
    for step in steps:
        beta, worst = (1 - (mu * step) ** 0.5) / (1 + (mu * step) ** 0.5), 0.0
        for curvature in (0.01, 0.1, 1.0):
            before = now = x = 1.0
            state = np.array([1.0, -2 * step**0.5 * curvature / (1 + (mu * step) ** 0.5)])
            flow = expm(step**0.5 * system(curvature, mu, step))
            for _ in range(int(50 / step**0.5)):
                before, now = now, x - step * curvature * x
                x, state = now + beta * (now - before), flow @ state
                worst = max(worst, abs(x - state[0]))
        gaps.append(worst)
    return Evidence(
        float(np.polyfit(np.log(steps), np.log(gaps), 1)[0]), at_least=0.4, note=f"gaps {gaps[0]:.1e} … {gaps[-1]:.1e}"
    )
