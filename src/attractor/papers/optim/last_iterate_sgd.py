"""Last-iterate convergence: the final point of stochastic gradient descent attains the rates of an average.

```python
import jax.numpy as jnp
import optax
from attractor import run
from attractor.optim import last_iterate_schedule
from attractor.problems import logistic_regression

problem = logistic_regression(batch_size=1)
optimizer = optax.sgd(last_iterate_schedule(3.0, steps=2_000))
trace = run(problem, optimizer, steps=2_000, seeds=8)
print(trace.last("loss").values - problem.optimum)  # no averaging of iterates
```
"""

import functools

import jax.numpy as jnp
import numpy as np
import optax

from attractor.optim.schedules import inverse_power_schedule, last_iterate_schedule
from attractor.papers.words import Evidence, Interval, bootstrap, cached, claim, log_slopes, run, seed, seeds, sizes
from attractor.problem import Minimization

DIM, ROWS = 10, 4_096
HORIZONS = tuple(2**k for k in range(7, 14))
RATE = 0.7


def _size(x):
    return jnp.sum(jnp.abs(x)) / DIM**0.5


def _half_square(x):
    return jnp.sum(x**2) / 2


def _noisy(loss, x, noise):
    """The noise has mean zero over all rows, so that the full loss is the loss itself."""
    return loss(x - 1 / DIM**0.5) + jnp.mean(noise, 0) @ x


@cached
def _problem(loss, heavy=False):
    rng = np.random.default_rng(seed())
    noise = rng.standard_t(1.2, (ROWS, DIM)) if heavy else rng.standard_normal((ROWS, DIM))
    noise = noise / DIM**0.5
    return Minimization(
        functools.partial(_noisy, loss), jnp.zeros(DIM), jnp.asarray(noise - noise.mean(0), float), batch_size=1,
        probes={"gap": lambda problem, x, key: loss(x - 1 / DIM**0.5)},
    )  # fmt: skip


def _constant(learning_rate, steps):
    return lambda count: learning_rate / jnp.sqrt(steps)


def _anytime(learning_rate, steps):
    return inverse_power_schedule(learning_rate)


def _strongly_convex(learning_rate, steps):
    return inverse_power_schedule(1.0, 1.0)  # the modulus is 1


def _unscaled(learning_rate, steps):
    return lambda count: 0.05 * learning_rate


SCHEDULES = {"constant": _constant, "1/sqrt(t)": _anytime, "linear decay": last_iterate_schedule}


@cached
def _gaps(schedule, loss, horizons, n, heavy=False):
    """The gap of the last point, (horizon, seed); all horizons run in one program."""

    def make(horizon):
        return optax.sgd(schedule(RATE, horizon))

    trace = run(
        _problem(loss, heavy), make, steps=max(horizons), every=min(horizons), seeds=seeds(n),
        sweep={"horizon": [float(h) for h in horizons]}, probes={"gap": _problem(loss).probes["gap"]},
    )  # fmt: skip
    return np.stack([trace["gap"].sel(step=h).values[i] for i, h in enumerate(horizons)])


def _slope(gaps) -> Interval:
    """Log-log slope over the horizons of the 95 % quantile over seeds."""

    def statistic(*samples):
        return log_slopes(HORIZONS, np.stack([np.quantile(s, 0.95, axis=-1) for s in samples], -1))

    return bootstrap(statistic, *gaps, draws=500)


@claim(
    "mean |x|, T = 2^7 to 2^13, steps constant, 1/sqrt(t), decaying: slope of the gap's 95 % quantile at most -0.45",
    source="ours",
    broken={"steps that ignore the horizon": {"schedules": {"neither": _unscaled}}},
)
def attains_the_convex_rate(schedules=SCHEDULES, *, scale):
    n = sizes(scale, n=(200, 2_000))["n"]
    slopes = {name: _slope(_gaps(schedule, _size, HORIZONS, n)) for name, schedule in schedules.items()}
    return Evidence.of_cases(slopes, at_most=-0.45)


@claim(
    "mean |x|, T = 2^13: the gap's 95 % quantile with linear decay is at most 0.8 times that with constant steps",
    source="ours",
    broken={"no decay": {"schedule": _constant}, "steps that ignore the horizon": {"schedule": _unscaled}},
)
def decay_beats_constant_steps(schedule=last_iterate_schedule, *, scale):
    n = sizes(scale, n=(200, 2_000))["n"]
    ours, constant = (_gaps(s, _size, HORIZONS, n)[-1] for s in (schedule, _constant))

    def ratio(a, b):
        return np.quantile(a, 0.95, axis=-1) / np.quantile(b, 0.95, axis=-1)

    return Evidence(bootstrap(ratio, ours, constant, draws=500), at_most=0.8)


@claim(
    "half the squared norm, steps 1/t, T = 2^7 to 2^13: the last gap's 95 % quantile has slope at most -0.85",
    source="ours",
    broken={"steps 1/sqrt(t)": {"schedule": _anytime}},
)
def attains_the_strongly_convex_rate(schedule=_strongly_convex, *, scale):
    return Evidence(_slope(_gaps(schedule, _half_square, HORIZONS, **sizes(scale, n=(200, 2_000)))), at_most=-0.85)


@claim(
    "half the squared norm, steps 1/t, T = 2^9: the gap's 99 % quantile is at most twice its 90 % quantile",
    source="scaled",
    broken={"noise of infinite variance": {"heavy": True}},
)
def has_light_tails(heavy=False, *, scale):
    """As it is if the gap is linear in the logarithm of the probability to exceed it."""
    gaps = _gaps(_strongly_convex, _half_square, (512,), heavy=heavy, **sizes(scale, n=(2_000, 20_000)))[0]

    def ratio(gap):
        return np.quantile(gap, 0.99, axis=-1) / np.quantile(gap, 0.9, axis=-1)

    return Evidence(bootstrap(ratio, gaps, draws=500), at_most=2.0)
