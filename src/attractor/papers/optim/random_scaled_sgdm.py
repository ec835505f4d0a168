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

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.optim.random_scaling import random_scaled_sgdm, random_scaling
from attractor.optim.stationarity import goldstein_norm
from attractor.papers import words
from attractor.papers.words import Evidence, cached, claim, key, log_slope, paired_difference, probes, run, seeds, sizes
from attractor.problem import Minimization
from attractor.problems.digits import digits_mlp
from attractor.registry import LogUniform

SPACE = {"learning_rate": LogUniform(1e-3, 10.0)}


def _wavy(x):
    return jnp.sum(jnp.abs(jnp.sin(3 * x)) - 0.3 * jnp.abs(x - 1))


def _relu_net(x):
    """A network of 16 ReLU units on one example; x are its 80 weights."""
    hidden = jax.nn.relu(x[:64].reshape(16, 4) @ jnp.array([1.0, -0.5, 0.3, 2.0]))
    return jnp.abs(x[64:] @ hidden - 1.0)


@claim(
    "kinks and a ReLU network: a scaled step's mean progress is the mean slope at its end, within 3 standard errors",
    source="ours",
    broken={
        "no scaling": {"wrapper": optax.with_extra_args_support},
        "uniform factor": {"wrapper": lambda base: random_scaling(base, lambda key: jr.uniform(key, maxval=2.0))},
    },
)
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

    errors = {"kinked": error(_wavy, 3), "network": error(_relu_net, 80)}
    return Evidence.of_cases(errors, at_most=3.0)


def _valley(x, noise):
    """A curved valley of kinks with its minimum, another kink, at (1, 1); noise tilts it."""
    return jnp.abs(x[0] - x[1] ** 2) + 0.5 * jnp.abs(x[1] - 1) + jnp.mean(noise @ x)


def _iterate(problem, x, key):
    return x


@jax.jit
def _goldstein(points, key):
    """Goldstein's measure of the noiseless valley with radius 0.1, points ``(seeds, records, 2)``."""

    def measure(x):
        return goldstein_norm(lambda x: _valley(x, jnp.zeros((1, 2))), x, 0.1, key)

    return jax.vmap(jax.vmap(measure))(points)


def _summed(learning_rate, beta):
    """Momentum as a sum of gradients instead of their mean."""
    return random_scaling(optax.sgd(learning_rate, beta))


@claim(
    "noisy curved nonsmooth valley: Goldstein's measure (radius 0.1) falls with the budget, log-log slope at most -0.2",
    source="ours",
    broken={"momentum summed, not averaged": {"sgdm": _summed}},
)
def goldstein_measure_falls(sgdm=random_scaled_sgdm, *, scale):
    noise = jr.normal(key(), (4_096, 2))
    problem = Minimization(_valley, jnp.array([0.0, -1.0]), noise - noise.mean(0), batch_size=1)
    budgets = (300, 3_000, 30_000) if scale == "quick" else (1_000, 10_000, 100_000, 1_000_000)

    def measure(steps):
        method = sgdm(0.1 * steps ** (-1 / 3), 1 - steps ** (-2 / 3))
        trace = run(problem, method, steps=steps, every=steps // 20, seeds=seeds(8), probes={"x": _iterate})
        return _goldstein(trace["x"].values[0, :, 1:], key()).mean(1)

    measured = np.stack([measure(steps) for steps in budgets], 1)  # (seeds, budgets)
    note = ", ".join(f"{n}: {m:.3f}" for n, m in zip(budgets, measured.mean(0), strict=True))
    return Evidence(log_slope(budgets, measured), at_most=-0.2, note=note)


def _sgdm(learning_rate, beta=0.9):
    return optax.chain(optax.ema(beta, debias=False), optax.scale_by_learning_rate(learning_rate))


def _normal_scaled(learning_rate):
    return random_scaling(_sgdm(learning_rate), jr.normal)


_network = cached(digits_mlp)  # one object, so that its programs are compiled once


def _accuracy(method, scale):
    size = sizes(scale, seeds=(16, 64), budget=8, steps=500, every=500)
    recorded = probes(_network(), "test_accuracy", "validation_accuracy")
    return words.tune(_network(), (method, SPACE), metric="test_accuracy", probes=recorded, **size).final


@claim(
    "digits network, both tuned: test accuracy within 1 point of that of momentum SGD without scaling",
    source="ours",
    broken={"factor with mean 0": {"sgdm": _normal_scaled}},
)
def is_as_accurate_as_sgdm(sgdm=random_scaled_sgdm, *, scale):
    return Evidence(paired_difference(_accuracy(sgdm, scale), _accuracy(_sgdm, scale)), within=(-0.01, 0.01))
