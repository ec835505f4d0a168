"""Nonlinear equations with bounds: affine scalings of the trust region, mixed.

```python
from attractor import Composite, run
from attractor.problems import bounded_systems
from attractor.second_order import MixedScaling, ScaledTrustRegion, coleman_li, kanzow_klug

residuals, lower, upper = bounded_systems()["Himmelblau"]
mix = MixedScaling(weights=(0.5, 0.5), scalings=(coleman_li, kanzow_klug))
problem = Composite.least_squares(residuals, init=(lower + upper) / 2)
print(run(problem, ScaledTrustRegion(lower, upper, mix), steps=20).final)  # (3, 2): the only root in the box
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
BROKEN = {"inverted": lambda *box: 1 / coleman_li(*box), "no scaling": lambda x, *rest: jnp.ones_like(x),
          "bound behind": lambda x, gradient, *bounds: coleman_li(x, -gradient, *bounds)}  # fmt: skip
DAMAGED = {name: {"mix": name} for name in BROKEN}
SINGLE = ("Coleman-Li", "Heinkenschloss-Ulbrich", "Kanzow-Klug", "Hager-Mair-Zhang")
WEIGHTS = dict(zip((*SINGLE, *BROKEN), np.eye(7), strict=True))
WEIGHTS |= dict.fromkeys(("mix", "no bounds"), np.eye(7)[:4].sum(0))


@cached
def _runs(scale):
    """Per scaling: steps to a residual of 1e-6 in all runs, ten times the most if not reached; was all inside?"""
    with jax.enable_x64(True):
        systems, starts = bounded_systems(), sizes(scale, starts=(20, 200))["starts"]
        lower, upper = (np.stack([getattr(s, bound) for s in systems.values()]) for bound in ("lower", "upper"))
        share = np.random.default_rng(seed(0)).uniform(size=(starts, *lower.shape))

        def one(weights, bounded, system, lower, upper, share):
            start = lower + (upper - lower) * share
            residuals = lambda x: jax.lax.switch(system, [s.residuals for s in systems.values()], x)  # noqa: E731
            problem, known = Composite.least_squares(residuals, start), jnp.where(bounded, 0.0, jnp.inf)
            method = ScaledTrustRegion(lower - known, upper + known,
                                       MixedScaling(weights, (*SCALINGS, *BROKEN.values())))  # fmt: skip

            def step(carry, _):
                x, state = method.step(problem, *carry, jr.key(0))  # pyright: ignore[reportCallIssue]
                return (x, state), (jnp.linalg.norm(residuals(x)), ((lower < x) & (x < upper)).all())

            return jax.lax.scan(step, (start, method.init(problem, start, jr.key(0))), length=STEPS)[1]

        over_systems = jax.vmap(jax.vmap(one, (None,) * 5 + (0,)), (None, None, 0, 0, 0, 1))
        over_kinds = jax.jit(jax.vmap(over_systems, (0, 0) + (None,) * 4))
        kinds = jnp.stack([*WEIGHTS.values()]), jnp.array([name != "no bounds" for name in WEIGHTS])
        residuals, inside = over_kinds(*kinds, jnp.arange(len(systems)), lower, upper, share)
    steps = np.minimum(first_step(residuals, 1e-6, np.arange(1, STEPS + 1)).reshape(len(WEIGHTS), -1), 10 * STEPS)
    return {kind: (s, bool(i.all())) for kind, s, i in zip(WEIGHTS, steps, np.asarray(inside), strict=True)}


@claim(
    "1e-9 from a bound all scalings and their mix are at most 1e-8; inside, positive, at most width (or 1) + gradient",
    source="scaled", broken={name: {"scalings": (*SCALINGS, scaling)} for name, scaling in BROKEN.items()})  # fmt: skip
def vanishes_at_active_bounds(scalings=SCALINGS):
    """The largest value there, where the negative gradient points across; infinite if not positive or too large."""
    rng, values = np.random.default_rng(seed(0)), {}
    lower, width, size, share = rng.uniform(0.5, 2, (4, 1000))
    upper, gradient = lower + width, size * rng.choice([-1, 1], 1000)
    active, within = np.where(gradient > 0, lower + 1e-9, upper - 1e-9), lower + width * share / 2.5
    with jax.enable_x64(True):
        for i, scaling in enumerate((*scalings, MixedScaling((1.0,) * len(scalings), scalings))):
            there, inner = (np.asarray(scaling(*map(jnp.asarray, (x, gradient, lower, upper))))
                            for x in (active, within))  # fmt: skip
            sound = ((inner > 0) & (inner <= np.maximum(width, 1) + size)).all() and (there > 0).all()
            values["mix" if i == len(scalings) else f"scaling {i}"] = float(there.max()) if sound else np.inf
    return Evidence.of_cases(values, at_most=1e-8)


@claim("12 systems with bounds, 20 random starts each: every iterate of every scaling is strictly inside",
       source="paper", broken={"steps that know no bounds": {"kinds": ("no bounds",)}})  # fmt: skip
def stays_inside(kinds=(*SINGLE, "mix"), *, scale):
    return Evidence.of_cases({kind: float(_runs(scale)[kind][1]) for kind in kinds}, at_least=1.0)


@claim("240 runs with bounds: the mix of four scalings solves at least as many (1e-6, 200 steps) as each single one",
       source="scaled", broken=DAMAGED,
       reason="234, as Coleman and Li alone: of 240 runs the two lose the same number")  # fmt: skip
def solves_as_many_as_each(mix="mix", *, scale):
    solved = {kind: _runs(scale)[kind][0] <= STEPS for kind in (mix, *SINGLE)}
    gains = {kind: paired_difference(solved[mix], solved[kind]) for kind in SINGLE}
    return Evidence.of_cases(gains, at_least=0.0, note=", ".join(f"{kind} {s.sum()}" for kind, s in solved.items()))


@claim("240 runs with bounds: the mix takes fewer steps than each of the four scalings alone (ratio at most 1)",
       source="scaled", broken=DAMAGED,
       reason="fewer than three of the four; as many as Coleman's and Li's: 1.01 times")  # fmt: skip
def is_faster_than_each(mix="mix", *, scale):
    ratios = {kind: paired_ratio(_runs(scale)[mix][0], _runs(scale)[kind][0]) for kind in SINGLE}
    return Evidence.of_cases(ratios, at_most=1.0)


@claim("240 runs with bounds: the mix's median number of steps is at most that of the worst single scaling",
       source="ours", broken={name: DAMAGED[name] for name in ("inverted", "bound behind")})  # fmt: skip
def is_no_slower_than_the_worst(mix="mix", *, scale):
    medians = {kind: float(np.median(_runs(scale)[kind][0])) for kind in (mix, *SINGLE)}
    return Evidence(medians[mix] / max(medians[kind] for kind in SINGLE), at_most=1.0, note=f"{medians}")
