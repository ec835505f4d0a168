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

from attractor.comparison import compare
from attractor.engine import run
from attractor.optim.private import PrivateDescent, normalized_mean
from attractor.papers import Evidence, claim
from attractor.problem import Minimization
from attractor.problems.convex import logistic_regression
from attractor.registry import LogUniform
from attractor.stats import mean, paired_ratio

SLUG = "dp-m-ngp"
SIZES, DIM, TEST = (500, 2_000, 8_000), 10, 20_000


def _plain_mean(gradients):
    return jax.tree.map(lambda g: g.mean(0), gradients)


def _normalized_after(gradients):
    """The mean is normalized, not each gradient."""
    g = gradients.mean(0)
    return g / jnp.maximum(1, jnp.linalg.norm(g))


@claim(
    SLUG,
    "logistic loss, one of 569 patients replaced: the averaged normalized gradient moves by at most 2 / n",
    broken={
        "no normalization": {"average": _plain_mean},
        "the mean is normalized": {"average": _normalized_after},
    },
)
def bounds_the_sensitivity(average=normalized_mean, *, scale):
    problem = logistic_regression()
    rows, labels = problem.full
    n, pairs = len(rows), 100 if scale == "quick" else 2_000

    def move(key):
        """The most that hostile replacements (a patient's data blown up) move the average, at a random point."""
        point, which, row = jax.random.split(key, 3)
        x, i = jax.random.normal(point, rows.shape[1:]), jax.random.randint(which, (), 0, n)
        hostile = (rows.at[i].set(100 * jax.random.normal(row, rows.shape[1:])), labels.at[i].multiply(-1))
        before, after = (average(problem.oracles(x, data)["per_example"]()) for data in (problem.full, hostile))
        return jnp.linalg.norm(after - before)

    moves = jax.lax.map(move, jax.random.split(jax.random.key(0), pairs))
    return Evidence(float(moves.max()) * n / 2, at_most=1 + 1e-4, note="in units of 2 / n")


@functools.cache
def _longest_row():
    return float(jnp.linalg.norm(logistic_regression().full[0], axis=1).max())


def _plain(learning_rate, normalize=False):
    """Gradient perturbation with noise for the largest gradient there can be: that of the longest row of data."""
    return PrivateDescent(learning_rate, steps=50, bound=_longest_row(), normalize=normalize)


def _normalized(learning_rate):
    return PrivateDescent(learning_rate, steps=50)


@functools.cache
def _excess(method, scale):
    problem, (seeds, budget) = logistic_regression(), (20, 8) if scale == "quick" else (100, 32)
    methods = {"it": (method, {"learning_rate": LogUniform(1e-3, 3.0)})}
    found = compare(problem, methods, metric="loss", steps=50, every=50, seeds=seeds, budget=budget)["it"]
    return found.final - problem.optimum


@claim(
    SLUG,
    "breast cancer, epsilon 1, both tuned: excess risk at most 0.9 of that with noise for the Lipschitz constant",
    broken={"noise for the Lipschitz constant": {"private": functools.partial(_plain, normalize=True)}},
)
def lowers_the_excess_risk(private=_normalized, *, scale):
    ours, baseline = _excess(private, scale), _excess(_plain, scale)
    note = f"{ours.mean():.3f} against {baseline.mean():.3f}"
    return Evidence(paired_ratio(ours, baseline), at_most=0.9, note=note)


class _SameNoise(PrivateDescent):
    """Noise that does not know how many samples there are."""

    def noise(self, samples):
        return super().noise(SIZES[0])


def _loss(x, batch):
    rows, labels = batch
    return jnp.mean(jax.nn.softplus(-labels * (rows @ x)))


@functools.cache
def _population():
    """Rows on the unit sphere and labels of a logistic model; its true parameter minimizes the population risk."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((SIZES[-1] + TEST, DIM))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    truth = 3 * np.ones(DIM) / DIM**0.5
    labels = np.where(rng.random(len(rows)) < 1 / (1 + np.exp(-rows @ truth)), 1.0, -1.0)
    return jnp.asarray(rows, float), jnp.asarray(labels, float), jnp.asarray(truth, float)


@claim(
    SLUG,
    "logistic model, epsilon 1, n = 500 to 8,000: the excess population risk falls like n^-0.8 or faster",
    broken={"noise that ignores n": {"private": _SameNoise}},
)
def falls_with_the_sample(private=PrivateDescent, *, scale):
    rows, labels, truth = _population()
    held_out = rows[SIZES[-1] :]
    chance = jax.nn.sigmoid(held_out @ truth)

    def risk(problem, x, key):
        """The expected loss over labels on held-out rows, less that of the truth."""

        def expected(x):
            z = held_out @ x
            return jnp.mean(chance * jax.nn.softplus(-z) + (1 - chance) * jax.nn.softplus(z))

        return expected(x) - expected(truth)

    seeds, excess = 20 if scale == "quick" else 100, []
    for n in SIZES:
        problem = Minimization(_loss, jnp.zeros(DIM), (rows[:n], labels[:n]))
        trace = run(problem, private(1.0, steps=100), steps=100, every=100, seeds=seeds, probes={"risk": risk})
        excess.append(trace.last("risk").values[0])
    slopes = [np.polyfit(np.log(SIZES), np.log(np.maximum(e, 1e-12)), 1)[0] for e in np.stack(excess, 1)]
    note = ", ".join(f"n = {n}: {np.mean(e):.2g}" for n, e in zip(SIZES, excess, strict=True))
    return Evidence(mean(slopes), at_most=-0.8, note=note)
