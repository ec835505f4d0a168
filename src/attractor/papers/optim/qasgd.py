"""Acceleration under quasar-convexity, from stochastic and from variance-reduced gradients.

```python
import jax
import jax.numpy as jnp
import optax
from attractor.optim import quasar_accelerated, quasar_convexity

def loss(w):  # not convex: flat far away, curved near its minimum
    return jnp.sum(jnp.log1p(jnp.array([1.0, 0.01]) * (w - 3.0) ** 2))

points = jax.random.uniform(jax.random.key(0), (10_000, 2), minval=-5.0, maxval=11.0)
gamma = float(quasar_convexity(loss, jnp.full(2, 3.0), points))
optimizer = quasar_accelerated(learning_rate=0.5, gamma=min(gamma, 1.0))
w = jnp.zeros(2)
state = optimizer.init(w)

@jax.jit
def step(w, state):
    updates, state = optimizer.update(jax.grad(loss)(w), state, w)
    return optax.apply_updates(w, updates), state

for _ in range(200):
    w, state = step(w, state)
print(gamma, w)
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.comparison import compare
from attractor.engine import run
from attractor.optim.quasar_convex import quasar_accelerated, quasar_accelerated_svrg, quasar_convexity
from attractor.optim.variance_reduction import Svrg
from attractor.papers import Evidence, claim
from attractor.problem import Minimization
from attractor.problems.quadratics import diagonal_quadratic
from attractor.registry import LogUniform
from attractor.stats import paired_ratio

SLUG = "qasgd"
SAMPLES, DIMENSIONS, BATCH, SPREAD = 1_000, 20, 32, 1e3
GAMMA = 0.5  # what the accelerated methods are told
RATES, PERIODS = tuple(np.geomspace(1e-1, 100.0, 8).tolist()), (50, 200)
TUNING_SEEDS = (101, 102)


@functools.cache
def _neuron(link=jax.nn.sigmoid):
    """One neuron that imitates another: squared loss, inputs whose variances range over three decades."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((SAMPLES, DIMENSIONS)) * np.geomspace(1, SPREAD**-0.5, DIMENSIONS)
    solution = jnp.asarray(rng.standard_normal(DIMENSIONS), dtype=float)
    inputs = jnp.asarray(inputs, dtype=float)

    def loss(w, batch):
        x, y = batch
        return jnp.mean((link(x @ w) - y) ** 2) / 2

    data = (inputs, link(inputs @ solution))
    return Minimization(loss, jnp.zeros(DIMENSIONS), data, batch_size=BATCH, optimum=0.0, solution=solution)


@claim(
    SLUG,
    "sigmoid neuron: at 10,000 points up to three times as far from the solution as 0 the loss is quasar-convex with "
    "gamma of at least 0.01",
    broken={"a link that is not monotone": {"link": jnp.sin}},
)
def is_quasar_convex(link=jax.nn.sigmoid, *, scale):
    problem = _neuron(link)
    directions, size = jax.random.split(jax.random.key(0))
    steps = jax.random.normal(directions, (10_000, DIMENSIONS))
    radius = 3 * jnp.linalg.norm(problem.solution) * jax.random.uniform(size, (10_000, 1), minval=0.01)
    points = problem.solution + radius * steps / jnp.linalg.norm(steps, axis=1, keepdims=True)
    gamma = quasar_convexity(lambda w: problem.loss(w, problem.full), problem.solution, points)
    return Evidence(float(gamma), at_least=0.01)


def _without_momentum(learning_rate, gamma=1.0):
    """Both weights equal: gradient descent."""
    return optax.sgd(learning_rate)


@claim(
    SLUG,
    "exact gradients, quadratic with condition number 1e6: after 100, 200 … 2,000 steps the gap is at most the "
    "bound 2 L D² / (gamma k)², D the distance of the start from the solution",
    broken={"no momentum": {"accelerated": _without_momentum}},
)
def keeps_its_bound(accelerated=quasar_accelerated, *, scale):
    problem = diagonal_quadratic(50, condition=1e6)
    smoothness, start = problem.constants["L"], problem.init(jax.random.split(jax.random.key(0), 3)[0])
    trace = run(problem, accelerated(1 / smoothness, 1.0), steps=2_000, every=100)
    k, distance = trace.dataset["step"].values[1:], float(jnp.sum((start - problem.solution) ** 2))
    bound = 2 * smoothness * distance / k**2
    return Evidence(float((trace["loss"].values[0, 0, 1:] / bound).max()), at_most=1.0)


@claim(
    SLUG,
    "sigmoid neuron: minibatches of 32 reach a loss of 1e-3 with at most 0.8 of tuned SGD's gradients",
    broken={"no momentum": {"accelerated": _without_momentum}},
    reason="both are there after a few steps along the inputs' large directions, before momentum has built up",
)
def beats_sgd(accelerated=quasar_accelerated, *, scale):
    space = {"learning_rate": LogUniform(RATES[0], RATES[-1])}
    methods = {"ours": (functools.partial(accelerated, gamma=GAMMA), space), "sgd": (optax.sgd, space)}
    c = compare(_neuron(), methods, steps=200, every=1, target=1e-3, budget=16, seeds=8 if scale == "quick" else 64)
    return Evidence(c.ratio("steps_to_target", "ours", "sgd"), at_most=0.8, comparison=c)


@functools.cache
def _gradients_to(target, make, seeds):
    """Component gradients until the loss is at most the target, tuned over rates and periods; one number a seed."""

    def cost(period, configs, seeds):
        trace = run(
            _neuron(), functools.partial(make, period=period), sweep=[{"learning_rate": r} for r in configs],
            seeds=seeds, steps=4_000, every=25,
        )  # fmt: skip
        steps, hit = trace.dataset["step"].values, trace["loss"].values <= target
        first = np.where(hit.any(-1), steps[hit.argmax(-1)], np.inf)
        return 2 * BATCH * first + SAMPLES * np.ceil(first / period)

    tuning = {period: cost(period, RATES, TUNING_SEEDS).mean(1) for period in PERIODS}
    period = min(PERIODS, key=lambda p: tuning[p].min())
    rate = RATES[int(tuning[period].argmin())]
    return cost(period, [rate], seeds)[0], f"rate {rate:.2g}, period {period}"


def _in_stages(learning_rate, period):
    return quasar_accelerated_svrg(learning_rate, GAMMA, period)


@claim(
    SLUG,
    "sigmoid neuron: variance-reduced and accelerated, a loss of 1e-6 with at most 0.6 of tuned SVRG's gradients",
    broken={"no momentum": {"accelerated": Svrg}},
)
def beats_svrg(accelerated=_in_stages, *, scale):
    seeds = 8 if scale == "quick" else 64
    (ours, note), (theirs, other) = (_gradients_to(1e-6, make, seeds) for make in (accelerated, Svrg))
    text = f"{np.median(ours):.3g} gradients ({note}) against {np.median(theirs):.3g} ({other})"
    return Evidence(paired_ratio(ours, theirs), at_most=0.6, note=text)
