"""Cyclic block coordinate descent: one proximal step per block, with a recursive variance-reduced gradient.

```python
from attractor import run
from attractor.optim import CyclicBlockDescent
from attractor.linalg import lasso
from attractor.problems import logistic_regression

problem = logistic_regression(batch_size=24)
method = CyclicBlockDescent(learning_rate=0.3, blocks=5, probability=0.04, prox=lasso(1e-3))
trace = run(problem, method, steps=500)
print(trace.last("loss").values)  # each epoch costs as much as 70 of the 569 gradients, in expectation
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from attractor.linalg.proximal import lasso, soft_threshold
from attractor.optim.variance_reduction import CyclicBlockDescent
from attractor.papers.words import Evidence, bootstrap, cached, claim, first_step, log_slopes, run, seeds, sizes
from attractor.problem import Minimization
from attractor.problems.convex import logistic_regression
from attractor.problems.generalized_linear import sigmoid_loss

L1, BLOCKS, BATCH, SAMPLES, TARGET = 1e-3, 5, 24, 569, 1e-5  # below the square of the penalty's own slope, 31e-6
EPOCHS, RATES = 900, (0.5, 2.0, 4.0, 8.0)  # the shortest step takes 630 epochs with exact gradients
VARIED = BATCH / (SAMPLES + BATCH)  # the probability of an exact epoch


def _mapping(problem, x, key):
    """Squared norm of the gradient mapping, unit step, on all data."""
    moved = soft_threshold(x - jax.grad(problem.loss)(x, problem.full), L1)
    return jnp.sum((x - moved) ** 2)


@cached
def _classification():
    """Breast cancer, nonconvex smooth loss; the penalty is left to the methods."""
    return Minimization(sigmoid_loss, jnp.zeros(31), logistic_regression().full, batch_size=BATCH)


def _estimated(rule):
    """Another estimate, from a minibatch's gradients now and before, and the last estimate."""

    class Damaged(CyclicBlockDescent):
        def corrected(self, now, before, estimate):
            return rule(now, before, estimate)

    return {"method": Damaged}


def _reversed(*args, prox, **kwargs):
    """The penalty's map moves away from zero."""
    return CyclicBlockDescent(*args, prox=lambda x, step: 2 * x - prox(x, step), **kwargs)


FORGETFUL = {"the last estimate is dropped": _estimated(lambda now, before, estimate: now - before)}
NO_PROX = {"no proximal map": {"method": lambda *args, prox, **kwargs: CyclicBlockDescent(*args, **kwargs)}}


@claim(
    "sigmoid loss with L1, exact gradients, 5 blocks: the smallest squared mapping has log-log slope at most -0.9",
    source="scaled", broken={"the map reversed": {"method": _reversed}}, deterministic=True,
)  # fmt: skip
def finds_stationary_points(method=CyclicBlockDescent, *, scale):
    exact = method(1.0, blocks=BLOCKS, probability=1.0, prox=lasso(L1))
    how = sizes(scale, steps=(3_000, 30_000), every=10)
    trace = run(_classification(), exact, probes={"mapping": _mapping}, **how)
    best = np.minimum.accumulate(trace["mapping"].values[0, 0])
    slope = float(log_slopes(trace["mapping"]["step"].values, np.maximum(best, 1e-14))[0])
    return Evidence(slope, at_most=-0.9, note=f"mapping {best[1]:.1e} to {best[-1]:.1e}")


@cached
def _epochs(method, blocks, probability, scale):
    """Epochs until the squared gradient mapping is at the target, (step size, seed)."""
    fixed = partial(method, blocks=blocks, probability=probability, prox=lasso(L1))
    draws = [0] if probability == 1 else seeds(sizes(scale, n=(8 + 16, 64 + 128))["n"])
    how = {"steps": EPOCHS, "every": 10, "probes": {"mapping": _mapping}}
    trace = run(_classification(), fixed, sweep={"learning_rate": RATES}, seeds=draws, **how)
    return first_step(trace["mapping"].values, TARGET, trace["mapping"]["step"].values)


def _medians(a, b):
    return np.median(a, axis=-1) / np.median(b, axis=-1)


def _compare(scale, at_most, ours, theirs, rate=None):
    """Of two (method, blocks, probability) the median run's component gradients to the target, at one step or at the
    best for the median of other seeds. Now and then a run is thrown to where the sigmoid is flat, whatever its step,
    and takes thousands of epochs back: those are counted, and do not enter a median."""
    costs, notes = [], []
    for method, blocks, probability in (ours, theirs):
        epochs = _epochs(method, blocks, probability, scale)
        tuning, fresh = (epochs, epochs) if probability == 1 else np.split(epochs, [epochs.shape[1] // 3], axis=1)
        chosen = np.median(tuning, axis=1).argmin() if rate is None else RATES.index(rate)
        costs.append(fresh[chosen] * (probability * SAMPLES + (1 - probability) * 2 * BATCH))
        notes.append(f"{np.median(costs[-1]):.3g} gradients at {RATES[chosen]}, {np.isinf(fresh[chosen]).sum()} late")
    given = {"the baseline's median run reaches the target": bool(np.isfinite(np.median(costs[1])))}
    exact = len(costs[0]) == 1
    ratio = float(costs[0][0] / costs[1][0]) if exact else bootstrap(_medians, *np.broadcast_arrays(*costs))
    return Evidence(ratio, at_most=at_most, given=given, note=" against ".join(notes))


@claim(
    "sigmoid loss with L1, exact gradients, both tuned: 5 blocks need no more gradients to 1e-5 than one block",
    source="scaled", broken=NO_PROX, deterministic=True,
    reason="1.2 times as many: 60 epochs against 50, both at steps of 8",
)  # fmt: skip
def costs_no_more_than_gradient_descent(method=CyclicBlockDescent, *, scale):
    return _compare(scale, 1.0, (method, BLOCKS, 1.0), (CyclicBlockDescent, 1, 1.0))


@claim(
    "sigmoid loss with L1, tuned: the median run with variance-reduced blocks takes <= 1.2 of PAGE's gradients to 1e-5",
    source="ours", broken=FORGETFUL,
)  # fmt: skip
def costs_no_more_than_page(method=CyclicBlockDescent, *, scale):
    return _compare(scale, 1.2, (method, BLOCKS, VARIED), (CyclicBlockDescent, 1, VARIED))


@claim(
    "sigmoid loss with L1, tuned: the median run with variance-reduced blocks takes <= half of exact ones' gradients",
    source="ours", broken=FORGETFUL,
    reason="the medians of 16 runs do not decide it: 0.31 [0.22, 0.51]",
)  # fmt: skip
def costs_less_than_full_batches(method=CyclicBlockDescent, *, scale):
    return _compare(scale, 0.5, (method, BLOCKS, VARIED), (CyclicBlockDescent, BLOCKS, 1.0))


@claim(
    "sigmoid loss with L1, step 0.5: the median run with variance-reduced blocks takes <= half of exact gradients",
    source="scaled", broken=FORGETFUL,
)  # fmt: skip
def costs_less_at_equal_steps(method=CyclicBlockDescent, *, scale):
    """As the theory compares them: both step sizes are of the order of one over the smoothness."""
    return _compare(scale, 0.5, (method, BLOCKS, VARIED), (CyclicBlockDescent, BLOCKS, 1.0), rate=0.5)


@claim(
    "rank-deficient least squares: the gap falls linearly, R^2 of its logarithm at least 0.98 for each of 8 seeds",
    source="ours", broken={"no correction": _estimated(lambda now, before, estimate: now)},
)  # fmt: skip
def is_linear_under_pl(method=CyclicBlockDescent, *, scale):
    rng = np.random.default_rng(seeds(1))
    rows, y = rng.standard_normal((200, 10)) @ rng.standard_normal((10, 20)) / 20**0.5, rng.standard_normal(200)
    optimum = np.mean((rows @ np.linalg.lstsq(rows, y)[0] - y) ** 2) / 2

    def loss(x, batch):
        return jnp.mean((batch[0] @ x - batch[1]) ** 2) / 2

    with jax.enable_x64(True):
        problem = Minimization(loss, jnp.zeros(20), (jnp.asarray(rows), jnp.asarray(y)), batch_size=14)
        how = sizes(scale, steps=(1_500, 15_000), every=10)
        trace = run(problem, method(0.05, blocks=BLOCKS, probability=0.065), seeds=seeds(8), **how)
    fits = {}
    for i, gap in enumerate(trace["loss"].values[0] - optimum):
        t = np.flatnonzero(gap > 1e-12)
        fits[f"run {i}"] = np.corrcoef(t, np.log(gap[t]))[0, 1] ** 2 if np.isfinite(gap).all() else 0.0
    return Evidence.of_cases(fits, at_least=0.98)
