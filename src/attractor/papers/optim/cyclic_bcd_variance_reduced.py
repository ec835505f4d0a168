"""Cyclic block coordinate descent: one proximal step per block, with a recursive variance-reduced gradient.

```python
from attractor import run
from attractor.optim import CyclicBlockDescent
from attractor.linalg import lasso
from attractor.problems import logistic_regression

method = CyclicBlockDescent(learning_rate=0.3, blocks=5, probability=0.04, prox=lasso(1e-3))
trace = run(logistic_regression(batch_size=24), method, steps=500)
print(trace.last("loss").values)  # each epoch costs as much as 70 of the 569 gradients, in expectation
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from attractor.linalg.proximal import lasso, soft_threshold
from attractor.optim.variance_reduction import CyclicBlockDescent
from attractor.papers.words import Evidence, bootstrap, cached, claim, first_step, log_slopes, run, seeds, sizes
from attractor.problem import Minimization
from attractor.problems.convex import least_squares, logistic_regression
from attractor.problems.generalized_linear import sigmoid_loss

L1, BLOCKS, BATCH, SAMPLES, TARGET = 1e-3, 5, 24, 569, 1e-5  # below the square of the penalty's own slope, 31e-6
# The shortest step takes 630 epochs with exact gradients; in half of these PAGE comes home too rarely to be tuned.
EPOCHS, RATES = 900, (0.5, 2.0, 4.0, 8.0)
VARIED = BATCH / (SAMPLES + BATCH)  # the probability of an exact epoch
# Shares of the last estimate, of a minibatch's gradient now and before, and of the proximal map's move: one program.
WHOLE = (1.0, 1.0, 1.0, 1.0)
UNCORRECTED, SIGN = {"no correction": {"shares": (0, 1, 0, 1)}}, {"sign of the correction": {"shares": (1, -1, -1, 1)}}
FORGETFUL, NO_PROX = {"the last estimate is dropped": {"shares": (0, 1, 1, 1)}}, {"no map": {"shares": (1, 1, 1, 0)}}


class _Shared(CyclicBlockDescent):
    shares: tuple = WHOLE

    def corrected(self, now, before, estimate):
        return super().corrected(self.shares[1] * now, self.shares[2] * before, self.shares[0] * estimate)


def _method(blocks, penalty, shares, learning_rate, probability):
    prox = lambda x, step: x + shares[3] * (lasso(penalty)(x, step) - x)  # noqa: E731
    return _Shared(learning_rate, blocks, probability, prox, tuple(shares))


def _mapping(problem, x, key):  # squared norm of the gradient mapping, unit step, on all data
    moved = soft_threshold(x - jax.grad(problem.loss)(x, problem.full), L1)
    return jnp.sum((x - moved) ** 2)


@cached
def _mappings(blocks, shares, probability, rates, draws, steps=EPOCHS):
    """Epochs, and the mapping there by rate and seed: breast cancer, nonconvex smooth loss."""
    problem = Minimization(sigmoid_loss, jnp.zeros(31), logistic_regression().full, batch_size=BATCH)
    made, sweep = eqx.Partial(_method, blocks, L1, jnp.asarray(shares, float)), {"learning_rate": rates}
    how = {"steps": steps, "every": 10, "lanes": 8, "probes": {"mapping": _mapping}}
    found = run(problem, made, sweep=sweep | {"probability": [probability]}, seeds=draws, **how)["mapping"]
    return found["step"].values, found.values


@claim("sigmoid loss with L1, exact gradients, 5 blocks: the smallest squared mapping has log-log slope at most -0.9",
       source="scaled", broken={"the map reversed": {"shares": (1, 1, 1, -1)}}, deterministic=True)  # fmt: skip
def finds_stationary_points(shares=WHOLE, *, scale):
    at, found = _mappings(BLOCKS, shares, 1.0, (1.0,), (0,), **sizes(scale, steps=(3_000, 30_000)))
    best = np.minimum.accumulate(found[0, 0])
    slope = float(log_slopes(at, np.maximum(best, 1e-14))[0])
    return Evidence(slope, at_most=-0.9, note=f"mapping {best[1]:.1e} to {best[-1]:.1e}")


def _medians(a, b):
    return np.median(a, axis=-1) / np.median(b, axis=-1)


def _gradients(scale, rate, blocks, probability, shares=WHOLE):
    """Component gradients until the squared mapping is at the target, by seed, at a step or at the best for the median
    of other seeds. Now and then a run is thrown to where the sigmoid is flat, whatever its step, and takes thousands of
    epochs back: those are counted, at ten times the horizon, and hardly touch a median."""
    # So many that other runs would choose the same step, or one as good; fewer where a step is given or it is damaged.
    few = rate or tuple(shares) != WHOLE
    size = sizes(scale, tuning=(12, 48) if few else (48, 192), fresh=(48, 192) if few else (192, 768))
    draws = tuple(seeds(size["tuning"] + size["fresh"])) if probability < 1 else (0,)
    cut = len(draws) * size["tuning"] // (size["tuning"] + size["fresh"])
    tuning, fresh = (draws[:cut], draws[cut:]) if probability < 1 else (draws, draws)

    def epochs(rates, draws):
        at, found = _mappings(blocks, shares, probability, rates, draws)
        return first_step(found, TARGET, at)

    best = rate or RATES[np.median(epochs(RATES, tuning), axis=1).argmin()]
    needed = epochs((best,), fresh)[0]
    late = np.isinf(needed)
    cost = np.where(late, 10 * EPOCHS, needed) * (probability * SAMPLES + (1 - probability) * 2 * BATCH)
    return cost, late.mean() < 0.5, f"{np.median(cost):.3g} gradients at {best}, {late.sum()} late"


def _compare(scale, at_most, ours, theirs, rate=None):
    """The ratio of medians of two (blocks, probability, shares)."""
    (a, _, note), (b, reached, other) = _gradients(scale, rate, *ours), _gradients(scale, rate, *theirs)
    n = min((len(x) for x in (a, b) if len(x) > 1), default=1)
    ratio = bootstrap(_medians, *(np.broadcast_to(x[:n], n) for x in (a, b))) if n > 1 else float(a[0] / b[0])
    given = {"the baseline's median run reaches the target": reached}
    return Evidence(ratio, at_most=at_most, given=given, note=f"{note} against {other}")


@claim("sigmoid loss with L1, exact gradients, both tuned: 5 blocks need no more gradients to 1e-5 than one block",
       source="scaled", broken=NO_PROX, deterministic=True,
       reason="1.2 times as many: 60 epochs against 50, both at steps of 8")  # fmt: skip
def costs_no_more_than_gradient_descent(shares=WHOLE, *, scale):
    return _compare(scale, 1.0, (BLOCKS, 1.0, shares), (1, 1.0))


@claim(
    "sigmoid loss with L1, tuned: the median run with variance-reduced blocks takes <= 1.2 of PAGE's gradients to 1e-5",
    source="ours", broken=SIGN)  # fmt: skip
def costs_no_more_than_page(shares=WHOLE, *, scale):
    return _compare(scale, 1.2, (BLOCKS, VARIED, shares), (1, VARIED))


@claim(
    "sigmoid loss with L1, tuned: the median run with variance-reduced blocks takes <= half of exact ones' gradients",
    source="ours", broken=UNCORRECTED, reason="medians of 192 runs do not always decide it")  # fmt: skip
def costs_less_than_full_batches(shares=WHOLE, *, scale):
    return _compare(scale, 0.5, (BLOCKS, VARIED, shares), (BLOCKS, 1.0))


@claim("sigmoid loss with L1, step 0.5: the median run with variance-reduced blocks takes <= half of exact gradients",
       source="scaled", broken=FORGETFUL)  # fmt: skip
def costs_less_at_equal_steps(shares=WHOLE, *, scale):
    """As the theory compares them: both step sizes are of the order of one over the smoothness."""
    return _compare(scale, 0.5, (BLOCKS, VARIED, shares), (BLOCKS, 1.0), rate=0.5)


@claim("rank-deficient least squares: the gap falls linearly, R^2 of its logarithm at least 0.98 for each of 8 seeds",
       source="ours", broken=UNCORRECTED)  # fmt: skip
def is_linear_under_pl(shares=WHOLE, *, scale):
    rng = np.random.default_rng(seeds(1))
    rows, y = rng.standard_normal((200, 10)) @ rng.standard_normal((10, 20)) / 20**0.5, rng.standard_normal(200)
    with jax.enable_x64(True):
        problem = least_squares(rows, y, batch_size=14)
        made, how = eqx.Partial(_method, BLOCKS, 0.0, jnp.asarray(shares, float)), sizes(scale, steps=(1_500, 15_000))
        sweep = {"learning_rate": [0.05], "probability": [0.065]}
        trace = run(problem, made, sweep=sweep, seeds=seeds(8), every=10, **how)
    fits = {}
    for i, gap in enumerate(trace["loss"].values[0] - problem.optimum):
        t = np.flatnonzero(gap > 1e-12)
        fits[f"run {i}"] = np.corrcoef(t, np.log(gap[t]))[0, 1] ** 2 if np.isfinite(gap).all() else 0.0
    return Evidence.of_cases(fits, at_least=0.98)
