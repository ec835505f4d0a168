"""One recursion behind the rates of gradient descent, accelerated, stochastic and variance-reduced methods.

```python
import numpy as np
import optax
from attractor import run
from attractor.optim import recursion_slack
from attractor.problems import ridge

problem = ridge()
step = 1 / problem.constants["L"]
probes = {"w": lambda problem, w, key: w, "loss": problem.probes["loss"]}
trace = run(problem, optax.sgd(step), steps=50, every=1, probes=probes)
distance = np.sum((trace["w"].values[0, 0] - problem.solution) ** 2, -1) / (2 * step)
gap = trace["loss"].values[0, 0] - problem.optimum
print(recursion_slack(distance[1:], gap[1:], distance[:-1]).min())  # not negative: so the mean gap is below D/k
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.optim.rates import convergence_bound, recursion_slack
from attractor.optim.splitting import fista
from attractor.optim.variance_reduction import Svrg
from attractor.papers.words import Evidence, cached, claim, paired_ratio, run, seeds
from attractor.problem import Minimization
from attractor.problems.convex import ridge

STEPS = 300


def _x64(function):
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with jax.enable_x64(True), np.errstate(over="ignore", invalid="ignore"):
            return function(*args, **kwargs)

    return wrapped


@cached
def _squares(batch_size=None, l2=0.01):
    """Ridge regression on the diabetes data in double precision: problem, solution and constants."""
    x, y = (np.asarray(a, float) for a in ridge().full)
    hessian = x.T @ x / len(y) + l2 * np.eye(10)
    w = np.linalg.solve(hessian, x.T @ y / len(y))
    noise = np.mean(np.sum(((x @ w - y)[:, None] * x + l2 * w) ** 2, 1))
    eigenvalues = np.linalg.eigvalsh(hessian)
    constants = {"L": eigenvalues[-1], "mu": eigenvalues[0], "L_max": np.sum(x**2, 1).max() + l2, "noise": noise}

    def loss(w, batch):
        return 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2) + 0.5 * l2 * jnp.sum(w**2)

    problem = Minimization(loss, jnp.zeros(10), (jnp.asarray(x), jnp.asarray(y)), batch_size=batch_size)
    gap = float(loss(jnp.zeros(10), (x, y)) - loss(jnp.asarray(w), (x, y)))
    return problem, w, constants | {"distance": float(np.linalg.norm(w)), "gap": gap}


def _path(problem, w, method, seeds=(0,)):
    """Points (seeds, steps + 1, d), and the gaps there."""
    probes = {"w": lambda problem, w, key: w, "loss": problem.probes["loss"]}
    trace = run(problem, method, steps=STEPS, every=1, seeds=seeds, probes=probes)
    return trace["w"].values[0], trace["loss"].values[0] - float(problem.loss(jnp.asarray(w), problem.full))


def _nesterov(problem, w, step):
    """Points after 0 … 300 steps, and the gaps after 1 … 300."""
    _, (x, loss) = fista(
        lambda x: jax.grad(problem.loss)(x, problem.full), lambda v, _: v, jnp.zeros(10), step, STEPS,
        measure=lambda x: (x, problem.loss(x, problem.full)),
    )  # fmt: skip
    gap = np.asarray(loss) - float(problem.loss(jnp.asarray(w), problem.full))
    return np.concatenate([np.zeros((1, 10)), x]), gap


def _squared_slopes(problem, x):
    """Of the gradients at points."""
    return np.asarray(jnp.sum(jax.vmap(lambda x: jax.grad(problem.loss)(x, problem.full))(jnp.asarray(x)) ** 2, 1))


@claim(
    "D_k + progress_k <= ω D_{k-1} + E (to 1e-12 D_0), 300 steps: descent in 3 forms, Nesterov, SGD in expectation",
    source="paper",
    broken={"three times the largest step": {"factor": 3.0}},
)
@_x64
def one_recursion_for_all(factor=1.0):
    problem, w, c = _squares()
    step = factor / c["L"]
    x, gap = (a[0] for a in _path(problem, w, optax.sgd(step)))
    square, slopes = np.sum((x - w) ** 2, -1), _squared_slopes(problem, x)
    half = square / (2 * step)
    slacks = {
        "descent, convex": recursion_slack(half[1:], gap[1:], half[:-1]) / half[0],
        "descent, strongly convex": recursion_slack(square[1:], 0.0, square[:-1], 1 - c["mu"] / c["L"]) / square[0],
        "descent, nonconvex": recursion_slack(gap[1:], step / 2 * slopes[:-1], gap[:-1]) / gap[0],
    }

    x, gap = _nesterov(problem, w, step)
    weight = (np.arange(STEPS) + 2) / 2
    ahead = x[:-1] + weight[:, None] * np.diff(x, axis=0)
    energy = step * weight**2 * gap + 0.5 * np.sum((ahead - w) ** 2, -1)
    slacks["Nesterov"] = recursion_slack(energy[1:], 0.0, energy[:-1]) / energy[0]

    stochastic, _, _ = _squares(1)
    step = factor / (2 * c["L_max"])
    x = _path(stochastic, w, optax.sgd(step), seeds=seeds(8))[0].reshape(-1, 10)
    rows, targets = (np.asarray(a) for a in problem.full)
    each = (x @ rows.T - targets)[..., None] * rows + 0.01 * x[:, None]  # every example's gradient at every point
    expected = np.mean(np.sum((x[:, None] - step * each - w) ** 2, -1), 1)
    before = np.sum((x - w) ** 2, -1)
    noise = 2 * step**2 * c["noise"]
    slacks["SGD"] = recursion_slack(expected, 0.0, before, 1 - step * c["mu"], noise) / before.max()
    smallest = {name: float(np.nan_to_num(slack, nan=-np.inf).min()) for name, slack in slacks.items()}
    return Evidence.of_cases(smallest, at_least=-1e-12)


@claim(
    "Nesterov's method, SVRG (mean of 20 seeds) and descent's gradient: error at most 1 times the bound that follows",
    source="paper",
    broken={"three times the largest step": {"factor": 3.0}},
)
@_x64
def bounds_what_is_measured(factor=1.0):
    problem, w, c = _squares(l2=0.3)
    optimum, k = float(problem.loss(jnp.asarray(w), problem.full)), np.arange(1, STEPS + 1)

    step = {"step": float(factor / c["L"])}
    slopes = _squared_slopes(problem, _path(problem, w, optax.sgd(step["step"]))[0][0, :-1])
    ratios = {
        "Nesterov": _nesterov(problem, w, step["step"])[1] / convergence_bound("nesterov", "convex", c | step, k),
        "gradient": np.minimum.accumulate(slopes) / convergence_bound("gradient-descent", "nonconvex", c | step, k),
    }
    period, snapshots = 2_000, 5
    step = {"step": float(factor / (10 * c["L_max"])), "period": period}
    svrg = Svrg(step["step"], period)
    trace = run(_squares(1, l2=0.3)[0], svrg, steps=period * snapshots, every=period, seeds=seeds(20))
    gap = trace["loss"].values[0, :, 1:].mean(0) - optimum
    ratios["SVRG"] = gap / convergence_bound("svrg", "strongly-convex", c | step, np.arange(1, snapshots + 1))
    return Evidence.of_cases({n: float(np.nan_to_num(r, nan=np.inf).max()) for n, r in ratios.items()}, at_most=1.0)


@claim(
    "the same constant step and as many minibatches: SVRG ends at most 1e-3 as far from the minimum as SGD does",
    source="ours",
    broken={"no correction": {"method": lambda rate, period: optax.sgd(rate)}},
)
@_x64
def does_not_stall(method=Svrg):
    problem, w, c = _squares(8, l2=0.3)
    optimum, step = float(problem.loss(jnp.asarray(w), problem.full)), float(1 / (10 * c["L_max"]))
    runs = (run(problem, m, steps=20_000, every=20_000, seeds=seeds(12)) for m in (method(step, 500), optax.sgd(step)))
    ours, sgd = (np.maximum(trace.last("loss").values[0] - optimum, 1e-16) for trace in runs)
    started = float(problem.loss(jnp.zeros(10), problem.full)) - optimum
    return Evidence(
        paired_ratio(ours, sgd), at_most=1e-3, given={"SGD gets closer than its start": sgd.max() < started}
    )
