"""Exact Gauss-Newton: the damped minibatch system solved in the space of its outputs, where it is small.

```python
from attractor import problems, run
from attractor.second_order import GaussNewton

trace = run(problems.digits_mlp(width=16, batch_size=16), GaussNewton(learning_rate=0.3, damping=0.1), steps=60)
print(trace.last("test_accuracy").item())
```
"""

import functools
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from scipy.stats import linregress
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from attractor.comparison import compare
from attractor.objectives import Composite
from attractor.papers import Evidence, claim
from attractor.probe import Probe
from attractor.problems.digits import digits_mlp
from attractor.registry import LogUniform
from attractor.second_order.gauss_newton import GaussNewton, dual_direction
from attractor.stats import median, paired_ratio

SLUG = "egn-exact-gauss-newton"


def _without_curvature(jacobian, hessian, gradient, damping):
    return dual_direction(jacobian, jnp.eye(len(jacobian)), gradient, damping)


def _primal(jacobian, hessian, gradient, damping):
    dense = jacobian.T @ hessian @ jacobian + damping * jnp.eye(jacobian.shape[1])
    return jnp.linalg.solve(dense, jacobian.T @ gradient)


@claim(
    SLUG,
    "the direction of the small system is that of the full one, for squared error and cross-entropy, to 1e-6",
    broken={"no curvature of the loss": {"direction": _without_curvature}},
)
def same_direction(direction=dual_direction, *, scale):
    errors = []
    with jax.enable_x64(True):
        labels, targets = jr.randint(jr.key(3), (8,), 0, 5), jr.normal(jr.key(4), (8, 5))
        outers = {
            "squared error": lambda y: 0.5 * jnp.mean((y.reshape(8, 5) - targets) ** 2),
            "cross-entropy": lambda y: optax.softmax_cross_entropy_with_integer_labels(y.reshape(8, 5), labels).mean(),
        }
        for outer in outers.values():
            jacobian, y = jr.normal(jr.key(1), (40, 300)), jr.normal(jr.key(2), (40,))
            parts = (jacobian, jax.hessian(outer)(y), jax.grad(outer)(y), 1e-2)
            found, full = direction(*parts), _primal(*parts)
            errors.append(float(jnp.linalg.norm(found - full) / jnp.linalg.norm(full)))
    return Evidence(max(errors), at_most=1e-6)


def _seconds(direction, parameters):
    """CPU seconds of one direction for a batch of 32."""
    parts = (jr.normal(jr.key(0), (32, parameters)), jnp.eye(32) / 32, jnp.ones(32), jnp.asarray(1e-2))
    compiled = jax.jit(direction)
    jax.block_until_ready(compiled(*parts))
    times = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(max(1, 30_000 // parameters)):
            jax.block_until_ready(compiled(*parts))
        times.append((time.process_time() - begun) / max(1, 30_000 // parameters))
    return min(times)


@claim(
    SLUG,
    "the direction's time grows with the number of parameters d with an exponent of at most 1.2 (batch 32)",
    broken={"the full system": {"direction": _primal}},
)
def time_is_linear_in_the_parameters(direction=dual_direction, *, scale):
    sizes = (1_000, 3_000, 10_000, 30_000, 100_000) if direction is dual_direction else (200, 400, 800)
    fit = linregress(np.log(sizes), np.log([_seconds(direction, d) for d in sizes]))
    return Evidence(float(np.asarray(fit)[0]), at_most=1.2)


@functools.cache
def _diabetes():
    x, y = map(np.asarray, load_diabetes(return_X_y=True))
    x, y = (x - x.mean(0)) / x.std(0), ((y - y.mean()) / y.std())[:, None]
    x, x_test, y, y_test = train_test_split(x.astype(np.float32), y.astype(np.float32), test_size=0.25, random_state=0)
    problem = Composite.of_model(
        lambda key: eqx.nn.MLP(10, 1, 16, 1, jnp.tanh, key=key),
        lambda outputs, batch: 0.5 * jnp.mean((outputs - batch[1]) ** 2),
        (x, y),
        batch_size=32,
    )
    test = Probe.on((jnp.asarray(x_test), jnp.asarray(y_test)), problem.loss)
    return eqx.tree_at(lambda p: p.probes, problem, problem.probes | {"test_loss": test})


@functools.cache
def _digits():
    return digits_mlp(width=16, batch_size=16)


SPACE = (("learning_rate", LogUniform(0.03, 1.0)), ("damping", LogUniform(1e-3, 1.0)))
RATES = (("learning_rate", LogUniform(1e-4, 1.0)),)
PROBLEMS = {"diabetes": _diabetes, "digits": _digits}


@functools.cache
def _tuned(problem, method, space, metric, scale):
    seeds, budget, steps = (8, 8, 150) if scale == "quick" else (32, 32, 1_000)
    options = {"steps": steps, "every": 5, "seeds": seeds, "budget": budget, "metric": metric}
    return compare(PROBLEMS[problem](), {"it": (method, dict(space))}, **options)["it"]


def _rivals(problem, metric, scale):
    return [_tuned(problem, m, RATES, metric, scale) for m in (optax.adam, optax.sgd)]


def _worst(ratios):
    return max(ratios, key=lambda r: r.high)


class Uncurved(GaussNewton):
    """A gradient step: neither J nor Q in the system."""

    def step(self, problem, x, state, key):
        gradient = jax.grad(problem.loss)(x, problem.sample(key))
        return jax.tree.map(lambda a, g: a - self.learning_rate * g, x, gradient), state


@claim(
    SLUG,
    "diabetes and digits networks, equal steps: test loss at most 1.02 times the better of tuned SGD and Adam",
    broken={"no Gauss-Newton matrix": {"method": Uncurved}},
    reason="better on digits (0.22 against 0.33), 5 % worse on diabetes, where SGD's path overfits less",
)
def generalizes_as_well(method=GaussNewton, *, scale):
    ratios, note = [], []
    for problem in PROBLEMS:
        ours = _tuned(problem, method, SPACE, "test_loss", scale).final
        best = min(_rivals(problem, "test_loss", scale), key=lambda e: np.median(e.final))
        ratios.append(paired_ratio(ours, best.final))
        note.append(f"{problem}: {np.median(ours):.3g} against {np.median(best.final):.3g}")
    return Evidence(_worst(ratios), at_most=1.02, note="; ".join(note))


@claim(
    SLUG,
    "there, it reaches tuned Adam's final train loss in at most half of Adam's steps",
    broken={"no Gauss-Newton matrix": {"method": Uncurved}},
    reason="it takes half of Adam's steps on diabetes and two thirds on digits, with 16 examples a step",
)
def halves_adams_steps(method=GaussNewton, *, scale):
    shares = []
    for problem in PROBLEMS:
        target = np.median(_tuned(problem, optax.adam, RATES, "loss", scale).final)
        entry = _tuned(problem, method, SPACE, "loss", scale)
        curves, steps = entry.trace["loss"].values[0], entry.trace.dataset["step"].values
        hit = curves <= target
        shares.append(np.where(hit.any(1), steps[hit.argmax(1)], 10 * steps[-1]) / steps[-1])  # never: ten times
    medians = [median(s) for s in shares]
    note = ", ".join(f"{p}: {m}" for p, m in zip(PROBLEMS, medians, strict=True))
    return Evidence(_worst(medians), at_most=0.5, note=note)
