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

from attractor.optim.quasar_convex import quasar_accelerated, quasar_accelerated_svrg, quasar_convexity
from attractor.optim.variance_reduction import Svrg
from attractor.papers.words import Evidence, cached, claim, first_step, key, paired_ratio, run, seed, seeds, sizes, tune
from attractor.problem import Minimization
from attractor.problems.quadratics import diagonal_quadratic
from attractor.registry import LogUniform

SAMPLES, DIMENSIONS, BATCH, SPREAD = 1_000, 20, 32, 1e3
GAMMA = 0.5  # what the accelerated methods are told
RATES, PERIODS = np.geomspace(1e-1, 100.0, 8).tolist(), (50, 200)
SEEDS = (8, 64)


@cached
def _neuron(link=jax.nn.sigmoid):
    """One neuron that imitates another: squared loss, inputs whose variances range over three decades."""
    rng = np.random.default_rng(seed())
    inputs = rng.standard_normal((SAMPLES, DIMENSIONS)) * np.geomspace(1, SPREAD**-0.5, DIMENSIONS)
    solution = jnp.asarray(rng.standard_normal(DIMENSIONS), dtype=float)
    inputs = jnp.asarray(inputs, dtype=float)

    def loss(w, batch):
        x, y = batch
        return jnp.mean((link(x @ w) - y) ** 2) / 2

    data = (inputs, link(inputs @ solution))
    return Minimization(loss, jnp.zeros(DIMENSIONS), data, batch_size=BATCH, optimum=0.0, solution=solution)


@claim(
    "sigmoid neuron: quasar-convex with gamma of at least 0.01 at 10,000 points up to 3 |solution| from the solution",
    source="ours",
    broken={"a link that is not monotone": {"link": jnp.sin}},
)
def is_quasar_convex(link=jax.nn.sigmoid):
    problem = _neuron(link)
    directions, size = jax.random.split(key())
    steps = jax.random.normal(directions, (10_000, DIMENSIONS))
    radius = 3 * jnp.linalg.norm(problem.solution) * jax.random.uniform(size, (10_000, 1), minval=0.01)
    points = problem.solution + radius * steps / jnp.linalg.norm(steps, axis=1, keepdims=True)
    gamma = quasar_convexity(lambda w: problem.loss(w, problem.full), problem.solution, points)
    return Evidence(float(gamma), at_least=0.01)


def _without_momentum(learning_rate, gamma=1.0):
    """Both weights equal: gradient descent."""
    return optax.sgd(learning_rate)


@claim(
    "exact gradients, quadratic, condition 1e6: from step 100 to 2,000 the gap is at most 2 L D² / (gamma k)²",
    source="scaled",
    broken={"no momentum": {"accelerated": _without_momentum}},
)
def keeps_its_bound(accelerated=quasar_accelerated):
    problem = diagonal_quadratic(50, condition=1e6)
    smoothness, start = problem.constants["L"], problem.init(jax.random.split(key(), 3)[0])  # as run starts that seed
    trace = run(problem, accelerated(1 / smoothness, 1.0), steps=2_000, every=100, seeds=[seed()])
    k, distance = trace.dataset["step"].values[1:], float(jnp.sum((start - problem.solution) ** 2))
    bound = 2 * smoothness * distance / k**2
    return Evidence(float((trace["loss"].values[0, 0, 1:] / bound).max()), at_most=1.0)


@claim(
    "sigmoid neuron: minibatches of 32 reach a loss of 1e-3 with at most 0.8 of tuned SGD's gradients",
    source="ours",
    broken={"no momentum": {"accelerated": _without_momentum}},
    reason="0.90: both are there after a few steps along the inputs' large directions, before momentum has built up",
)
def beats_sgd(accelerated=quasar_accelerated, *, scale):
    how = sizes(scale, seeds=SEEDS, budget=16, steps=200, every=1, target=1e-3)
    space = {"learning_rate": LogUniform(RATES[0], RATES[-1])}
    ours = tune(_neuron(), (functools.partial(accelerated, gamma=GAMMA), space), **how)
    sgd = tune(_neuron(), (optax.sgd, space), **how)
    text = f"{np.median(ours.steps_to_target):.0f} against {np.median(sgd.steps_to_target):.0f} steps"
    given = {"SGD reaches the target": bool(sgd.reached.all())}
    return Evidence(paired_ratio(ours.steps_to_target, sgd.steps_to_target), at_most=0.8, given=given, note=text)


@cached
def _gradients_to_1e_6(make, n):
    """Component gradients until the loss is at most 1e-6, tuned over rates and periods; one number a seed."""

    def cost(period, rates, seeds):
        trace = run(
            _neuron(), functools.partial(make, period=period), sweep={"learning_rate": rates},
            seeds=seeds, steps=4_000, every=25,
        )  # fmt: skip
        first = first_step(trace["loss"].values, 1e-6, trace.dataset["step"].values)
        return 2 * BATCH * first + SAMPLES * np.ceil(first / period)

    tuning = {period: cost(period, RATES, [seed(101), seed(102)]).mean(1) for period in PERIODS}
    period = min(PERIODS, key=lambda p: tuning[p].min())
    rate = RATES[int(tuning[period].argmin())]
    return cost(period, [rate], seeds(n))[0], f"rate {rate:.2g}, period {period}"


def _in_stages(learning_rate, period):
    return quasar_accelerated_svrg(learning_rate, GAMMA, period)


@claim(
    "sigmoid neuron: variance-reduced and accelerated, a loss of 1e-6 with at most 0.6 of tuned SVRG's gradients",
    source="ours",
    broken={"no momentum": {"accelerated": Svrg}},
)
def beats_svrg(accelerated=_in_stages, *, scale):
    n = sizes(scale, n=SEEDS)["n"]
    (ours, note), (theirs, other) = (_gradients_to_1e_6(make, n) for make in (accelerated, Svrg))
    text = f"{np.median(ours):.3g} gradients ({note}) against {np.median(theirs):.3g} ({other})"
    given = {"SVRG reaches the target": bool(np.isfinite(theirs).all())}
    return Evidence(paired_ratio(ours, theirs), at_most=0.6, given=given, note=text)
