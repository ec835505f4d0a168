"""A little noise lets descent from two function values a step leave saddle points.

```python
import jax.numpy as jnp
from attractor import Minimization, run
from attractor.blackbox import ZerothOrderDescent

saddle = Minimization(lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4, jnp.zeros(2))  # starts on it; least value -0.25
print(run(saddle, ZerothOrderDescent(0.05, noise=0.01), steps=500, every=500).last("loss").values)
```
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.blackbox.zeroth_order import ZerothOrderDescent, directions, two_point_gradient
from attractor.papers import words
from attractor.papers.words import Evidence, cached, claim, log_slope
from attractor.problem import Minimization

NOISE, NUMBER = 0.01, {"quick": 40, "full": 256}


class _OneDirection(ZerothOrderDescent):
    """The key of the first step, used at every step."""

    def step(self, problem, x, state, key):
        return super().step(problem, x, state, jr.key(0))


def _bent(axis, x):
    """x'Hx/2 + |x|⁴/4, H = I - 3/2 aa' with eigenvalues -1/2, 1, …, 1: a saddle at 0, least value -1/16."""
    return 0.5 * jnp.sum(x**2) - 0.75 * (axis @ x) ** 2 + 0.25 * jnp.sum(x**2) ** 2


@cached
def _saddle(d, away=0.0):
    with jax.enable_x64(True):
        axis = jr.normal(jr.key(d), (d,))
        start = jnp.zeros(d) if not away else lambda k: away * jr.normal(k, (d,)) / d**0.5
        return Minimization(jax.tree_util.Partial(_bent, axis / jnp.linalg.norm(axis)), start, optimum=-1 / 16)


@cached
def _factors():
    """Factors of a matrix of rank 2 in 8 dimensions: 0 is a saddle, and so is each factor without the other."""
    with jax.enable_x64(True):
        rows = jnp.asarray(np.linalg.qr(np.random.default_rng(words.seed()).standard_normal((8, 8)))[0][:2])
        target = rows.T @ jnp.diag(jnp.asarray([1.0, 0.6])) @ rows
        return Minimization(lambda u: 0.25 * jnp.sum((u @ u.T - target) ** 2), jnp.zeros((8, 2)), optimum=0.0)


@cached
def _steps(method, problem, pairs, n, rate, noise, level=-0.9 / 16):
    """Per seed, the steps to a loss below ``level`` with η = rate m / d, among at most 40 / η."""
    with jax.enable_x64(True):
        eta = rate * pairs / problem.init(jr.key(0)).size
        every = max(1, int(0.2 / eta))
        trace = words.run(problem, method(eta, noise, pairs=pairs), steps=200 * every, seeds=words.seeds(n),
                          every=every)  # fmt: skip
    return words.first_step(trace["loss"].values[0], level, trace.dataset["step"].values)


@claim("quartic from its saddle, d = 20, 1, 4, 20 pairs, and matrix factors from 0: 90 % of runs near the least value",
       source="scaled",
       broken={"no perturbation": {"noise": 0.0}, "one direction for ever": {"method": _OneDirection}})  # fmt: skip
def escapes_from_the_saddle(method=ZerothOrderDescent, noise=NOISE, *, scale):
    cases = {f"{m} pairs": _steps(method, _saddle(20), m, NUMBER[scale], 0.2, noise) for m in (1, 4, 20)}
    cases["factors"] = _steps(method, _factors(), 1, NUMBER[scale], 0.2, noise, level=0.01 * 0.34)
    return Evidence.of_cases({k: words.proportion(int(np.isfinite(v).sum()), len(v)) for k, v in cases.items()},
                             at_least=0.9)  # fmt: skip


_two_sided = functools.partial(two_point_gradient, law="normal")


def _one_sided(f, x, key, radius, pairs):
    z = directions(key, pairs, x.size, "normal", x.dtype)
    return (jax.vmap(f)(x + radius * z) - f(x)) / radius @ z / pairs


@claim("at the saddle of an even function the estimate vanishes exactly: only the perturbation moves the point",
       source="paper", deterministic=True, broken={"differences on one side": {"estimate": _one_sided}})  # fmt: skip
def sees_nothing_at_the_saddle(estimate=_two_sided):
    with jax.enable_x64(True):
        drawn = jax.vmap(lambda k: estimate(lambda x: _saddle(50).loss(x, None), jnp.zeros(50), k, 1e-3, 5))
        return Evidence(float(jnp.abs(drawn(jr.split(jr.key(1), 20))).max()), at_most=0.0)


@claim("quartic, 4 pairs, d = 20, from 1e-4 off the saddle: the perturbation takes at most 0.8 of the steps without",
       source="ours", broken={"a perturbation far below the distance": {"noise": 1e-9}})  # fmt: skip
def the_noise_saves_steps(noise=NOISE, *, scale):
    near = ZerothOrderDescent, _saddle(20, 1e-4), 4, NUMBER[scale], 0.2
    ours, without = _steps(*near, noise), _steps(*near, 0.0)
    return Evidence(words.paired_ratio(ours, without), at_most=0.8,
                    given={"without noise it leaves": np.isfinite(without).all()})  # fmt: skip


@claim("quartic, one pair, η = 0.2/d: the steps to escape grow like a power of d = 8, 20, 50 between 0.65 and 1.35",
       source="scaled", broken={"η = 0.2 / 20 for all d": {"rate": 0.01}})  # fmt: skip
def steps_grow_with_the_dimension(rate=None, *, scale):
    n, dims = NUMBER[scale], (8, 20, 50)
    rates = [0.2 if rate is None else rate * d for d in dims]
    steps = [_steps(ZerothOrderDescent, _saddle(d), 1, n, r, NOISE) for d, r in zip(dims, rates, strict=True)]
    return Evidence(log_slope(dims, np.transpose(steps)), within=(0.65, 1.35),
                    note=f"median steps {[words.median(s).value for s in steps]}")  # fmt: skip


@claim("quartic, d = 20, η = 0.2 m/d: the steps to escape fall like a power of m = 1, 4, 20 between -1.3 and -0.7",
       source="scaled", broken={"a rate that ignores the pairs": {"power": 0.0}})  # fmt: skip
def steps_fall_with_the_pairs(power=1.0, *, scale):
    n, pairs = NUMBER[scale], (1, 4, 20)
    steps = [_steps(ZerothOrderDescent, _saddle(20), m, n, 0.2 * m ** (power - 1), NOISE) for m in pairs]
    return Evidence(log_slope(pairs, np.transpose(steps)), within=(-1.3, -0.7))
