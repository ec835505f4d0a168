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
from attractor.papers.words import Evidence, cached, claim, first_step, paired_difference, paired_ratio, seed, sizes
from attractor.problems.bounded_systems import bounded_systems
from attractor.second_order.affine_scaling import SCALINGS, MixedScaling, ScaledTrustRegion, coleman_li

STEPS = 200
NEVER = 10 * STEPS  # what a run that does not get there counts as


def _inverted(x, gradient, lower, upper):
    """Thick where the bound is near."""
    return 1 / coleman_li(x, gradient, lower, upper)


def _behind(x, gradient, lower, upper):
    """The distance to the bound that the step moves away from."""
    return coleman_li(x, -gradient, lower, upper)


def _ones(x, gradient, lower, upper):
    return jnp.ones_like(x)


# Weights of the scalings and of the damaged ones, and whether the steps know of the bounds at all.
LANES = {
    "Coleman-Li": ((1, 0, 0, 0, 0, 0, 0), True), "Heinkenschloss-Ulbrich": ((0, 1, 0, 0, 0, 0, 0), True),
    "Kanzow-Klug": ((0, 0, 1, 0, 0, 0, 0), True), "Hager-Mair-Zhang": ((0, 0, 0, 1, 0, 0, 0), True),
    "mix": ((1, 1, 1, 1, 0, 0, 0), True), "mix, no bounds": ((1, 1, 1, 1, 0, 0, 0), False),
    "inverted": ((0, 0, 0, 0, 1, 0, 0), True), "bound behind": ((0, 0, 0, 0, 0, 1, 0), True),
    "no scaling": ((0, 0, 0, 0, 0, 0, 1), True),
}  # fmt: skip
SINGLE = list(LANES)[:4]
ALL = (*SCALINGS, _inverted, _behind, _ones)


@cached
def _runs(scale):
    """Per lane: steps to a residual of 1e-6 over all systems and starts, and whether every iterate was inside."""
    with jax.enable_x64(True):
        systems, starts = bounded_systems(), sizes(scale, starts=(20, 200))["starts"]
        lower, upper = (np.stack([getattr(s, bound) for s in systems.values()]) for bound in ("lower", "upper"))
        share = np.random.default_rng(seed(0)).uniform(size=(starts, *lower.shape))

        def one(weights, bounded, system, lower, upper, share):
            start = lower + (upper - lower) * share
            problem = Composite.least_squares(
                lambda x: jax.lax.switch(system, [s.residuals for s in systems.values()], x), start
            )
            known = jnp.where(bounded, lower, -jnp.inf), jnp.where(bounded, upper, jnp.inf)
            method = ScaledTrustRegion(*known, MixedScaling(weights, ALL))

            def step(carry, _):
                x, state = method.step(problem, *carry, jr.key(0))
                return (x, state), (jnp.linalg.norm(problem.inner(x, None)), ((lower < x) & (x < upper)).all())

            return jax.lax.scan(step, (start, method.init(problem, start, jr.key(0))), length=STEPS)[1]

        over_starts = jax.vmap(one, (None, None, None, None, None, 0))
        over_systems = jax.vmap(over_starts, (None, None, 0, 0, 0, 1))
        over_lanes = jax.jit(jax.vmap(over_systems, (0, 0, None, None, None, None)))
        weights, bounded = (jnp.asarray(part) for part in zip(*LANES.values(), strict=True))
        residuals, inside = over_lanes(weights.astype(float), bounded, jnp.arange(len(systems)), lower, upper, share)
        steps = first_step(residuals, 1e-6, np.arange(1, STEPS + 1)).reshape(len(LANES), -1)
    return {lane: (s, bool(i.all())) for lane, s, i in zip(LANES, steps, np.asarray(inside), strict=True)}


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
    "12 systems with bounds, 20 random starts each: every iterate of every scaling is strictly inside",
    source="paper",
    broken={"steps that know no bounds": {"lanes": ("mix, no bounds",)}},
)
def stays_inside(lanes=(*SINGLE, "mix"), *, scale):
    return Evidence.of_cases({lane: float(_runs(scale)[lane][1]) for lane in lanes}, at_least=1.0)


DAMAGED = {name: {"mix": name} for name in ("inverted", "bound behind", "no scaling")}


@claim(
    "240 runs with bounds: the mix of four scalings solves at least as many (1e-6, 200 steps) as each single one",
    source="scaled",
    broken=DAMAGED,
)
def solves_as_many_as_each(mix="mix", *, scale):
    solved = {lane: np.isfinite(_runs(scale)[lane][0]) for lane in (mix, *SINGLE)}
    gains = {lane: paired_difference(solved[mix], solved[lane]) for lane in SINGLE}
    return Evidence.of_cases(gains, at_least=0.0, note=", ".join(f"{k} {v.sum()}" for k, v in solved.items()))


def _steps(scale, lanes):
    return {lane: np.minimum(_runs(scale)[lane][0], NEVER) for lane in lanes}


@claim(
    "240 runs with bounds: the mix takes fewer steps than each of the four scalings alone (ratio at most 1)",
    source="scaled",
    broken=DAMAGED,
)
def is_faster_than_each(mix="mix", *, scale):
    steps = _steps(scale, (mix, *SINGLE))
    return Evidence.of_cases({lane: paired_ratio(steps[mix], steps[lane]) for lane in SINGLE}, at_most=1.0)


@claim(
    "240 runs with bounds: the mix's median number of steps is at most that of the worst single scaling",
    source="ours",
    broken={name: DAMAGED[name] for name in ("inverted", "bound behind")},
)
def is_no_slower_than_the_worst(mix="mix", *, scale):
    medians = {lane: float(np.median(steps)) for lane, steps in _steps(scale, (mix, *SINGLE)).items()}
    return Evidence(medians[mix] / max(medians[lane] for lane in SINGLE), at_most=1.0, note=f"{medians}")
