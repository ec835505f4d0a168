"""m-NGP: private gradient descent whose noise is set by gradients normalized to length 1, not by a Lipschitz bound.

```python
from attractor import run
from attractor.optim import PrivateDescent
from attractor.problems import logistic_regression

private = PrivateDescent(learning_rate=0.3, epsilon=1.0, delta=1e-5, steps=50)
trace = run(logistic_regression(), private, steps=50, seeds=4)
print(trace.last("loss").values)  # well below ln 2, and no patient can be told from it
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from attractor.optim.private import PrivateDescent, normalized_mean
from attractor.papers.words import Evidence, cached, claim, key, log_slope, paired_ratio, run, seed, seeds, sizes, tune
from attractor.problem import Minimization
from attractor.problems.convex import logistic_regression
from attractor.registry import LogUniform

SIZES, DIM, TEST = (500, 2_000, 8_000), 10, 20_000


def _plain_mean(gradients):
    return jax.tree.map(lambda g: g.mean(0), gradients)


def _normalized_after(gradients):
    """The mean is normalized, not each gradient."""
    g = gradients.mean(0)
    return g / jnp.maximum(1, jnp.linalg.norm(g))


@claim(
    "logistic loss, one of 569 patients replaced: the averaged normalized gradient moves by at most 2 / n",
    source="paper",
    broken={
        "no normalization": {"average": _plain_mean},
        "the mean is normalized": {"average": _normalized_after},
    },
)
def bounds_the_sensitivity(average=normalized_mean, *, scale):
    problem = logistic_regression()
    rows, labels = problem.full

    def move(key):
        """The most that hostile replacements (a patient's data blown up) move the average, at a random point."""
        point, which, row = jax.random.split(key, 3)
        x, i = jax.random.normal(point, rows.shape[1:]), jax.random.randint(which, (), 0, len(rows))
        hostile = (rows.at[i].set(100 * jax.random.normal(row, rows.shape[1:])), labels.at[i].multiply(-1))
        before, after = (average(problem.oracles(x, data)["per_example"]()) for data in (problem.full, hostile))
        return jnp.linalg.norm(after - before)

    moves = jax.lax.map(move, jax.random.split(key(), sizes(scale, pairs=(100, 2_000))["pairs"]))
    return Evidence(float(moves.max()) * len(rows) / 2, at_most=1 + 1e-4, note="in units of 2 / n")


@cached
def _longest_row():
    return float(jnp.linalg.norm(logistic_regression().full[0], axis=1).max())


def _plain(learning_rate, normalize=False):
    """Gradient perturbation with noise for the largest gradient there can be: that of the longest row of data."""
    return PrivateDescent(learning_rate, steps=50, bound=_longest_row(), normalize=normalize)


def _normalized(learning_rate):
    return PrivateDescent(learning_rate, steps=50)


@claim(
    "breast cancer, epsilon 1, both tuned: excess risk at most 0.9 of that with noise for the Lipschitz constant",
    source="ours",
    broken={"noise for the Lipschitz constant": {"private": functools.partial(_plain, normalize=True)}},
)
def lowers_the_excess_risk(private=_normalized, *, scale):
    problem, space = logistic_regression(), {"learning_rate": LogUniform(1e-3, 3.0)}
    how = sizes(scale, seeds=(20, 100), budget=(8, 32), metric="loss", steps=50, every=50)
    ours, baseline = (tune(problem, (m, space), **how).final - problem.optimum for m in (private, _plain))
    untrained = float(problem.loss(problem.init(jax.random.key(0)), problem.full)) - problem.optimum
    return Evidence(
        paired_ratio(ours, baseline),
        at_most=0.9,
        given={"the baseline learns": baseline.mean() < untrained},
        note=f"{ours.mean():.3f} against {baseline.mean():.3f}",
    )


class _SameNoise(PrivateDescent):
    """Noise that does not know how many samples there are."""

    def noise(self, samples):
        return super().noise(SIZES[0])


def _loss(x, batch):
    rows, labels = batch
    return jnp.mean(jax.nn.softplus(-labels * (rows @ x)))


@cached
def _population():
    """Rows on the unit sphere and labels of a logistic model; its true parameter minimizes the population risk."""
    rng = np.random.default_rng(seed())
    rows = rng.standard_normal((SIZES[-1] + TEST, DIM))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    truth = 3 * np.ones(DIM) / DIM**0.5
    labels = np.where(rng.random(len(rows)) < 1 / (1 + np.exp(-rows @ truth)), 1.0, -1.0)
    return jnp.asarray(rows, float), jnp.asarray(labels, float), jnp.asarray(truth, float)


@claim(
    "logistic model, epsilon 1, n = 500 to 8,000: the excess population risk falls like n^-0.8 or faster",
    source="ours",
    broken={"noise that ignores n": {"private": _SameNoise}},
)
def falls_with_the_sample(private=PrivateDescent, *, scale):
    rows, labels, truth = _population()
    held_out = rows[SIZES[-1] :]
    chance = jax.nn.sigmoid(held_out @ truth)

    def expected(x):
        z = held_out @ x
        return jnp.mean(chance * jax.nn.softplus(-z) + (1 - chance) * jax.nn.softplus(z))

    def risk(problem, x, key):
        """The expected loss over labels on held-out rows, less that of the truth."""
        return expected(x) - expected(truth)

    n, excess = sizes(scale, n=(20, 100))["n"], []
    for size in SIZES:
        problem = Minimization(_loss, jnp.zeros(DIM), (rows[:size], labels[:size]))
        trace = run(problem, private(1.0, steps=100), steps=100, every=100, seeds=seeds(n), probes={"risk": risk})
        excess.append(trace.last("risk").values[0])
    note = ", ".join(f"n = {size}: {np.mean(e):.2g}" for size, e in zip(SIZES, excess, strict=True))
    return Evidence(log_slope(SIZES, np.maximum(np.stack(excess, 1), 1e-12)), at_most=-0.8, note=note)
