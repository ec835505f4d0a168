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

from attractor.engine import run
from attractor.optim.rates import convergence_bound, recursion_slack
from attractor.optim.splitting import fista
from attractor.optim.variance_reduction import Svrg
from attractor.papers import Evidence, claim
from attractor.problem import Minimization
from attractor.problems.convex import ridge
from attractor.stats import paired_ratio

SLUG = "gd-methods-unified-recursion"
STEPS = 300


def _x64(function):
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with jax.enable_x64(True), np.errstate(over="ignore", invalid="ignore"):
            return function(*args, **kwargs)

    return wrapped


@functools.cache
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


def _path(problem, w, method, seeds=1):
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


@claim(
    SLUG,
    "D_k + progress_k <= ω D_{k-1} + E at each of 300 steps of gradient descent (in its convex, strongly convex and "
    "nonconvex form), Nesterov's method and SGD in expectation, each with its D (smallest slack over D_0, to rounding)",
    broken={"three times the largest step": {"factor": 3.0}},
)
@_x64
def one_recursion_for_all(factor=1.0, *, scale):
    problem, w, c = _squares()
    step = factor / c["L"]
    x, gap = (a[0] for a in _path(problem, w, optax.sgd(step)))
    square = np.sum((x - w) ** 2, -1)
    gradient = np.asarray(jax.vmap(lambda x: jax.grad(problem.loss)(x, problem.full))(jnp.asarray(x)))
    slopes = np.sum(gradient**2, -1)
    slacks = [
        recursion_slack(square[1:] / (2 * step), gap[1:], square[:-1] / (2 * step)) / square[0] * 2 * step,
        recursion_slack(square[1:], 0.0, square[:-1], 1 - c["mu"] / c["L"]) / square[0],
        recursion_slack(gap[1:], step / 2 * slopes[:-1], gap[:-1]) / gap[0],
    ]

    x, gap = _nesterov(problem, w, step)
    weight = (np.arange(STEPS) + 2) / 2
    ahead = x[:-1] + weight[:, None] * np.diff(x, axis=0)
    energy = step * weight**2 * gap + 0.5 * np.sum((ahead - w) ** 2, -1)
    slacks.append(recursion_slack(energy[1:], 0.0, energy[:-1]) / energy[0])

    stochastic, _, _ = _squares(1)
    step = factor / (2 * c["L_max"])
    x = _path(stochastic, w, optax.sgd(step), seeds=8)[0].reshape(-1, 10)
    rows, targets = (np.asarray(a) for a in problem.full)
    each = (x @ rows.T - targets)[..., None] * rows + 0.01 * x[:, None]  # every example's gradient at every point
    expected = np.mean(np.sum((x[:, None] - step * each - w) ** 2, -1), 1)
    before = np.sum((x - w) ** 2, -1)
    noise = 2 * step**2 * c["noise"]
    slacks.append(recursion_slack(expected, 0.0, before, 1 - step * c["mu"], noise) / before.max())
    worst = min(float(np.nan_to_num(slack, nan=-np.inf).min()) for slack in slacks)
    return Evidence(worst, at_least=-1e-12)


@claim(
    SLUG,
    "the rates that follow bound Nesterov's method, SVRG (by snapshots, mean of 20 seeds) and the gradient of gradient "
    "descent, on real data (the largest ratio of error to bound)",
    broken={"three times the largest step": {"factor": 3.0}},
)
@_x64
def bounds_what_is_measured(factor=1.0, *, scale):
    problem, w, c = _squares(l2=0.3)
    optimum, k = float(problem.loss(jnp.asarray(w), problem.full)), np.arange(1, STEPS + 1)

    step = {"step": float(factor / c["L"])}
    descent = _path(problem, w, optax.sgd(step["step"]))[0][0, :-1]
    slopes = np.asarray(
        jnp.sum(jax.vmap(lambda x: jax.grad(problem.loss)(x, problem.full))(jnp.asarray(descent)) ** 2, 1)
    )
    ratios = {
        "nesterov": _nesterov(problem, w, step["step"])[1] / convergence_bound("nesterov", "convex", c | step, k),
        "gradient": np.minimum.accumulate(slopes) / convergence_bound("gradient-descent", "nonconvex", c | step, k),
    }
    period, snapshots = 2_000, 5
    step = {"step": float(factor / (10 * c["L_max"])), "period": period}
    trace = run(_squares(1, l2=0.3)[0], Svrg(step["step"], period), steps=period * snapshots, every=period, seeds=20)
    gap = trace["loss"].values[0, :, 1:].mean(0) - optimum
    ratios["svrg"] = gap / convergence_bound("svrg", "strongly-convex", c | step, np.arange(1, snapshots + 1))
    worst = {name: float(np.nan_to_num(r, nan=np.inf).max()) for name, r in ratios.items()}
    return Evidence(max(worst.values()), at_most=1.0, note=", ".join(f"{n} {r:.2g}" for n, r in worst.items()))


@claim(
    SLUG,
    "the same constant step and as many minibatches: SVRG ends at most 1e-3 as far from the minimum as SGD does",
    broken={"no correction": {"method": lambda rate, period: optax.sgd(rate)}},
)
@_x64
def does_not_stall(method=Svrg, *, scale):
    problem, w, c = _squares(8, l2=0.3)
    optimum, step = float(problem.loss(jnp.asarray(w), problem.full)), float(1 / (10 * c["L_max"]))
    runs = (run(problem, m, steps=20_000, every=20_000, seeds=12) for m in (method(step, 500), optax.sgd(step)))
    ours, sgd = (np.maximum(trace.last("loss").values[0] - optimum, 1e-16) for trace in runs)
    return Evidence(paired_ratio(ours, sgd), at_most=1e-3)
