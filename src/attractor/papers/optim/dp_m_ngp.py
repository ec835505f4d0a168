"""m-NGP: private gradient descent whose noise is set by gradients normalized to length 1, not by a Lipschitz bound.

```python
from attractor import run
from attractor.optim import PrivateDescent
from attractor.problems import logistic_regression

private = PrivateDescent(learning_rate=0.3, epsilon=1.0, delta=1e-5, steps=50)
print(run(logistic_regression(), private, steps=50, seeds=4).last("loss").values)  # well below ln 2
```
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from attractor.optim.private import PrivateDescent, normalized_mean
from attractor.papers.words import Evidence, cached, claim, key, log_slope, mean, paired_ratio, run, seeds, sizes, tune
from attractor.problem import Minimization
from attractor.problems import synthetic
from attractor.problems.convex import logistic_regression
from attractor.registry import LogUniform

SIZES, DIM, NONE = (500, 2_000, 8_000), 10, (0.0, 1.0)


def _normalized_after(gradients):  # the mean is normalized, not each gradient
    g = gradients.mean(0)
    return g / jnp.maximum(1, jnp.linalg.norm(g))


@claim("logistic loss, one of 569 patients replaced: the averaged normalized gradient moves by at most 2 / n",
       source="paper", broken={"the mean is normalized": {"average": _normalized_after},
                               "norms up to 2": {"average": partial(normalized_mean, bound=2.0)}})  # fmt: skip
def bounds_the_sensitivity(average=normalized_mean, *, scale):
    problem = logistic_regression()
    rows, labels = problem.full

    def move(key):
        """The most that hostile replacements (a patient's data blown up) move the average, at a random point."""
        point, which, row = jax.random.split(key, 3)
        x, i = jax.random.normal(point, rows.shape[1:]), jax.random.randint(which, (), 0, len(rows))
        hostile = rows.at[i].set(100 * jax.random.normal(row, rows.shape[1:])), labels.at[i].multiply(-1)
        before, after = (average(problem.oracles(x, data)["per_example"]()) for data in (problem.full, hostile))
        return jnp.linalg.norm(after - before)

    moves = jax.lax.map(move, jax.random.split(key(), sizes(scale, pairs=(100, 2_000))["pairs"]))
    return Evidence(float(moves.max()) * len(rows) / 2, at_most=1 + 1e-4, note="in units of 2 / n")


class _Noisy(PrivateDescent):
    """Its noise times a power of the samples over a number of them: ``damage`` is that power, and that number."""

    damage: tuple = NONE

    def noise(self, samples):
        return super().noise(samples) * (samples / self.damage[1]) ** self.damage[0]


EACH = {"noise of the sum, in every gradient": {"damage": (0.5, 1.0)}}
IGNORES = {"noise that ignores n": {"damage": (1.0, float(SIZES[0]))}}


def _private(normalize, steps, damage, bound, learning_rate):
    return _Noisy(learning_rate, steps=steps, bound=bound, normalize=normalize, damage=tuple(damage))


@cached
def _cancer(damage, normalize, scale):
    """The tuned run, with noise for gradients of length 1 or for the longest there can be: the longest row of data."""
    problem = logistic_regression()
    longest = float(jnp.linalg.norm(problem.full[0], axis=1).max())
    how = sizes(scale, seeds=(20, 100), budget=(8, 32), metric="loss", steps=50, every=50)

    def accuracy(problem, x, key):
        return jnp.mean(problem.full[1] * (problem.full[0] @ x) > 0)

    make = eqx.Partial(_private, normalize, 50, jnp.asarray(damage), jnp.asarray(1.0 if normalize else longest))
    probes = {"loss": problem.probes["loss"], "accuracy": accuracy}
    entry = tune(problem, (make, {"learning_rate": LogUniform(1e-3, 3.0)}), probes=probes, **how)
    return entry.final - problem.optimum, entry.trace.last("accuracy").values[0]


@claim("breast cancer, epsilon 1, both tuned: excess risk at most 0.9 of that with noise for the Lipschitz constant",
       source="ours", broken=EACH)  # fmt: skip
def lowers_the_excess_risk(damage=NONE, *, scale):
    (ours, _), (baseline, _) = _cancer(damage, True, scale), _cancer(NONE, False, scale)
    learns = {"the baseline learns": baseline.mean() < np.log(2) - logistic_regression().optimum}
    note = f"{ours.mean():.3f} against {baseline.mean():.3f}"
    return Evidence(paired_ratio(ours, baseline), at_most=0.9, given=learns, note=note)


@claim("breast cancer, epsilon 1, both tuned: more patients are classified rightly than with noise for that constant",
       source="scaled", broken=EACH)  # fmt: skip
def raises_the_accuracy(damage=NONE, *, scale):
    (_, ours), (_, baseline) = _cancer(damage, True, scale), _cancer(NONE, False, scale)
    learns, note = {"the baseline learns": baseline.mean() > 0.63}, f"{ours.mean():.3f} against {baseline.mean():.3f}"
    return Evidence(mean(ours - baseline), at_least=0.0, given=learns, note=note)


LOGISTIC, HINGE = 0.0, 1.0  # the share of the hinge to the power 3/2
_risk = jax.jit(synthetic.expected_margin_loss)  # on rows held out
_slope = jax.jit(jax.grad(synthetic.expected_margin_loss))


def _falls(hinge, damage, scale):
    """Slope in n of the excess population risk: a slope per data set, averaged over 4 noises."""
    hinge, excess = jnp.asarray(hinge), []
    loss = eqx.Partial(synthetic.mean_margin_loss, hinge)
    told = hinge, *synthetic.logistic_population(20_000, DIM, seeds(1)[0])[:2]
    least = minimize(_risk, np.ones(DIM), told, jac=lambda *args: np.asarray(_slope(*args), float)).fun
    for draw in seeds(**sizes(scale, n=(8, 64)), stream=1):
        rows, _, labels = synthetic.logistic_population(SIZES[-1], DIM, draw)
        for n in SIZES:
            problem = Minimization(loss, jnp.zeros(DIM), (rows[:n], labels[:n]))
            make = eqx.Partial(_private, True, 100, jnp.asarray(damage), 1.0)
            final = run(problem, make, steps=100, every=100, seeds=seeds(4), sweep={"learning_rate": [1.0]}).final[0]
            excess.append(np.mean([max(float(_risk(x, *told)) - least, 1e-12) for x in final]))
    excess = np.reshape(excess, (-1, len(SIZES)))
    note = ", ".join(f"n = {n}: {v:.2g}" for n, v in zip(SIZES, excess.mean(0), strict=True))
    return Evidence(log_slope(SIZES, excess), at_most=-0.8, note=note)


@claim("logistic model, epsilon 1, n = 500 to 8,000: the excess population risk falls like n^-0.8 or faster",
       source="scaled", broken=IGNORES)  # fmt: skip
def falls_with_the_sample(damage=NONE, *, scale):
    return _falls(LOGISTIC, damage, scale)


@claim("hinge to the power 3/2, epsilon 1, n = 500 to 8,000: the excess population risk falls like n^-0.8 or faster",
       source="scaled", broken=IGNORES, reason="-0.79, and it levels off: "
       "normalizing moves the minimizer where gradients are longer than 1")  # fmt: skip
def falls_for_hoelder_losses(damage=NONE, *, scale):
    """The paper's rate is 1/n; without normalization it has n^-1/4 for slopes of this exponent."""
    return _falls(HINGE, damage, scale)
