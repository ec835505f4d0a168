"""Handbook of convergence theorems: every measured error stays below its proven bound.

```python
import numpy as np
import optax
from attractor import run
from attractor.optim import convergence_bound, largest_step
from attractor.problems import ridge

problem = ridge()
constants = dict(problem.constants, distance=float(np.linalg.norm(problem.solution)))
constants["step"] = largest_step("gradient-descent", "convex", constants)
trace = run(problem, optax.sgd(constants["step"]), steps=200, every=20)
gap = trace["loss"].values[0, 0] - problem.optimum
print(gap[1:] / convergence_bound("gradient-descent", "convex", constants, np.arange(20, 201, 20)))  # below 1
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import linprog

from attractor.engine import run
from attractor.optim.proximal import lasso, proximal_sgd
from attractor.optim.rates import (
    averaging_momentum,
    bounded_quantity,
    convergence_bound,
    largest_step,
    minibatch_constants,
)
from attractor.papers import Evidence, claim
from attractor.problem import Minimization
from attractor.problems.convex import ridge

SLUG = "convergence-handbook-gradient-methods"
STEPS = 300
L1 = 0.1


def _data():
    """The diabetes data, standardized."""
    return tuple(np.asarray(a, float) for a in ridge().full)


def _least_squares(batch_size=None, l1=0.0, l2=0.0):
    """Half the mean squared residual on the diabetes data, with a ridge term; the L1 term is in the objective only."""
    x, y = _data()
    hessian = x.T @ x / len(y) + l2 * np.eye(10)
    w = np.linalg.solve(hessian, x.T @ y / len(y))
    if l1:
        for _ in range(20_000):
            w = w - (hessian @ w - x.T @ y / len(y)) / np.linalg.norm(hessian, 2)
            w = np.sign(w) * np.maximum(np.abs(w) - l1 / np.linalg.norm(hessian, 2), 0)
    residual, eigenvalues = x @ w - y, np.linalg.eigvalsh(hessian)
    gradients = residual[:, None] * x + l2 * w
    smooth = np.sum(x**2, 1) + l2
    noise = np.mean(np.sum((gradients - gradients.mean(0)) ** 2, 1))
    constants = {"L": eigenvalues[-1], "mu": eigenvalues[0], "L_max": smooth.max(), "noise": noise}

    def loss(w, batch):
        return 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2) + 0.5 * l2 * jnp.sum(w**2)

    def objective(w):
        return loss(w, (x, y)) + l1 * jnp.sum(jnp.abs(w))

    start = jnp.zeros(10)
    return Minimization(loss, start, (jnp.asarray(x), jnp.asarray(y)), batch_size=batch_size), objective, w, constants


def _interpolation(batch_size):
    """More unknowns than examples: not strongly convex, but PL, and every example is fitted."""
    x, y = _data()
    x, y = np.random.default_rng(0).standard_normal((8, 20)), y[:8]
    eigenvalues, smooth = np.linalg.eigvalsh(x @ x.T / 8), np.sum(x**2, 1)
    constants = {"L": eigenvalues[-1], "mu": eigenvalues[0], "L_max": smooth.max(), "noise": 0.0, "misfit": 0.0}

    def loss(w, batch):
        return 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)

    problem = Minimization(loss, jnp.zeros(20), (jnp.asarray(x), jnp.asarray(y)), batch_size=batch_size)
    return problem, lambda w: loss(w, (x, y)), np.linalg.pinv(x) @ y, constants


def _wave():
    """x² + 3 sin² x: not convex; the gradient vanishes nowhere but at the minimum."""

    def loss(w):
        return jnp.sum(w**2 + 3 * jnp.sin(w) ** 2)

    return Minimization(loss, jnp.array([5.0])), loss, np.zeros(1), {"L": 8.0, "mu": 1 / 32}


def _absolute(batch_size=None):
    """Mean absolute residual on the diabetes data; the solution is that of a linear program."""
    x, y = _data()
    n, d = x.shape
    cost, eye = np.concatenate([np.zeros(d), np.ones(n) / n]), np.eye(n)
    rows = np.block([[x, -eye], [-x, -eye]])
    w = linprog(cost, rows, np.concatenate([y, -y]), bounds=[(None, None)] * d + [(0, None)] * n).x[:d]

    def loss(w, batch):
        return jnp.mean(jnp.abs(batch[0] @ w - batch[1]))

    problem = Minimization(loss, jnp.zeros(d), (jnp.asarray(x), jnp.asarray(y)), batch_size=batch_size)
    return problem, lambda w: loss(w, (x, y)), w, {"G": np.linalg.norm(x, axis=1).max(), "step": 0.02}


def _prox(rate):
    return proximal_sgd(rate, lasso(L1))


@functools.cache
def _cases():
    """``(theorem, data, (problem, objective, solution, constants), rate -> method)``; noisy ones are averaged."""
    squares, strongly = _least_squares, functools.partial(_least_squares, l2=0.1)
    problem, objective, w, constants = strongly(32)
    batches = (problem, objective, w, minibatch_constants(constants, 32))
    return (
        (("gradient-descent", "convex"), "least squares", squares(), optax.sgd),
        (("gradient-descent", "strongly-convex"), "ridge", strongly(), optax.sgd),
        (("gradient-descent", "pl"), "x² + 3 sin² x", _wave(), optax.sgd),
        (("gradient-descent", "pl"), "interpolation", _interpolation(None), optax.sgd),
        (("sgd", "convex"), "least squares", squares(1), optax.sgd),
        (("sgd", "strongly-convex"), "ridge", strongly(1), optax.sgd),
        (("sgd", "strongly-convex"), "ridge, batches of 32", batches, optax.sgd),
        (("sgd", "pl"), "interpolation", _interpolation(1), optax.sgd),
        (("momentum", "convex"), "least squares", squares(1), averaging_momentum),
        (("subgradient", "convex"), "absolute deviations", _absolute(), optax.sgd),
        (("subgradient", "convex"), "absolute deviations, one at a time", _absolute(1), optax.sgd),
        (("proximal-gradient", "convex"), "lasso", squares(l1=L1), _prox),
        (("proximal-gradient", "strongly-convex"), "elastic net", strongly(l1=L1), _prox),
        (("proximal-sgd", "strongly-convex"), "elastic net, batches of 4", strongly(4, l1=L1), _prox),
    )


FACTORS = (1.0, 3.0, 4.0)


@functools.cache
def _tightness(index, scale):
    """For each of `FACTORS` times the largest step: the largest ratio of error to bound over 1 … 300 steps.

    The error is a mean over seeds where steps are random, with two standard errors added.
    """
    (name, assumption), _, (problem, objective, solution, constants), method = _cases()[index]
    seeds = 1 if problem.batch_size is None else 20 if scale == "quick" else 200
    with jax.enable_x64(True):
        start = np.asarray(problem.init(jax.random.key(0)), float)
        optimum = float(objective(jnp.asarray(solution)))
        first = {"distance": np.linalg.norm(start - solution), "gap": float(objective(jnp.asarray(start))) - optimum}
        limit = min(largest_step(name, assumption, constants | first), constants.get("step", np.inf))
        rates = [float(factor * limit) for factor in FACTORS]
        probes = {"x": lambda problem, x, key: x}
        trace = run(
            problem, lambda rate: method(rate), sweep={"rate": rates}, steps=STEPS, every=1, seeds=seeds, probes=probes
        )
        x = trace["x"].values  # (factors, seeds, steps + 1, d)
        if bounded_quantity(name, assumption) == "square":
            error = np.sum((x - solution) ** 2, -1)[:, :, 1:]
        else:
            if bounded_quantity(name, assumption) == "mean gap":
                x = np.cumsum(x[:, :, :-1], 2) / np.arange(1, STEPS + 1)[:, None]
            else:
                x = x[:, :, 1:]
            flat = jax.jit(jax.vmap(objective))(jnp.asarray(x.reshape(-1, x.shape[-1])))
            error = np.asarray(flat).reshape(x.shape[:-1]) - optimum
    error = error.mean(1) + (2 * error.std(1) / np.sqrt(seeds) if seeds > 1 else 0.0)
    bounds = [
        convergence_bound(name, assumption, constants | first | {"step": rate}, np.arange(1, STEPS + 1))
        for rate in rates
    ]
    with np.errstate(invalid="ignore", over="ignore"):
        return np.nan_to_num(error / np.maximum(np.abs(bounds), 1e-12), nan=np.inf).max(1)


@claim(
    SLUG,
    "14 cases of 8 theorems, real data, the largest step allowed: at each of 300 steps the mean error plus two "
    "standard errors is at most the bound (the largest ratio)",
    broken={"three times the largest step": {"factor": 3.0}},
)
def stays_below_the_bounds(factor=1.0, *, scale):
    ratios = [_tightness(i, scale)[FACTORS.index(factor)] for i in range(len(_cases()))]
    note = "; ".join(
        f"{', '.join(case[0])}, on {case[1]}: {ratio:.2g}" for case, ratio in zip(_cases(), ratios, strict=True)
    )
    return Evidence(max(ratios), at_most=1.0, note=note)


@claim(
    SLUG,
    "the limits are real: with four times the largest step (twice what is stable) gradient descent and its proximal "
    "version leave their bounds behind by a factor of 100 at least (the smaller factor)",
    broken={"the largest step": {"factor": 1.0}},
)
def larger_steps_break_them(factor=4.0, *, scale):
    both = [i for i, case in enumerate(_cases()) if case[0][0] in ("gradient-descent", "proximal-gradient")]
    convex = [i for i in both if _cases()[i][0][1] == "convex"]
    return Evidence(min(_tightness(i, scale)[FACTORS.index(factor)] for i in convex), at_least=100.0)
