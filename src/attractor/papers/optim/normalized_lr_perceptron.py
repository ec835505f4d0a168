"""Logistic regression with giant steps is the perceptron: the loss misleads, and normalizing mends it.

```python
import jax.numpy as jnp
from sklearn.datasets import load_iris
from attractor import Composite, run
from attractor.optim import OutputNormalized, logistic_loss, margins

x, y = load_iris(return_X_y=True)
data = (jnp.asarray(x), jnp.where(jnp.asarray(y) == 0, 1.0, -1.0))  # setosa against the rest: separable
problem = Composite(margins, logistic_loss, jnp.zeros(4), data)
trace = run(problem, OutputNormalized(learning_rate=1.0), steps=100)
w = jnp.asarray(trace.final[0, 0])
print(trace.last("loss").item(), bool((margins(w, data) > 0).all()))
```
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.engine import run
from attractor.objectives import Composite
from attractor.optim.perceptron import OutputNormalized, logistic_loss, margins, perceptron_loss
from attractor.papers import Evidence, claim

SLUG = "normalized-lr-perceptron"
SIZES = (50, 200, 800)


def _iterates(outer, learning_rate, data, steps):
    problem = Composite(margins, outer, jnp.zeros(data[0].shape[1]), data)
    probes = {"w": lambda problem, w, key: w}
    return run(problem, optax.sgd(learning_rate), steps=steps, every=1, probes=probes)["w"].values[0, 0]


@claim(
    SLUG,
    "gradient descent from 0 with step 1e6, divided by the step, is the batch perceptron for 50 steps, to 1e-6",
    broken={
        "a step of 1": {"learning_rate": 1.0},
        "ties count whole": {"perceptron": lambda m, batch=None: jnp.mean(jnp.where(m > 0, 0, -m))},
    },
)
def becomes_the_perceptron(learning_rate=1e6, perceptron=perceptron_loss, *, scale):
    with jax.enable_x64(True):
        x = jr.normal(jr.key(0), (200, 20))
        data = (x, jnp.sign(x @ jr.normal(jr.key(1), (20,))))
        scaled = _iterates(logistic_loss, learning_rate, data, 50) / learning_rate
        other = _iterates(perceptron, 1.0, data, 50)
    return Evidence(float(np.linalg.norm(scaled - other, axis=1).max() / np.linalg.norm(other[-1])), at_most=1e-6)


@functools.cache
def _lopsided(n):
    """n - 1 examples near (1, 0.02), and one at (-0.9, 0.3): the majority hides what the one needs."""
    many = jnp.array([1.0, 0.02]) + 1e-3 * jr.normal(jr.key(0), (n - 1, 2))
    return jnp.concatenate([many, jnp.array([[-0.9, 0.3]])]), jnp.ones(n)


def _to_separation(method, n, steps=200_000):
    """Steps until every example is right, and the largest loss on the way."""
    data = _lopsided(n)
    problem = Composite(margins, logistic_loss, jnp.zeros(2), data)

    def separated(carry):
        w, _, t = carry
        return (margins(w, data).min() <= 0) & (t < steps)

    def step(carry):
        w, peak, t = carry
        w, _ = method.step(problem, w, None, jr.key(0))
        return w, jnp.maximum(peak, problem.loss(w, data)), t + 1

    _, peak, count = jax.lax.while_loop(separated, step, (jnp.zeros(2), jnp.zeros(()), 0))
    return int(count), float(peak)


class _Plain(OutputNormalized):
    """Gradient descent."""

    def step(self, problem, x, state, key):
        return x - self.learning_rate * jax.grad(problem.loss)(x, problem.full), state


GIANT, NORMALIZED = _Plain(1e4), OutputNormalized(10.0)


@claim(
    SLUG,
    "step 1e4 separates in at most a tenth of the steps that step 1 needs, at every n, though its loss peaks higher",
    broken={"a large step of 2": {"large": 2.0}},
)
def separates_sooner_at_a_higher_loss(large=1e4, *, scale):
    pairs = [(_to_separation(_Plain(large), n), _to_separation(_Plain(1.0), n)) for n in SIZES]
    note = "; ".join(f"n={n}: {a[0]} against {b[0]} steps" for n, (a, b) in zip(SIZES, pairs, strict=True))
    if not all(a[1] > b[1] for a, b in pairs):
        return Evidence(float("inf"), at_most=0.1, note="the loss does not peak higher; " + note)
    return Evidence(max(a[0] / b[0] for a, b in pairs), at_most=0.1, note=note)


@claim(
    SLUG,
    "the giant steps' count grows at least 8-fold from n = 50 to 800",
    broken={"normalized": {"method": NORMALIZED}},
)
def giant_steps_still_pay_for_n(method=GIANT, *, scale):
    few, many = _to_separation(method, SIZES[0])[0], _to_separation(method, SIZES[-1])[0]
    return Evidence(many / few, at_least=8.0, note=f"{few} and {many} steps")


@claim(
    SLUG,
    "normalized, with step 10, it separates within 10 steps at every n",
    broken={"not normalized": {"method": _Plain(10.0)}},
)
def normalizing_removes_n(method=NORMALIZED, *, scale):
    counts = [_to_separation(method, n)[0] for n in SIZES]
    return Evidence(max(counts), at_most=10.0, note=f"{counts} steps")
