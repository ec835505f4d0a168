"""Levenberg-Marquardt whose damping follows powers of the residual and the gradient, for degenerate equations.

```python
import jax.numpy as jnp
from attractor import run
from attractor.comparison import tune
from attractor.objectives import Composite
from attractor.second_order import ResidualLevenbergMarquardt

circle = Composite.least_squares(lambda x: jnp.array([x @ x - 1]), init=jnp.array([1.5, 0.5]))  # zeros: not isolated
trace = run(circle, ResidualLevenbergMarquardt(), steps=12)
print(trace["loss"].values[0, 0], trace.final)
```
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.comparison import tune
from attractor.objectives import Composite
from attractor.papers.words import Evidence, cached, claim, paired_ratio, run, seed, seeds
from attractor.problems.mass_action import mass_action_network
from attractor.registry import LogUniform
from attractor.second_order.levenberg_marquardt import ResidualLevenbergMarquardt
from attractor.trees import norm


def _circle(x):
    return jnp.array([x @ x - 1])


def _curve(x):
    """Zeros on a parabola; across it one curvature is 1, the other vanishes with the fourth power of the distance."""
    away = x[0] - x[1] ** 2
    return jnp.array([away, away**2 * jnp.exp(x[1])])


def _double_root(x):
    return jnp.array([(x[0] + x[1]) ** 2, x[0] - x[1]])


# Residuals, starts near the zeros as a function of a uniform number, and a measure of the distance to them.
EQUATIONS = {
    "circle": (_circle, lambda u: 1.02 * jnp.array([jnp.cos(6 * u), jnp.sin(6 * u)]), lambda x: norm(x) - 1),
    "parabola": (_curve, lambda u: jnp.array([u**2 + 0.02, u]), lambda x: x[0] - x[1] ** 2),
    "double root": (_double_root, lambda u: jnp.array([u, 1.0]), norm),
}


@cached
def _equation(name):
    """One problem object for each, so that all powers share one compiled program."""
    residuals, start, distance = EQUATIONS[name]
    probes = {"distance": lambda problem, x, key: jnp.abs(distance(x))}
    return Composite.least_squares(residuals, init=lambda key: start(jr.uniform(key)), probes=probes)


def _distances(name, power):
    """To the zeros along runs from 20 starts: (20, 41)."""
    with jax.enable_x64(True):
        sweep = {"power": [power]}
        trace = run(_equation(name), ResidualLevenbergMarquardt, steps=40, every=1, seeds=seeds(20), sweep=sweep)
        return trace["distance"].values[0]


def _order(distances):
    """The exponent q of d+ ~ d^q from the last three distances above rounding errors; 0 if they do not get there."""
    log = np.log(distances[distances > 1e-13])
    arrived = 3 <= len(log) < len(distances)
    return float((log[-1] - log[-2]) / (log[-2] - log[-3])) if arrived else 0.0


@claim(
    "zeros that fill a circle or parabola, power 1: the distance falls with order at least 1.8 from each of 20 starts",
    source="ours",
    broken={
        "fixed damping": {"power": 0.0},
        "power too small": {"power": 0.5},
        "power too large": {"power": 4.0},
    },
)
def is_quadratic_at_zeros_that_are_not_isolated(power=1.0):
    orders = {name: min(map(_order, _distances(name, power))) for name in ("circle", "parabola")}
    return Evidence.of_cases(orders, at_least=1.8)


@claim(
    "double root (order 1/2), power 1: the distance falls by a factor of at most 0.9 in each of the steps 10 to 40",
    source="ours",
    broken={"fixed damping": {"power": 0.0}, "power too small": {"power": 0.5}},
)
def is_linear_at_double_roots(power=1.0):
    distances = _distances("double root", power)
    factors = distances[:, 11:] / distances[:, 10:-1]
    return Evidence(float(factors.max()), at_most=0.9, note=f"factors {factors.min():.4f} to {factors.max():.4f}")


WEIGHTS = {"residual_weight": LogUniform(1e-3, 1e1), "gradient_weight": LogUniform(1e-3, 1e1)}


def _residual(problem, x, key):
    return jnp.sqrt(2 * problem.loss(x, None))


@cached
def _steps(method, **space):
    """Steps to a residual of 1e-10 from 20 starts, infinite if it is not met; tuned on 20 others."""
    others = [seed(1_000 + i) for i in range(20)]
    options = {"budget": 8, "steps": 100, "every": 1, "target": 1e-10, "probes": {"residual": _residual}}
    with jax.enable_x64(True):
        network = mass_action_network(seed=seed())
        return tune(network, (method, space), seeds=seeds(20), tuning_seeds=others, **options).steps_to_target


FIXED = functools.partial(ResidualLevenbergMarquardt, power=0.0)
FIXED_BY_ONE = functools.partial(FIXED, gradient_weight=0.0)


def _undamped(residual_weight, gradient_weight):
    return ResidualLevenbergMarquardt(0.0, 0.0)


@claim(
    "mass-action network with conserved totals: residual at most 1e-10 within 100 steps from at least 18 of 20 starts",
    source="ours",
    broken={"no damping": {"method": _undamped}},
)
def finds_steady_states(method=ResidualLevenbergMarquardt):
    return Evidence(float(np.isfinite(_steps(method, **WEIGHTS)).mean()), at_least=0.9)


@claim(
    "mass-action network, residual 1e-10, both tuned alike: in at most 0.95 of the steps of a fixed damping",
    source="ours",
    broken={"no damping": {"method": _undamped}, "fixed damping": {"method": FIXED}},
)
def is_faster_than_fixed_damping(method=ResidualLevenbergMarquardt):
    ours, fixed = _steps(method, **WEIGHTS), _steps(FIXED_BY_ONE, residual_weight=LogUniform(1e-4, 1e1))
    note = f"medians {np.median(ours):g} and {np.median(fixed):g} steps"
    given = {"a fixed damping arrives from most starts": bool(np.isfinite(fixed).mean() > 0.5)}
    return Evidence(paired_ratio(ours, fixed), at_most=0.95, given=given, note=note)
