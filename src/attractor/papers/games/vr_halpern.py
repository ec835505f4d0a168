"""Variance-reduced Halpern iteration: a certified small field for about the root of n samples a step.

```python
import jax
from attractor import games, run

game, _, _ = games.plane_games(jax.random.key(0), samples=400, dim=6)
print(run(game, games.VarianceReducedHalpern(0.25), steps=500, seeds=4).summary("residual"))
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.games.anchoring import VarianceReducedHalpern, plane_games
from attractor.linalg.fixed_point import Halpern
from attractor.papers.words import Evidence, cached, claim, first_step, log_slope, mean, paired_ratio, seeds, sizes
from attractor.problem import FixedPoint

SAMPLES, STEPS, HORIZONS = (250, 1_000, 4_000), 3_000, np.array([16, 128, 1_024])
RATES = np.array([0.25, 0.5, 1.0, 2.0]) / 2  # up to 2/L for both, as L = 2
BROKEN = {"not corrected": {"weights": (1.0, 0.0, 0.0)}, "a sign turned": {"weights": (-1.0, 1.0, 1.0)}}
WHOLE = (1.0, -1.0, 1.0)


class _Weighted(VarianceReducedHalpern):
    weights: tuple = WHOLE

    def corrected(self, now, before, estimate):
        return self.weights[0] * now + self.weights[1] * before + self.weights[2] * estimate


def _path(method, problem, z, keys):  # the points of a run, and the samples' fields taken so far
    def step(carry, k):
        z, state = method.step(problem, *carry, k)
        return (z, state), (z, getattr(state, "calls", 0.0))

    return jax.lax.scan(step, (z, method.init(problem, z, keys[0])), keys)[1]


@partial(jax.jit, static_argnums=0)
def _program(n, keys, weights):
    def one(own):
        game, matrix, vector = plane_games(own, n, 10)
        keys, length = jr.split(jr.fold_in(own, 2), STEPS), lambda z: jnp.linalg.norm(z @ matrix.T + vector, axis=-1)

        def ours(rate):
            z, calls = _path(_Weighted(rate, weights=weights), game, game.init(own), keys)
            return length(jnp.concatenate(z, 1)), calls

        def halpern(rate):
            plain = FixedPoint(lambda y: y - rate * (matrix @ y + vector), jnp.zeros(10))
            return length(_path(Halpern(), plain, jnp.zeros(10), keys)[0])

        start, far = jnp.linalg.norm(vector), jnp.linalg.norm(jnp.linalg.solve(matrix, vector))
        return *jax.vmap(ours)(jnp.asarray(RATES)), jax.vmap(halpern)(jnp.asarray(RATES)), start, far

    return jax.vmap(one)(keys)


@cached
def _runs(weights, scale):
    """By n: lengths of the field, calls, Halpern's lengths, (seeds, rates, steps); first length, distance."""
    keys = jax.vmap(jr.key)(jnp.asarray(seeds(**sizes(scale, n=(4, 16)))))
    return {n: [np.asarray(a) for a in _program(n, keys, weights)] for n in SAMPLES}


def _calls(weights, scale):
    found = {}  # by n: samples' fields to a hundredth of the first length, each at its best rate, and Halpern's
    for n, (ours, calls, plain, first, _) in _runs(weights, scale).items():
        steps, others = (first_step(lengths, 1e-2 * first[:, None]) for lengths in (ours, plain))
        at = np.minimum(steps, STEPS - 1).astype(int)[..., None]
        spent = np.where(np.isfinite(steps), np.take_along_axis(calls, at, 2)[..., 0], np.inf), n * (others + 1)
        found[n] = [s[:, s.mean(0).argmin()] for s in spent]
    return found


@claim("1,000 small games: a hundredth of the field for at most 1/3 of Halpern's calls, each at the best of 4 steps",
       source="scaled", broken=BROKEN,
       reason="0.32 to 0.34, not told from 1/3 by four seeds: six times fewer a step, in twice the steps")  # fmt: skip
def a_third_of_the_calls(weights=WHOLE, *, scale):
    ours, plain = _calls(weights, scale)[1_000]
    return Evidence(paired_ratio(ours, plain), at_most=1 / 3, given={"Halpern gets there": np.isfinite(plain).all()})


@claim("250 to 4,000 small games: calls to a hundredth of the field grow with slope at most 0.75 of n (Halpern's 1)",
       source="scaled", broken=BROKEN,
       reason="0.49 to 0.59, and four seeds leave 0.25 to 0.93; it holds on two of three others")  # fmt: skip
def calls_grow_as_the_root_of_n(weights=WHOLE, *, scale):
    return Evidence(log_slope(SAMPLES, np.stack([ours for ours, _ in _calls(weights, scale).values()], 1)),
                    at_most=0.75)  # fmt: skip


@claim("250 to 4,000 small games, step 1/4L, k = 16 to 1,024: the mean field is at most 16 L D / (k + 4) long",
       source="paper", broken=BROKEN)  # fmt: skip
def fields_stay_below_the_bound(weights=WHOLE, *, scale):
    cases = {}
    for n, (ours, *_, far) in _runs(weights, scale).items():
        ratios = ours[:, 0, HORIZONS - 1] * (HORIZONS + 4) / (16 * 2 * far[:, None])
        cases |= {f"{n}, {k}": mean(r) for k, r in zip(HORIZONS, ratios.T, strict=True)}
    return Evidence.of_cases(cases, at_most=1.0)
