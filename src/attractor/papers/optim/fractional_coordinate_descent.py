"""Coordinate descent on a ratio, with every one-dimensional ratio minimized globally.

```python
import jax
import jax.numpy as jnp
import jax.random as jr
from attractor.optim import FractionalProgram, TopKNorm, dinkelbach, fractional_coordinate_descent

a, b, c = jr.split(jr.key(0), 3)
G, y, start = jr.normal(a, (50, 100)), jr.normal(b, (50,)), jr.normal(c, (100,))
program = FractionalProgram(G, y, 10.0, TopKNorm(5))  # a penalty on all entries, over the size of the largest five
x, values = jax.jit(lambda x: fractional_coordinate_descent(program, x, sweeps=100))(start)
_, others = jax.jit(lambda x: dinkelbach(program, x, steps=2_000))(start)
print(values[-1], others[-1])  # a proximal gradient method stops at a higher ratio
```
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from attractor.optim.fractional import (
    AffineForm,
    FractionalProgram,
    TopKNorm,
    dinkelbach,
    fractional_coordinate_descent,
)
from attractor.papers import Evidence, claim
from attractor.stats import paired_ratio

SLUG = "fractional-coordinate-descent"
SWEEPS, STEPS = 300, 2_000  # both have settled before; with a penalty ten times weaker that takes thousands of sweeps
L1, K = 10.0, 5


class _FrozenForm(AffineForm):
    """A denominator that the steps take to be constant."""

    def line(self, x, i):
        value = self(x)
        return jnp.zeros(1, x.dtype), lambda t: jnp.full_like(t, value)


class _FrozenNorm(TopKNorm):
    """A denominator that the steps take to be constant."""

    def line(self, x, i):
        value = self(x)
        return jnp.zeros(1, x.dtype), lambda t: jnp.full_like(t, value)


@claim(
    SLUG,
    "affine denominator on a box: from 10 starts, both subproblems end within 1e-6 of the global minimum, which is "
    "that of Dinkelbach's method with exact convex solves",
    broken={"denominator constant within a step": {"denominator": _FrozenForm}},
)
def reaches_the_global_minimum(denominator=AffineForm, *, scale):
    rng, (m, n) = np.random.default_rng(0), (40, 20) if scale == "quick" else (400, 200)
    weights = rng.standard_normal(n)
    with jax.enable_x64(True):
        matrix, target = jnp.asarray(rng.standard_normal((m, n))), jnp.asarray(rng.standard_normal(m))
        form = jnp.asarray(weights), float(np.abs(weights).sum()) + 1.0

        def program(denominator):
            return FractionalProgram(matrix, target, 0.5, denominator(*form), -1.0, 1.0)

        starts = jnp.asarray(rng.uniform(-1, 1, (10, n)))
        _, best = eqx.filter_jit(dinkelbach)(program(AffineForm), starts[0], 20, 500)
        found = {
            kind: _ends(fractional_coordinate_descent, program(denominator), starts, 100, subproblem=kind)[1]
            for kind in ("fractional", "parametric")
        }
        gaps = {kind: float(jnp.abs(values - best[-1]).max()) for kind, values in found.items()}
    return Evidence(max(gaps.values()), at_most=1e-6, note=", ".join(f"{k} {g:.1e}" for k, g in gaps.items()))


def _ends(method, program, starts, steps, **settings):
    """Last points and ratios from every start."""
    points, values = eqx.filter_jit(jax.vmap(lambda x: method(program, x, steps, **settings)))(starts)
    return points, values[:, -1]


@functools.cache
def _random_instance(scale):
    rng, size = np.random.default_rng(0), (50, 100) if scale == "quick" else (200, 400)
    matrix, target = rng.standard_normal(size), rng.standard_normal(size[0])
    return matrix, target, rng.standard_normal((20, size[1]))


@functools.cache
def _settled(method, denominator, scale):
    """The program, and where a method ends up from 20 starts."""
    matrix, target, starts = (jnp.asarray(a) for a in _random_instance(scale))
    program = FractionalProgram(matrix, target, L1, denominator(K))
    steps = SWEEPS if method is fractional_coordinate_descent else STEPS
    return program, *_ends(method, program, starts, steps)


@claim(
    SLUG,
    "top-k norm below, random 50 x 100 matrix: over 20 starts the median final ratio is at most that of Dinkelbach's "
    "proximal gradient method",
    broken={"denominator constant within a step": {"denominator": _FrozenNorm}},
)
def ends_at_lower_ratios(denominator=TopKNorm, *, scale):
    with jax.enable_x64(True):
        *_, ours = _settled(fractional_coordinate_descent, denominator, scale)
        *_, theirs = _settled(dinkelbach, TopKNorm, scale)
    return Evidence(paired_ratio(ours, theirs), at_most=1.0)


@claim(
    SLUG,
    "top-k norm below: no move of one coordinate, on a grid of 2,001 values, lowers a final ratio by more than 1e-8",
    broken={
        "Dinkelbach's proximal gradient method": {"method": dinkelbach},
        "denominator constant within a step": {"denominator": _FrozenNorm},
    },
)
def ends_where_no_coordinate_helps(method=fractional_coordinate_descent, denominator=TopKNorm, *, scale):
    with jax.enable_x64(True):
        _, points, values = _settled(method, denominator, scale)
    points, (matrix, target, _) = np.asarray(points), _random_instance(scale)
    grid, gain = np.linspace(-2, 2, 2_001) * np.abs(points).max(), -np.inf
    for x, value in zip(points, np.asarray(values), strict=True):
        residual = matrix @ x - target
        for i, column in enumerate(matrix.T):
            others = np.sort(np.abs(np.delete(x, i)))[::-1]
            eta, size = grid - x[i], np.abs(grid)
            above = (residual @ residual + eta**2 * (column @ column)) / 2 + eta * (column @ residual)
            below = others[: K - 1].sum() + np.maximum(others[K - 1], size)
            gain = max(gain, float((value - (above + L1 * (others.sum() + size)) / below).max()))
    return Evidence(gain, at_most=1e-8)
