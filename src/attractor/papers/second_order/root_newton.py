"""Root Newton: a step-size formula that gives damped Newton a global rate of 1/k^3 on convex functions.

```python
from attractor import problems, run
from attractor.second_order import DampedNewton

trace = run(problems.logistic_regression(l2=1e-6), DampedNewton(backtracking=True), steps=40)
print(trace["loss"].values[0, 0])  # decreasing from the first step on
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from attractor.papers.words import Evidence, cached, claim, run, seed, sizes
from attractor.problem import Minimization
from attractor.problems.convex import logistic_regression
from attractor.second_order.regularized_newton import DampedNewton, cubic_stepsize, root_stepsize

STEPS, DIM, ROWS = 100, 50, 200
GRID = tuple(np.geomspace(1e-4, 1e4, 17))
CASES = (("cubes", 10.0, 0), ("logistic", 10.0, 0))  # loss, norm of the start, stream of its direction


def _cubes(x, batch):
    rows, offsets = batch
    return jnp.sum(jnp.maximum(rows @ x - offsets, 0) ** 3) + 1e-8 * x @ x


_logistic = cached(functools.partial(logistic_regression, l2=1e-6))  # one object: one program for all starts


def _problem(name, distance, stream):
    rng = np.random.default_rng(seed(stream))
    start = rng.standard_normal(DIM if name == "cubes" else 31)
    start = jnp.asarray(distance * start / np.linalg.norm(start))
    if name == "cubes":
        data = (rng.standard_normal((ROWS, DIM)) / np.sqrt(DIM), rng.standard_normal(ROWS))
        return Minimization(_cubes, start, data)
    return Minimization(_logistic().loss, start, _logistic().full)


@cached
def _losses(case, stepsize, constants=GRID, backtracking=False):
    """The loss along a run, per constant: (constants, STEPS + 1)."""
    with jax.enable_x64(True):
        make = _make(stepsize, backtracking)
        trace = run(_problem(*case), make, steps=STEPS, every=1, sweep={"smoothness": constants})
    return trace["loss"].values[:, 0]


_make = cached(lambda rule, backtracking: functools.partial(DampedNewton, stepsize=rule, backtracking=backtracking))
_optimum = cached(lambda case: min(np.nanmin(_losses(case, rule)) for rule in (root_stepsize, cubic_stepsize)))


def _arrival(losses, optimum, gap=1e-8):
    """Steps to the gap for each constant; infinite if it is not reached, or if the loss went up before."""
    arrived = losses - optimum <= gap
    first = np.where(arrived.any(1), arrived.argmax(1), len(losses[0]))
    rounding = 1e-12 * np.abs(losses[:, :-1])
    up = (np.diff(losses, axis=1) > rounding) | ~np.isfinite(losses[:, 1:])
    rose = np.where(up.any(1), up.argmax(1), len(losses[0]))
    return np.where(arrived.any(1) & (rose >= first), first, np.inf)


def _tuned(case, stepsize):  # the best constant, and its number of steps to the gap
    steps = _arrival(_losses(case, stepsize), _optimum(case))
    return int(steps.argmin()), float(steps.min())


def _whole(smoothness, decrement):
    return jnp.ones_like(decrement)


WRONG = {"no damping": {"stepsize": _whole},
         "inverted: long where the gradient is large": {"stepsize": lambda *of: 1 - root_stepsize(*of)}}  # fmt: skip


@claim("cubes, logistic regression: loss falls every step; k^3 (f_k - f*) from step 10 on at most its maximum before",
       source="scaled", broken=WRONG)  # fmt: skip
def converges_as_the_inverse_cube(stepsize=root_stepsize):
    ratios = {}
    for case in CASES:
        best, steps = _tuned(case, stepsize)
        gaps = (_losses(case, stepsize)[best] - _optimum(case)) * np.arange(STEPS + 1) ** 3
        ratios[case[0]] = float(np.nanmax(gaps[10:]) / gaps[:11].max()) if np.isfinite(steps) else np.inf
    return Evidence.of_cases(ratios, at_most=1.0)


@claim("logistic regression, starts of norm 10, 20, both tuned: no more steps to a gap of 1e-8 than cubic step sizes",
       source="scaled", broken=WRONG)  # fmt: skip
def is_no_slower_than_the_cubic_step_size(stepsize=root_stepsize, *, scale):
    """A rate of 1/k^3 against one of 1/k^2, where whole steps diverge."""
    streams = range(sizes(scale, n=(2, 16))["n"])
    cases = [("logistic", distance, stream) for distance in (10.0, 20.0) for stream in streams]
    steps = {f"{d:g}, {i}": [_tuned((n, d, i), r)[1] for r in (stepsize, cubic_stepsize, _whole)] for n, d, i in cases}
    given = {"the cubic step size gets there": all(np.isfinite(cubic) for _, cubic, _ in steps.values()),
             "whole steps do not": all(np.isinf(whole) for *_, whole in steps.values())}  # fmt: skip
    return Evidence.of_cases({name: a / b for name, (a, b, _) in steps.items()}, at_most=1.0, given=given)


@claim("backtracking from a constant wrong by 1e-3 to 1e3 takes at most twice the steps of the tuned constant",
       source="ours", broken={"no backtracking": {"backtracking": False}})  # fmt: skip
def backtracking_needs_no_constant(backtracking=True):
    ratios = {}
    for case in CASES:
        best, steps = _tuned(case, root_stepsize)
        factors = (1e-3, 1e-2, 0.1, 1.0, 10.0, 1e2, 1e3)
        wrong = tuple(GRID[best] * factor for factor in factors)
        taken = _arrival(_losses(case, root_stepsize, wrong, backtracking), _optimum(case))
        ratios |= {f"{case[0]}, {factor:g}": float(t / steps) for factor, t in zip(factors, taken, strict=True)}
    return Evidence.of_cases(ratios, at_most=2.0)
