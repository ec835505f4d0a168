"""Nonlinear equations with bounds: affine scalings of the trust region, mixed.

```python
import jax.numpy as jnp
from attractor import run
from attractor.objectives import Composite
from attractor.second_order import MixedScaling, ScaledTrustRegion, coleman_li, kanzow_klug

himmelblau = Composite.least_squares(
    lambda x: jnp.array([x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7]), init=jnp.array([0.5, 0.5])
)
mix = MixedScaling(weights=(0.5, 0.5), scalings=(coleman_li, kanzow_klug))
trace = run(himmelblau, ScaledTrustRegion(lower=0.0, upper=5.0, scaling=mix), steps=20)
print(trace.final)  # (3, 2): the only root in the box
```
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.objectives import Composite
from attractor.papers.words import Evidence, cached, claim, seed
from attractor.second_order.affine_scaling import SCALINGS, MixedScaling, ScaledTrustRegion

DIM, STEPS, STARTS = 10, 200, 5
NODES = (jnp.arange(DIM) + 1.0) / (DIM + 1)


def _pairs(first, second):
    """A system of two equations, repeated."""
    return lambda x: jnp.concatenate([first(x[::2], x[1::2]), second(x[::2], x[1::2])])


def _neighbors(x):
    return jnp.pad(x[:-1], (1, 0)), jnp.pad(x[1:], (0, 1))


def _broyden(x):
    left, right = _neighbors(x)
    return (3 - 2 * x) * x - left - 2 * right + 1


def _boundary_value(x):
    left, right = _neighbors(x)
    return 2 * x - left - right + (x + NODES + 1) ** 3 / (2 * (DIM + 1) ** 2)


def _integral(x):
    kernel = jnp.minimum(NODES[:, None], NODES) * (1 - jnp.maximum(NODES[:, None], NODES))
    return x + kernel @ (x + NODES + 1) ** 3 / (2 * (DIM + 1))


def _almost_linear(x):
    return jnp.append(x[:-1] + x.sum() - DIM - 1, x.prod() - 1)


def _transport(x):
    """Chandrasekhar's equation, almost critical."""
    mu = (jnp.arange(DIM) + 0.5) / DIM
    return x - 0.99 / (2 * DIM) * x * (mu[:, None] / (mu[:, None] + mu) @ x) - 1


def _propane(x):
    """Combustion of propane in air, the equilibrium of ten products reduced to five equations; twice."""

    def one(y):
        r = {5: 0.193, 6: 0.002597 / 40**0.5, 7: 0.003448 / 40**0.5, 8: 0.00001799 / 40, 9: 0.0002155 / 40**0.5,
             10: 0.00003846 / 40}  # fmt: skip
        a, b, c, d, e = y
        return jnp.stack([
            a * b + a - 3 * e,
            2 * a * b + a + b * c**2 + r[8] * b - 10 * e + 2 * r[10] * b**2 + r[7] * b * c + r[9] * b * d,
            2 * b * c**2 + 2 * r[5] * c**2 - 8 * e + r[6] * c + r[7] * b * c,
            r[9] * b * d + 2 * d**2 - 40 * e,
            a * (b + 1) + r[10] * b**2 + b * c**2 + r[8] * b + r[5] * c**2 + d**2 - 1 + r[6] * c + r[7] * b * c
            + r[9] * b * d,
        ])  # fmt: skip

    return jnp.concatenate([one(x[:5]), one(x[5:])])


# Residuals and bounds (of the odd and of the even coordinates, where these differ).
SYSTEMS = {
    "Broyden tridiagonal": (_broyden, -1.0, 0.0),
    "boundary value": (_boundary_value, -0.5, 0.0),
    "integral equation": (_integral, -0.5, 0.5),
    "root on the upper bound": (_pairs(lambda a, b: 10 * (b - a**2), lambda a, b: 1 - a), -3.0, 1.0),
    "root on the lower bound": (lambda x: x * (1 + jnp.roll(x, 1) ** 2), 0.0, 5.0),
    "root in a corner": (_pairs(lambda a, b: a**2 + b - 1, lambda a, b: a * b - b + a - 1), 0.0, 1.0),
    "badly scaled": (
        _pairs(lambda a, b: 1e4 * a * b - 1, lambda a, b: jnp.exp(-a) + jnp.exp(-b) - 1.0001), 0.0, 10.0,
    ),
    "Himmelblau": (_pairs(lambda a, b: a**2 + b - 11, lambda a, b: a + b**2 - 7), 0.0, 5.0),
    "Ferraris and Tronconi": (
        _pairs(
            lambda a, b: 0.5 * jnp.sin(a * b) - 0.25 * b / jnp.pi - 0.5 * a,
            lambda a, b: (1 - 0.25 / jnp.pi) * (jnp.exp(2 * a) - jnp.e) + jnp.e * b / jnp.pi - 2 * jnp.e * a,
        ),
        (0.25, 1.5), (1.0, 2 * jnp.pi),
    ),
    "almost linear": (_almost_linear, 0.0, 2.0),
    "propane": (_propane, 0.0, 50.0),
    "transport": (_transport, 0.0, 10.0),
}  # fmt: skip


def _inverted(x, gradient, lower, upper):
    """Thick where the bound is near."""
    return 1 / SCALINGS[0](x, gradient, lower, upper)


def _behind(x, gradient, lower, upper):
    """The distance to the bound that the step moves away from."""
    return SCALINGS[0](x, -gradient, lower, upper)


def _ones(x, gradient, lower, upper):
    return jnp.ones_like(x)


# Weights of the scalings and of the damaged ones, and whether the steps know of the bounds at all.
LANES = {
    "Coleman-Li": ((1, 0, 0, 0, 0, 0, 0), True),
    "Heinkenschloss-Ulbrich": ((0, 1, 0, 0, 0, 0, 0), True),
    "Kanzow-Klug": ((0, 0, 1, 0, 0, 0, 0), True),
    "Hager-Mair-Zhang": ((0, 0, 0, 1, 0, 0, 0), True),
    "mix": ((1, 1, 1, 1, 0, 0, 0), True),
    "mix, no bounds": ((1, 1, 1, 1, 0, 0, 0), False),
    "inverted": ((0, 0, 0, 0, 1, 0, 0), True),
    "bound behind": ((0, 0, 0, 0, 0, 1, 0), True),
    "no scaling": ((0, 0, 0, 0, 0, 0, 1), True),
}
SINGLE = list(LANES)[:4]
ALL = (*SCALINGS, _inverted, _behind, _ones)


def _bounds(which):
    """(systems, 1, DIM)."""
    each = [np.tile(s[which], DIM // np.size(s[which])) for s in SYSTEMS.values()]
    return np.stack(each).astype(float)[:, None]


@jax.jit
def _runs(weights, bounded, lower, upper, starts):
    """Residual norms, and whether the point is inside, along runs: (lanes, systems, starts, STEPS)."""
    systems = [residuals for residuals, _, _ in SYSTEMS.values()]

    def one(weights, bounded, system, lower, upper, start):
        problem = Composite.least_squares(lambda x: jax.lax.switch(system, systems, x), start)
        known = jnp.where(bounded, lower, -jnp.inf), jnp.where(bounded, upper, jnp.inf)
        method, key = ScaledTrustRegion(*known, MixedScaling(weights, ALL)), jr.key(0)

        def step(carry, _):
            x, state = method.step(problem, carry[0], carry[1], key)
            return (x, state), (jnp.linalg.norm(problem.inner(x, None)), ((lower < x) & (x < upper)).all())

        return jax.lax.scan(step, (start, method.init(problem, start, key)), length=STEPS)[1]

    over_starts = jax.vmap(one, (None, None, None, None, None, 0))
    over_systems = jax.vmap(over_starts, (None, None, 0, 0, 0, 0))
    over_lanes = jax.vmap(over_systems, (0, 0, None, None, None, None))
    return over_lanes(weights, bounded, jnp.arange(len(SYSTEMS)), lower, upper, starts)


@cached
def _results():
    """Per lane: steps to a residual of 1e-6 (infinite if not reached), and whether every iterate was inside."""
    lower, upper = _bounds(1), _bounds(2)
    starts = lower + (upper - lower) * np.random.default_rng(seed(0)).uniform(size=(len(SYSTEMS), STARTS, DIM))
    weights, bounded = (np.array(part) for part in zip(*LANES.values(), strict=True))
    with jax.enable_x64(True):
        arguments = (weights.astype(float), bounded, lower[:, 0], upper[:, 0], starts)
        residuals, inside = map(np.asarray, _runs(*map(jnp.asarray, arguments)))
    solved = residuals <= 1e-6
    steps = np.where(solved.any(-1), solved.argmax(-1) + 1.0, np.inf)
    return {lane: (s.ravel(), i.all()) for lane, s, i in zip(LANES, steps, inside, strict=True)}


@claim(
    "1e-9 from a bound all scalings and their mix are at most 1e-8; inside, positive, at most width (or 1) + gradient",
    source="scaled",
    broken={
        "inverted": {"scalings": (*SCALINGS, _inverted)},
        "bound behind": {"scalings": (*SCALINGS, _behind)},
        "no scaling": {"scalings": (*SCALINGS, _ones)},
    },
)
def vanishes_at_active_bounds(scalings=SCALINGS):
    """The largest value there, where the negative gradient points across; infinite if not positive or too large."""
    rng, values = np.random.default_rng(seed(0)), {}
    lower, width, size, share = rng.uniform(0.5, 2, (4, 1000))
    upper, sign = lower + width, rng.choice([-1, 1], 1000)
    names = [*(scaling.__name__.strip("_") for scaling in scalings), "mix"]
    with jax.enable_x64(True):
        for name, scaling in zip(names, (*scalings, MixedScaling((1.0,) * len(scalings), scalings)), strict=True):
            active = np.where(sign > 0, lower + 1e-9, upper - 1e-9)
            there = np.asarray(scaling(*map(jnp.asarray, (active, sign * size, lower, upper))))
            inner = np.asarray(scaling(*map(jnp.asarray, (lower + width * share / 2.5, sign * size, lower, upper))))
            sound = ((inner > 0) & (inner <= np.maximum(width, 1) + size)).all() and (there > 0).all()
            values[name] = float(there.max()) if sound else np.inf
    return Evidence.of_cases(values, at_most=1e-8)


@claim(
    "12 systems with bounds, 5 random starts each: every iterate of every scaling is strictly inside",
    source="paper",
    broken={"steps that know no bounds": {"lanes": ("mix, no bounds",)}},
)
def stays_inside(lanes=(*SINGLE, "mix")):
    return Evidence.of_cases({lane: float(_results()[lane][1]) for lane in lanes}, at_least=1.0)


DAMAGED = {name: {"mix": name} for name in ("inverted", "bound behind", "no scaling")}


@claim(
    "60 runs with bounds: the mix of four scalings solves at least as many (1e-6, 200 steps) as the best single one",
    source="scaled",
    broken=DAMAGED,
)
def solves_as_many_as_the_best(mix="mix"):
    solved = {lane: int(np.isfinite(_results()[lane][0]).sum()) for lane in (mix, *SINGLE)}
    return Evidence(solved[mix] - max(solved[lane] for lane in SINGLE), at_least=0, note=f"{solved}")


@claim(
    "60 runs with bounds: the mix's median number of steps is at most that of the worst single scaling",
    source="ours",
    broken={name: DAMAGED[name] for name in ("inverted", "bound behind")},
)
def is_no_slower_than_the_worst(mix="mix"):
    medians = {lane: float(np.median(_results()[lane][0])) for lane in (mix, *SINGLE)}
    return Evidence(medians[mix] / max(medians[lane] for lane in SINGLE), at_most=1.0, note=f"{medians}")
