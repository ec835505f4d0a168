"""Gradients through chaos: products of Jacobians that grow carry the derivative away; function values do not mind.

```python
import jax, jax.numpy as jnp
from attractor.credit import UnrolledLoss, jacobian_growth
logistic = lambda r, x: r * x * (1 - x)
print(jacobian_growth(logistic, jnp.array(4.0), jnp.array(0.3), jax.random.key(0), steps=1000))  # log 2
print(jax.grad(UnrolledLoss(logistic, lambda r, x: x, steps=40))(4.0, jnp.array(0.3)))
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.blackbox import two_point_gradient
from attractor.credit import UnrolledLoss, jacobian_growth
from attractor.dynamics import rk4_step
from attractor.papers.words import Evidence, cached, claim, key, mean, paired_ratio, seeds

HORIZONS, GAINS, TIMES = range(10, 41, 5), (0.5, 1.0, 2.0, 4.0), (5, 10, 20)


@jax.jit
def _sensitivities(starts):
    """The logistic map's derivatives by its start after every horizon."""
    loss = partial(UnrolledLoss, lambda r, x: r * x * (1 - x), lambda r, x: x)
    return jnp.stack([jax.vmap(jax.grad(loss(t), 1), (None, 0))(4.0, starts) for t in HORIZONS])


@claim("logistic map, r = 4: the logarithm of a gradient's size grows by log 2 a step within 3 %, from 10 to 40 steps",
       source="scaled", broken={"the mean comes first": {"size": lambda g: np.log(np.abs(g).mean(1))}})  # fmt: skip
def grows_at_the_lyapunov_rate(size=lambda g: np.log(np.abs(g)).mean(1)):
    gradients = np.asarray(_sensitivities(jr.uniform(key(), (8 * 4_000,), minval=0.05, maxval=0.95)), float)
    slopes = [np.polyfit(HORIZONS, size(g), 1)[0] for g in np.split(gradients, 8, 1)]
    return Evidence(mean(np.array(slopes) / np.log(2)), within=(0.97, 1.03))


@partial(jax.jit, static_argnames="units")
def _networks(units, number):
    """Rates of a tanh network at every gain: of its gradient by the weights, of its Jacobians, of its weights."""
    drawn = jr.normal(jr.key(number), (units + 3, units))
    loss = partial(UnrolledLoss, lambda w, s: jnp.tanh(w @ s + drawn[0] / 2), lambda w, s: drawn[1] @ s)

    def rates(gain):
        weights = gain * drawn[3:] / units**0.5
        sizes = [jnp.abs(jax.grad(loss(t))(weights, drawn[2])).max() for t in (40, 120)]  # squares would overflow
        growth = jacobian_growth(loss(1).step, weights, drawn[2], jr.key(number), steps=80, discard=40)
        return jnp.stack([jnp.log(sizes[1] / sizes[0]) / 80, jnp.maximum(growth, 0), jnp.maximum(jnp.log(gain), 0)])

    return jax.vmap(rates)(jnp.array(GAINS))


@claim("tanh networks, 32 and 96 units, gains 0.5 to 4: gradients grow as Jacobians do, or not, within 0.05 a step",
       source="scaled", broken={"the weights' growth alone": {"of": 2}})  # fmt: skip
def jacobians_tell_when(of=1):
    found = {units: np.stack([_networks(units, number) for number in seeds(16)]) for units in (32, 96)}
    cases = {f"{n}, {g}": mean(f[:, i, 0] - f[:, i, of]) for n, f in found.items() for i, g in enumerate(GAINS)}
    given = {"the smallest gain is quiet": all(f[:, 0, 1].max() == 0 for f in found.values()),
             "the largest is chaotic": all(f[:, -1, 1].mean() > 0.05 for f in found.values())}  # fmt: skip
    return Evidence.of_cases(cases, within=(-0.05, 0.05), given=given)


def _height(time):
    """Of the Lorenz system, averaged over the later half of the time, by its parameter and start."""

    def flow(rho, s):
        return jnp.stack([10 * (s[1] - s[0]), s[0] * (rho - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]])

    return UnrolledLoss(lambda rho, s: rk4_step(partial(flow, rho), s, 0.02), lambda rho, s: s[2], 50 * time, 25 * time)


def _start(key):
    return jnp.array([0.0, 0.0, 28.0]) + 5 * jr.normal(key, (3,))


@partial(jax.jit, static_argnames="time")
def _slopes(radius, key, time):
    """Derivatives at 28 from 4,096 starts, by backpropagation and by a pair of values each."""

    def one(key):
        height, rho = partial(_height(time), state=_start(key)), jnp.array(28.0)
        return jax.grad(height)(rho), two_point_gradient(height, rho, jr.fold_in(key, 1), radius, law="normal")

    return jax.vmap(one)(jr.split(key, 4_096))


@cached
def _found(radius, time):
    """In eight groups."""
    return [np.asarray(g, float).reshape(8, -1) for g in _slopes(jnp.asarray(radius), key(time), time)]


@claim("Lorenz system, 10 and 20 units of time: the variance of a pair's slope is at most 5 times that after 5 units",
       source="ours", broken={"pairs almost in one place": {"radius": 1e-3}})  # fmt: skip
def black_box_variance_stays(radius=1.0):
    chain, pairs = ([_found(radius, time)[i].var(1) for time in TIMES] for i in (0, 1))
    cases = {f"{time} units": paired_ratio(v, pairs[0]) for time, v in zip(TIMES[1:], pairs[1:], strict=True)}
    growth = np.median(chain[2] / chain[0])
    given = {"backpropagation's variance explodes": growth > 1e6}
    return Evidence.of_cases(cases, at_most=5.0, given=given, note=f"backpropagation's: {growth:.0e} times")


@claim("Lorenz system, 20 units of time: 4,096 pairs find the slope of the long-run mean height within 10 %",
       source="ours", broken={"over the radius once": {"factor": 2.0}})  # fmt: skip
def pairs_find_the_slope_of_the_climate(factor=1.0):
    far = jax.jit(jax.vmap(jax.vmap(_height(200), (None, 0)), (0, None)))
    low, high = far(jnp.array([27.0, 29.0]), jax.vmap(_start)(jr.split(key(1), 64))).mean(1).tolist()
    chain, pairs = _found(1.0, 20)
    given = {"backpropagation errs by ten slopes": chain.std() / 64 > 10 * (high - low) / 2}
    return Evidence(mean(factor * pairs.mean(1) / ((high - low) / 2)), within=(0.9, 1.1), given=given)
