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

from attractor.optim.momentum import heavy_ball, nesterov, triple_momentum
from attractor.papers.words import Evidence, cached, claim, log_slopes, run
from attractor.problem import Minimization
from attractor.problems.convex import logistic_regression
from attractor.trees import norm


def _three_slopes(x):
    """Strongly convex and smooth, mu = 1, L = 25: its derivative is 25x below 1, x + 24 up to 2, then 25x - 24."""
    middle, last = jnp.clip(x - 1, 0, 1), jnp.maximum(x - 2, 0)
    below = jnp.minimum(x, 1)
    return 12.5 * below**2 + 25 * middle + 0.5 * middle**2 + 26 * last + 12.5 * last**2


@cached
def _distances(method):
    """From the minimum of the three slopes, at each of 2,000 steps with the method's own optimal parameters."""
    with jax.enable_x64(True):
        probes = {"distance": lambda problem, x, key: jnp.abs(x)}
        trace = run(Minimization(_three_slopes, jnp.asarray(3.3)), method(1 / 25, 25.0), steps=2_000, every=1,
                    probes=probes)  # fmt: skip
    return trace["distance"].values[0, 0]


@claim("smooth, strongly convex: Nesterov's method and triple momentum end within 1e-8, the heavy ball over 0.1 away",
       source="ours", broken={"heavy ball": {"methods": (nesterov, heavy_ball)}}, deterministic=True)  # fmt: skip
def only_the_heavy_ball_cycles(methods=(nesterov, triple_momentum)):
    cycle = _distances(heavy_ball)
    cycles = np.isfinite(cycle).all() and cycle[-10:].max() > 0.1
    return Evidence(float(max(_distances(m)[-1] for m in methods)) if cycles else np.inf, at_most=1e-8)


@cached
def _of_condition_1000():
    """Problems by name, each with its L, its condition number and its solution; in double precision."""
    curvature = jnp.geomspace(1e-3, 1.0, 50)
    quadratic = Minimization(lambda x: 0.5 * jnp.sum(curvature * x**2), jnp.ones(50))
    known = logistic_regression(l2=3e-3)
    logistic, smoothness = Minimization(known.loss, jnp.zeros(31), known.full), known.constants["L"]
    listed = {"quadratic": (quadratic, 1.0, 1_000.0), "logistic": (logistic, smoothness, smoothness / 3e-3)}
    return {name: (problem, L, kappa, run(problem, nesterov(1 / L, kappa), steps=6_000, every=6_000).final[0, 0])
            for name, (problem, L, kappa) in listed.items()}  # fmt: skip


@claim("condition 1e3: log contraction is at least 0.98 of that of 1 - 1/√κ for triple momentum, its root for Nesterov",
       source="scaled", deterministic=True,
       broken={"no momentum": {"methods": (lambda rate, condition: optax.sgd(rate),) * 2}})  # fmt: skip
def converges_at_the_rates(methods=(nesterov, triple_momentum)):
    speeds = {}
    with jax.enable_x64(True):
        for name, (problem, smoothness, condition, solution) in _of_condition_1000().items():
            probes = {"distance": lambda problem, x, key, solution=solution: norm(x - solution)}
            for method, power, rate in zip(methods, (0.5, 1.0), ("root of the rate", "rate"), strict=True):
                trace = run(problem, method(1 / smoothness, condition), steps=600, every=10, probes=probes)
                distance = trace["distance"].values[0, 0]
                slope = np.polyfit(np.arange(20, 61) * 10, np.log(distance[20:]), 1)[0]
                speeds[f"{name}, {rate}"] = float(slope / (power * np.log(1 - condition**-0.5)))
    return Evidence.of_cases(speeds, at_least=0.98)


def _system(curvature, mu, step, damping=2.0):
    """The high-resolution equation of Nesterov's method on a quadratic, as a linear system in (x, x')."""
    friction = damping * mu**0.5 + step**0.5 * curvature
    return np.array([[0.0, 1.0], [-(1 + (mu * step) ** 0.5) * curvature, -friction]])


@claim("quadratics, t = k √s to 50: Nesterov's gap to the equation shrinks as a power of the step s of at least 0.4",
       source="ours", broken={"half the friction": {"system": functools.partial(_system, damping=1.0)}},
       deterministic=True)  # fmt: skip
def follows_the_equation(system=_system):
    mu, steps, gaps = 0.01, np.geomspace(1e-4, 1e-1, 7), []
    for step in steps:
        beta, gap = (1 - (mu * step) ** 0.5) / (1 + (mu * step) ** 0.5), 0.0
        for curvature in (0.01, 0.1, 1.0):
            before = now = x = 1.0
            state = np.array([1.0, -2 * step**0.5 * curvature / (1 + (mu * step) ** 0.5)])
            flow = expm(step**0.5 * system(curvature, mu, step))
            for _ in range(int(50 / step**0.5)):
                before, now = now, x - step * curvature * x
                x, state = now + beta * (now - before), flow @ state
                gap = max(gap, abs(x - state[0]))
        gaps.append(gap)
    return Evidence(float(log_slopes(steps, gaps)[0]), at_least=0.4, note=f"gaps {gaps[0]:.1e} … {gaps[-1]:.1e}")
