"""Singular values under SGD: noise of learning rate over batch moves them like charges, and training has three phases.

```python
import jax
import jax.numpy as jnp
from attractor.landscape import singular_value_langevin

start = jnp.array([1.2, 1.1, 1.0])
path = singular_value_langevin(start, lambda x: 1.0 - x, 3, 0.1, 1e-3, 3_000, jax.random.key(0))
print(path[::500])  # pulled to 1, and kept apart by the noise
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy.ndimage import label

from attractor.landscape import (
    coulomb_drift,
    singular_value_langevin,
    singular_value_phase,
    student_singular_values,
    wigner_surmise,
)
from attractor.papers.words import Evidence, cached, claim, key, mean, seeds


def _no_reflection(values, rows, variance):
    apart = values[:, None] - values + jnp.diag(jnp.full_like(values, jnp.inf))
    return variance * ((rows - len(values)) / (2 * values) + jnp.sum(1 / apart, 1) / 2)


@claim("6 x 4 matrix pulled to 0 under noise: the Langevin equation gives the mean singular values at 3 times, to 2 %",
       source="ours", broken={"images forgotten": {"drift": _no_reflection},
       "no repulsion": {"drift": lambda values, *_: 0 * values}})  # fmt: skip
def langevin_equation_is_that_of_the_matrix(drift=coulomb_drift, variance=0.5, step=2e-3, paths=1_000):
    start, times = jnp.array([3.0, 2.0, 1.5, 1.0]), np.array([0.2, 0.5, 2.0])
    follow = partial(singular_value_langevin, start, jnp.negative, 6, variance, step, 1_000, drift=drift)
    found = jax.jit(jax.vmap(lambda k: follow(k)[(times / step).astype(int) - 1]))(jr.split(key(), paths)).mean(0)
    rng, off = np.random.default_rng(seeds(1)[0]), {}
    for i, t in enumerate(times):
        noise = np.sqrt(variance / 2 * (1 - np.exp(-2 * t))) * rng.standard_normal((20_000, 6, 4))
        exact = np.linalg.svd(np.exp(-t) * np.eye(6, 4) * start + noise, compute_uv=False).mean(0)
        off[f"t = {t}"] = float(np.abs(found[i] / exact - 1).max())
    return Evidence.of_cases(off, at_most=0.02)


@partial(jax.jit, static_argnames=("largest", "steps", "every"))
def _sgd(start, teacher, keys, rates, batches, second, **how):
    def one(start, teacher, key, rate, batch):
        return student_singular_values(start, teacher, key, rate=rate, batch=batch, second=second, **how)

    return jax.vmap(one)(start, teacher, keys, rates, batches)


def _at_the_teacher(first, runs):
    return tuple(jnp.broadcast_to(w, (runs, *w.shape)) for w in (first, jnp.eye(len(first))))


RATES, BATCHES = (0.02, 0.04, 0.08), (2, 8)


@cached
def _fluctuations():
    """Variance over time of the singular values of a 4 x 4 layer at its optimum, by rate, batch and seed."""
    runs = [(rate, batch, s) for rate in RATES for batch in BATCHES for s in seeds(8)]
    turn = [np.linalg.qr(np.random.default_rng(i).standard_normal((4, 4)))[0] for i in (0, 1)]
    teacher = _at_the_teacher(np.float32(turn[0] * [1.6, 1.2, 0.8, 0.4] @ turn[1]), len(runs))
    keys = jnp.stack([jr.fold_in(jr.key(s), i) for i, (*_, s) in enumerate(runs)])
    rates, batches = (np.array([r[i] for r in runs]) for i in (0, 1))
    values = np.asarray(_sgd(teacher, teacher, keys, rates, batches, 0.0, largest=8, steps=10_000, every=20))
    return values[:, 100:].var(1).mean(1).reshape(len(RATES), len(BATCHES), -1)


@claim("4 x 4 tanh layer at its optimum, 6 settings: singular values' variance is s^2 / 2 of rate / batch, to 15 %",
       source="ours", broken={"root of the batch": {"power": 0.5}, "s^2": {"factor": 1.0}})  # fmt: skip
def variance_is_rate_over_batch(power=1.0, factor=0.5):
    found, cases = _fluctuations(), {}
    for i, rate in enumerate(RATES):
        for j, batch in enumerate(BATCHES):
            cases[f"{rate} / {batch}"] = mean(found[i, j] / (factor * 0.25 * rate / batch**power))
    return Evidence.of_cases(cases, within=(0.85, 1.15))


@cached
def _spacings(runs=4_000):
    teacher, (rates, batches) = _at_the_teacher(jnp.eye(2), runs), (np.full(runs, v) for v in (0.1, 2.0))
    keys = jr.split(key(), runs)
    values = np.asarray(_sgd(teacher, teacher, keys, rates, batches, 0.0, largest=2, steps=300, every=300))[:, 0]
    return values[:, 0] - values[:, 1]


@claim("2 x 2 tanh layer, equal singular values: 4,000 spacings under SGD are within 0.05 (KS) of Wigner's surmise",
       source="scaled", broken={"independent levels": {"law": lambda s: np.exp(-s)},
       "complex matrices": {"law": lambda s: 32 / np.pi**2 * s**2 * np.exp(-4 * s**2 / np.pi)}})  # fmt: skip
def spacings_follow_the_surmise(law=wigner_surmise):
    spacings, grid = np.sort(_spacings() / _spacings().mean()), np.linspace(0, 8, 8_001)
    below = np.interp(spacings, grid, np.cumsum(np.asarray(law(grid))) * (grid[1] - grid[0]))
    return Evidence(float(np.abs(below - (np.arange(len(spacings)) + 0.5) / len(spacings)).max()), at_most=0.05)


SPREADS, RATIOS = 2.0 ** np.arange(-3, 3), np.geomspace(1e-4, 2.0, 9)


@cached
def _phases(batch, per_batch=True, n=4, steps=1_000):
    """Phases of two trained 4 x 4 layers by spread of the start and rate over batch: the median over seeds."""
    cells = [(spread, ratio, s) for spread in SPREADS for ratio in RATIOS for s in seeds(n)]
    draws = np.stack([np.random.default_rng(s).standard_normal((4, 4, 4)) / 2 for *_, s in cells]).astype(np.float32)
    start = tuple(np.float32([c[0] for c in cells])[:, None, None] * draws[:, i] for i in (0, 1))
    rates, batches = np.array([c[1] * (batch if per_batch else 8) for c in cells]), np.full(len(cells), batch)
    how, keys = {"largest": 16, "steps": steps, "every": steps}, jnp.stack([jr.key(s) for *_, s in cells])
    after = _sgd(start, (draws[:, 2], draws[:, 3]), keys, rates, batches, 1.0, **how)[:, 0]
    phase = singular_value_phase(jnp.linalg.svd(start[0], compute_uv=False), after)
    return np.median(np.asarray(phase).reshape(len(SPREADS), len(RATIOS), -1), -1).round().astype(int)


@claim("two 4 x 4 layers, 6 spreads of the start x 9 ratios rate / batch: 3 phases, each one connected region",
       source="scaled", broken={"axes mixed up": {"order": "F"}})  # fmt: skip
def three_phases_are_three_regions(order="C"):
    grid = _phases(4)
    regions = sum(label(grid.reshape(grid.shape, order=order) == phase)[1] for phase in (0, 1, 2))
    return Evidence(float(regions), within=(2.5, 3.5), given={"all three occur": set(grid.ravel()) == {0, 1, 2}})


@claim("two 4 x 4 layers: at equal rate / batch, batches of 4 and 16 are in the same phase in 90 % of 54 settings",
       source="scaled", broken={"equal rate instead": {"per_batch": False}})  # fmt: skip
def only_rate_over_batch_counts(per_batch=True):
    return Evidence(float(np.mean(_phases(4, per_batch) == _phases(16, per_batch))), at_least=0.9)
