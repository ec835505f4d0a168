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
from attractor.papers.words import Evidence, cached, claim, log_slopes, paired_ratio, run, seed, seeds, sizes, tune
from attractor.problem import Minimization
from attractor.problems.convex import logistic_regression
from attractor.registry import LogUniform

L1, BLOCKS, BATCH = 1e-3, 5, 24
SAMPLES = 569
TARGET = 1e-6  # well below the square of the penalty's own slope, 31e-6
RATES = {"learning_rate": LogUniform(0.5, 2.0)}
PROBABILITY = BATCH / (SAMPLES + BATCH)
COST = PROBABILITY * SAMPLES + (1 - PROBABILITY) * 2 * BATCH  # expected component gradients of an epoch


def _sigmoid_loss(x, batch):
    rows, labels = batch
    return jnp.mean(jax.nn.sigmoid(-labels * (rows @ x)))


def _mapping(problem, x, key):
    """Squared norm of the gradient mapping, unit step, on all data."""
    moved = soft_threshold(x - jax.grad(problem.loss)(x, problem.full), L1)
    return jnp.sum((x - moved) ** 2)


@cached
def _classification():
    """Breast cancer, nonconvex smooth loss; the penalty is left to the methods."""
    data = logistic_regression().full
    return Minimization(_sigmoid_loss, jnp.zeros(31), data, batch_size=BATCH)


class _Forgetful(CyclicBlockDescent):
    """The last estimate is not carried on."""

    def corrected(self, now, before, estimate):
        return now - before


class _Plain(CyclicBlockDescent):
    """Minibatch gradients without correction."""

    def corrected(self, now, before, estimate):
        return now


def _no_prox(*args, prox, **kwargs):
    return CyclicBlockDescent(*args, **kwargs)


def _reversed(*args, prox, **kwargs):
    """The penalty's map moves away from zero."""
    return CyclicBlockDescent(*args, prox=lambda x, step: 2 * x - prox(x, step), **kwargs)


@claim(
    "sigmoid loss with L1, exact gradients, 5 blocks: the smallest squared mapping has log-log slope at most -0.9",
    source="scaled",
    broken={"no proximal map": {"method": _no_prox}, "the map reversed": {"method": _reversed}},
    deterministic=True,
)
def finds_stationary_points(method=CyclicBlockDescent, *, scale):
    exact = method(1.0, blocks=BLOCKS, probability=1.0, prox=lasso(L1))
    how = sizes(scale, steps=(3_000, 30_000), every=10)
    trace = run(_classification(), exact, probes={"mapping": _mapping}, **how)
    best = np.minimum.accumulate(trace["mapping"].values[0, 0])
    slope = float(log_slopes(trace["mapping"]["step"].values, np.maximum(best, 1e-14))[0])
    return Evidence(slope, at_most=-0.9, note=f"mapping {best[1]:.1e} to {best[-1]:.1e}")


@cached
def _epochs(method, blocks, probability, scale):
    """Epochs until the squared gradient mapping is at the target, per seed, the step tuned."""
    fixed = partial(method, blocks=blocks, probability=probability, prox=lasso(L1))
    how = sizes(scale, seeds=(8, 128), budget=(4, 16), steps=1_200, every=5)
    return tune(_classification(), (fixed, RATES), probes={"mapping": _mapping}, target=TARGET, **how).steps_to_target


@claim(
    "sigmoid loss with L1, tuned: to 1e-6 variance-reduced blocks need at most 1.2 times the gradients of PAGE",
    source="ours",
    broken={"the last estimate is dropped": {"method": _Forgetful}},
    reason="8 seeds do not decide it: on one neither is there after 1,200 epochs, on another PAGE is not, and on the "
    "other six the ratios are 0.85 to 1.24",
)
def costs_no_more_than_page(method=CyclicBlockDescent, *, scale):
    ours, page = _epochs(method, BLOCKS, PROBABILITY, scale), _epochs(CyclicBlockDescent, 1, PROBABILITY, scale)
    solved = {"PAGE reaches the target on most seeds": np.isfinite(page).mean() > 0.5}
    note = f"epochs: {np.median(ours):.0f}, PAGE {np.median(page):.0f}"
    return Evidence(paired_ratio(ours, page), at_most=1.2, given=solved, note=note)


@claim(
    "sigmoid loss with L1, tuned: to 1e-6 variance-reduced blocks need at most half the gradients of exact blocks",
    source="ours",
    broken={"the last estimate is dropped": {"method": _Forgetful}},
    reason="the median ratio is 0.13, but one of 8 seeds is not there after 1,200 epochs: nothing bounds it above",
)
def costs_less_than_full_batches(method=CyclicBlockDescent, *, scale):
    ours, exact = _epochs(method, BLOCKS, PROBABILITY, scale), _epochs(CyclicBlockDescent, BLOCKS, 1.0, scale)
    solved = {"exact blocks reach the target": bool(np.isfinite(exact).all())}
    note = f"epochs: {np.median(ours):.0f} at {COST:.0f} gradients, {np.median(exact):.0f} at {SAMPLES}"
    return Evidence(paired_ratio(COST * ours, SAMPLES * exact), at_most=0.5, given=solved, note=note)


@claim(
    "rank-deficient least squares: the gap falls linearly, R^2 of its logarithm at least 0.98 for each of 5 seeds",
    source="ours",
    broken={"no correction": {"method": _Plain}},
)
def is_linear_under_pl(method=CyclicBlockDescent, *, scale):
    rng = np.random.default_rng(seed())
    rows = rng.standard_normal((200, 10)) @ rng.standard_normal((10, 20)) / 20**0.5
    y = rng.standard_normal(200)
    optimum = np.mean((rows @ np.linalg.lstsq(rows, y)[0] - y) ** 2) / 2
    with jax.enable_x64(True):
        problem = Minimization(
            lambda x, batch: jnp.mean((batch[0] @ x - batch[1]) ** 2) / 2,
            jnp.zeros(20), (jnp.asarray(rows), jnp.asarray(y)), batch_size=14,
        )  # fmt: skip
        how = sizes(scale, steps=(1_500, 15_000), every=10)
        trace = run(problem, method(0.05, blocks=BLOCKS, probability=0.065), seeds=seeds(5), **how)
    fits = {}
    for name, gap in zip(trace["loss"]["seed"].values, trace["loss"].values[0] - optimum, strict=True):
        t = np.flatnonzero(gap > 1e-12)
        fits[f"seed {name}"] = np.corrcoef(t, np.log(gap[t]))[0, 1] ** 2 if np.isfinite(gap).all() else 0.0
    return Evidence.of_cases(fits, at_least=0.98)
