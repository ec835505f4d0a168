"""Random scaling: momentum SGD whose every step is multiplied by an exponential random number.

```python
import jax.numpy as jnp
import optax
from attractor import Minimization, run
from attractor.optim import random_scaling

optimizer = random_scaling(optax.sgd(optax.linear_schedule(0.02, 0.0, 200), momentum=0.9))  # around any optax method
problem = Minimization(lambda w: jnp.sum(jnp.abs(w - 3.0)), init=jnp.zeros(2))
print(run(problem, optimizer, steps=200, every=200).last("loss").values)  # near 0
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.optim.random_scaling import random_scaled_sgdm, random_scaling
from attractor.optim.stationarity import goldstein_norm
from attractor.papers import words
from attractor.papers.words import Evidence, cached, claim, key, log_slopes, mean, paired_difference, run, seeds, sizes
from attractor.problem import Minimization
from attractor.problems.digits import digits_mlp
from attractor.problems.kinks import kinked_valley, kinked_waves, relu_misfit
from attractor.registry import LogUniform

SPACE = {"learning_rate": LogUniform(1e-3, 10.0)}


@claim("kinks and a ReLU network: a scaled step's mean progress is the mean slope at its end, within 3 standard errors",
       source="ours", broken={"no scaling": {"wrapper": optax.with_extra_args_support}, "uniform factor": {
           "wrapper": lambda base: random_scaling(base, lambda key: jr.uniform(key, maxval=2.0))}})  # fmt: skip
def the_end_point_measures_the_progress(wrapper=random_scaling, *, scale):
    steps, n = wrapper(optax.identity()), 100_000 if scale == "quick" else 10_000_000

    def error(loss, dim):
        x, direction = jr.normal(key(), (2, dim))

        def excess(draw):
            moved, _ = steps.update(direction, steps.init(x), x, key=draw)
            value, slope = jax.jvp(loss, (x + moved,), (direction,))
            return value - loss(x) - slope

        samples = jax.jit(jax.vmap(excess))(jr.split(key(1), n))
        # The floor catches a deterministic step, whose standard error is 0.
        return float(jnp.abs(samples.mean()) / jnp.maximum(samples.std() / n**0.5, 1e-6))

    errors = {"kinked": error(kinked_waves, 3), "network": error(relu_misfit, 80)}
    return Evidence.of_cases(errors, at_most=3.0)


def _iterate(problem, x, key):
    return x


@jax.jit
def _goldstein(points, key):
    """Goldstein's measure of the noiseless valley with radius 0.1, points ``(lanes, records, 2)``."""

    def measure(x):
        return goldstein_norm(lambda x: kinked_valley(x, jnp.zeros((1, 2))), x, 0.1, key)

    return jax.vmap(jax.vmap(measure))(points)


def _of_horizon(factor, steps):
    """Rate and momentum in the orders that the theory gives for a horizon."""
    return factor * steps ** (-1 / 3), 1 - steps ** (-2 / 3)


def _summed(factor, steps):  # momentum as a sum of gradients instead of their mean
    rate, beta = _of_horizon(factor, steps)
    return rate / (1 - beta), beta


def _constant(factor, steps):  # those of 1,000 steps, whatever the horizon
    return _of_horizon(factor, 1_000)


BUDGETS = {"budgets": ((300, 3_000, 30_000), (1_000, 10_000, 100_000, 1_000_000))}
SUMMED = {"momentum summed, not averaged": {"schedule": _summed}}


@cached
def _measures(schedule, factors, draws, budgets):
    """Goldstein's measure averaged over a run, ``(factors, seeds, budgets)``."""
    noise, measured = jr.normal(key(), (4_096, 2)), []
    problem = Minimization(kinked_valley, jnp.array([0.0, -1.0]), noise - noise.mean(0), batch_size=1)
    for steps in budgets:
        configs = [dict(zip(["learning_rate", "beta"], schedule(f, steps), strict=True)) for f in factors]
        how = {"steps": steps, "every": steps // 20, "seeds": draws, "lanes": 8, "probes": {"x": _iterate}}
        points = run(problem, random_scaled_sgdm, sweep=configs, **how)["x"].values[:, :, 1:]
        found = [_goldstein(eight, key()).mean(1) for eight in points.reshape(-1, 8, *points.shape[2:])]
        measured.append(np.reshape(found, points.shape[:2]))
    return np.stack(measured, -1)


@claim(
    "noisy curved nonsmooth valley: Goldstein's measure (radius 0.1) falls with the budget, log-log slope at most -0.2",
    source="ours", broken=SUMMED)  # fmt: skip
def goldstein_measure_falls(schedule=_of_horizon, *, scale):
    budgets = sizes(scale, **BUDGETS)["budgets"]
    measured = _measures(schedule, (0.1,), tuple(seeds(8)), budgets)[0]
    note = ", ".join(f"{n}: {m:.3f}" for n, m in zip(budgets, measured.mean(0), strict=True))
    return Evidence(mean(log_slopes(budgets, measured)), at_most=-0.2, note=note)


@claim(
    "noisy valley, both tuned: the measure's slope is at least 0.1 below that of one rate and momentum for all budgets",
    source="ours", broken=SUMMED, reason="the other way round, -0.37 against -1.05: "
    "at one rate a run gets near the minimizer, and stays there")  # fmt: skip
def the_horizon_sets_the_slope(schedule=_of_horizon, *, scale):
    """Of four factors the best over all budgets, on other seeds; the constant ones are those of 1,000 steps."""
    budgets, factors, slopes = sizes(scale, **BUDGETS)["budgets"], (0.03, 0.1, 0.3, 1.0), []
    for one in (schedule, _constant):
        tried = np.log(_measures(one, factors, tuple(seeds(2, stream=1)), budgets)).mean((1, 2))
        best = factors[int(tried.argmin())]
        slopes.append(log_slopes(budgets, _measures(one, (best,), tuple(seeds(8)), budgets)[0]))
    note = f"{slopes[0].mean():.2f} against {slopes[1].mean():.2f}"
    return Evidence(mean(slopes[0] - slopes[1]), at_most=-0.1, note=note)


def _scaled(mix, learning_rate):
    """Factors of shares of an exponential and of a normal law, and of 1; one program for all."""
    sgdm = optax.chain(optax.ema(0.9, debias=False), optax.scale_by_learning_rate(learning_rate))
    return random_scaling(sgdm, lambda key: mix[0] * jr.exponential(key) + mix[1] * jr.normal(key) + mix[2])


@cached
def _accuracy(mix, scale):  # by split of the data: the rate tuned on each, then 8 more runs
    how = sizes(scale, n=(6, 24)) | words.graded(digits_mlp(), "accuracy")
    method = eqx.Partial(_scaled, jnp.asarray(mix)), SPACE
    return words.tune_splits(digits_mlp, method, tuning=2, runs=8, budget=8, steps=500, every=500, **how)


@claim("digits network, both tuned: test accuracy within 1 point of that of momentum SGD without scaling",
       source="ours", broken={"factor with mean 0": {"mix": (0.0, 1.0, 0.0)}},
       reason="0.4 points below on six splits, [-1.02, 0.18]; on replication 5 from 12 below to 5 above")  # fmt: skip
def is_as_accurate_as_sgdm(mix=(1.0, 0.0, 0.0), *, scale):
    return Evidence(paired_difference(_accuracy(mix, scale), _accuracy((0.0, 0.0, 1.0), scale)), within=(-0.01, 0.01))
