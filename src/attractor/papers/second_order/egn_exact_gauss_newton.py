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

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.papers import words
from attractor.papers.words import Evidence, claim, first_step, log_slopes, median, paired_ratio, probes, seed, sizes
from attractor.problems.diabetes import diabetes_mlp
from attractor.problems.digits import digits_mlp
from attractor.registry import Choice, LogUniform, Uniform
from attractor.second_order.gauss_newton import GaussNewton, dual_direction


def _transposed(jacobian, hessian, gradient, damping):  # J J' Q in place of Q J J'
    dual = (jacobian @ jacobian.T) @ hessian + damping * jnp.eye(len(jacobian))
    return jacobian.T @ jnp.linalg.solve(dual, gradient)


def _primal(jacobian, hessian, gradient, damping):
    dense = jacobian.T @ hessian @ jacobian + damping * jnp.eye(jacobian.shape[1])
    return jnp.linalg.solve(dense, jacobian.T @ gradient)


@claim("the direction of the small system is that of the full one, for squared error and cross-entropy, to 1e-6",
       source="paper",
       broken={"no curvature": {"direction": lambda j, hessian, *rest: dual_direction(j, jnp.eye(len(j)), *rest)},
               "factors exchanged": {"direction": _transposed}})  # fmt: skip
def same_direction(direction=dual_direction):
    rng = np.random.default_rng(seed())
    labels, targets = rng.integers(0, 5, 8), rng.standard_normal((8, 5))
    outers = {
        "squared error": lambda y: 0.5 * jnp.mean((y.reshape(8, 5) - targets) ** 2),
        "cross-entropy": lambda y: optax.softmax_cross_entropy_with_integer_labels(y.reshape(8, 5), labels).mean(),
    }

    def error(jacobian, y, outer):
        parts = jacobian, jax.hessian(outer)(y), jax.grad(outer)(y), 1e-2
        full = _primal(*parts)
        return jnp.linalg.norm(direction(*parts) - full) / jnp.linalg.norm(full)

    with jax.enable_x64(True):
        drawn = rng.standard_normal((40, 300)), rng.standard_normal(40)
        errors = {name: float(jax.jit(functools.partial(error, outer=f))(*drawn)) for name, f in outers.items()}
    return Evidence.of_cases(errors, at_most=1e-6)


def _cpu_seconds(direction, parameters):
    """Of one direction for a batch of 32; not wall seconds, so that a busy machine does not change the exponent."""
    jacobian = np.random.default_rng(seed()).standard_normal((32, parameters)).astype(np.float32)
    parts = tuple(map(jnp.asarray, (jacobian, np.eye(32, dtype="f") / 32, np.ones(32, "f"), np.float32(1e-2))))
    compiled, repeats = jax.jit(direction), max(1, 10_000 // parameters)
    spent = words.seconds(lambda: [compiled(*parts) for _ in range(repeats)], rounds=5, clock=time.process_time)
    return spent[0].min() / repeats


@claim("the direction's time grows with the number of parameters d with an exponent of at most 1.2 (batch 32)",
       source="scaled", broken={"the full system": {"direction": _primal}})  # fmt: skip
def time_is_linear_in_the_parameters(direction=dual_direction):
    counts = (1_000, 10_000, 100_000) if direction is dual_direction else (200, 400, 800)
    return Evidence(float(log_slopes(counts, [_cpu_seconds(direction, d) for d in counts])[0]), at_most=1.2)


_diabetes, _digits = functools.cache(diabetes_mlp), functools.cache(lambda: digits_mlp(width=16, batch_size=8))
PROBLEMS = {"diabetes": _diabetes, "digits": _digits}
RATE, DAMPING, HUGE = LogUniform(0.03, 1.0), LogUniform(1e-3, 1.0), 1e6
NONE, SOME = Choice((0.0,)), Uniform(0.0, 0.95)
# All parameters are numbers, so that one program serves all of Gauss-Newton, and one both rivals.
GN, WITH_MOMENTUM = ((GaussNewton, {"learning_rate": RATE, "damping": DAMPING, "momentum": momentum})
                     for momentum in (NONE, SOME))  # fmt: skip
DESCENT = (GaussNewton, {"learning_rate": LogUniform(1e-3 * HUGE, HUGE), "damping": Choice((HUGE,)), "momentum": NONE})
ADAM = (optax.adam, {"learning_rate": LogUniform(1e-4, 1.0), "b1": SOME, "eps": Choice((1e-8,))})
SGD = (optax.adam, {"learning_rate": LogUniform(1e-4 * HUGE, HUGE), "b1": SOME, "eps": Choice((HUGE,))})  # m / eps


def _tuned(problem, method, metric, scale):
    task, how = PROBLEMS[problem](), sizes(scale, seeds=(12, 64), budget=(12, 32), steps=(150, 1_000), every=10)
    return words.tune(task, method, metric=metric, probes=probes(task, "loss", "validation_loss", "test_loss"), **how)


UNCURVED = {"no Gauss-Newton matrix (a huge damping), retuned": {"method": DESCENT}}


@claim(
    "diabetes, digits networks, equal steps: Gauss-Newton's test loss is no higher than the better of tuned SGD, Adam",
    source="paper", broken=UNCURVED,
    reason="on digits it is lower by 15 %; on diabetes the seeds do not decide: 1.00 [0.99, 1.01]")  # fmt: skip
def generalizes_as_well(method=GN, *, scale):
    ratios, note = {}, []
    for problem in PROBLEMS:
        ours, *rivals = (_tuned(problem, m, "test_loss", scale).final for m in (method, ADAM, SGD))
        best = min(rivals, key=np.median)
        ratios[problem] = paired_ratio(ours, best)
        note.append(f"{problem}: {np.median(ours):.3g} against {np.median(best):.3g}")
    return Evidence.of_cases(ratios, at_most=1.0, note="; ".join(note))


@claim(
    "diabetes, digits networks: Gauss-Newton reaches tuned Adam's final train loss in at most as many steps (median)",
    source="ours", broken=UNCURVED)  # fmt: skip
def needs_no_more_steps_than_adam(method=GN, *, scale):
    shares = {}
    for problem in PROBLEMS:
        target = np.median(_tuned(problem, ADAM, "loss", scale).final)
        trace = _tuned(problem, method, "loss", scale).trace
        steps = trace.dataset["step"].values
        shares[problem] = median(first_step(trace["loss"].values[0], target, steps) / steps[-1])
    return Evidence.of_cases(shares, at_most=1.0)


@claim("diabetes, digits networks, both tuned: with momentum Gauss-Newton's final train loss is lower (ratio below 1)",
       source="paper", broken=UNCURVED,
       reason="the seeds do not decide it: 1.01 [0.96, 1.05] and 0.99 [0.88, 1.11]")  # fmt: skip
def momentum_accelerates(method=WITH_MOMENTUM, *, scale):
    finals = {p: [_tuned(p, m, "loss", scale).final for m in (method, GN)] for p in PROBLEMS}
    return Evidence.of_cases({problem: paired_ratio(*pair) for problem, pair in finals.items()}, at_most=1.0)
