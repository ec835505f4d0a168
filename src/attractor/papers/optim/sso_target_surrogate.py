"""Target-based surrogates: many cheap parameter steps for every costly gradient at the model's outputs.

```python
import jax.numpy as jnp
from attractor import Composite, run
from attractor.optim import TargetSurrogate

rows = jnp.array([[1.0, 0.0], [0.0, 0.1], [1.0, 0.1]])  # the cheap part: a linear model
problem = Composite(lambda x: rows @ x, lambda z: jnp.sum((z - 1.0) ** 4), jnp.zeros(2))
trace = run(problem, TargetSurrogate(eta=0.05, inner_rate=0.02, inner_steps=100), steps=50)
print(trace["loss"].values[0, 0, ::10])
```
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from attractor.objectives import Composite
from attractor.optim.surrogate import TargetSurrogate, target_surrogate
from attractor.papers.words import Evidence, cached, claim, first_step, key, run, seed, seeds, sizes
from attractor.problems.convex import logistic_regression


def _logistic(z, batch):
    return jnp.mean(jax.nn.softplus(-batch[1] * z))


def _scores(x, batch):
    return batch[0] @ x


@cached
def _cancer():
    return Composite(_scores, _logistic, lambda key: jax.random.normal(key, (31,)), logistic_regression().full)


@cached
def _synthetic():
    """Noisy labels and features of unequal scale, so that the minimum is finite and the problem ill conditioned."""
    rng = np.random.default_rng(seed())
    rows = rng.standard_normal((500, 20)) * np.geomspace(1.0, 0.1, 20)
    labels = np.where(rng.random(500) < 1 / (1 + np.exp(-rows @ rng.standard_normal(20) * 3)), 1.0, -1.0)
    found = minimize(
        lambda x: np.mean(np.logaddexp(0, -labels * (rows @ x))), np.zeros(20), method="BFGS", options={"gtol": 1e-9}
    )
    return Composite(_scores, _logistic, jnp.zeros(20), (rows, labels), optimum=float(found.fun))


def _constants(problem):
    """Largest safe eta, and the inner rate that goes with it."""
    rows = np.asarray(problem.full[0], float)
    return 4.0 * len(rows), float(4.0 * len(rows) / np.linalg.norm(rows, 2) ** 2)


@claim(
    "logistic loss, eta = 1/L: the surrogate is nowhere below the loss, which never rises in 100 steps, up to 1e-6",
    source="ours",
    broken={"eta 8 times too large": {"factor": 8.0}},
)
def majorizes_the_loss(factor=1.0, *, scale):
    problem, (eta, rate) = _cancer(), _constants(_cancer())
    count = sizes(scale, points=(1_000, 100_000))["points"]
    centers, points = jax.random.normal(key(), (2, count, 31)) * 0.3

    def below(x, y):
        return problem.loss(y, problem.full) - target_surrogate(problem, x, problem.full, factor * eta)(y)

    method = TargetSurrogate(factor * eta, rate, 20)
    losses = run(problem, method, steps=100, every=1, seeds=seeds(10))["loss"].values[0]
    excess = {
        "loss less surrogate": float(jax.jit(jax.vmap(below))(centers, points).max()),
        "largest rise": float(np.diff(losses, axis=1).max()),
    }
    return Evidence.of_cases(excess, at_most=1e-6)


@claim(
    "synthetic logistic regression: 20 inner steps need at most half of gradient descent's calls to a gap of 1e-3",
    source="ours",
    broken={"one inner step": {"inner_steps": 1}},
)
def saves_gradient_calls(inner_steps=20):
    ours, descent = _calls(inner_steps), _calls(1)
    solved = {"gradient descent reaches the gap": np.isfinite(descent)}
    return Evidence(ours / descent, at_most=0.5, given=solved, note=f"{ours:.0f} against {descent:.0f}")


@cached
def _calls(inner_steps):
    """Gradient calls until the gap is 1e-3; with one inner step the method is gradient descent."""
    problem, (eta, rate) = _synthetic(), _constants(_synthetic())
    trace = run(problem, TargetSurrogate(eta, rate, inner_steps), steps=3_000, every=1)
    return float(first_step(trace["loss"].values[0, 0] - problem.optimum, 1e-3))
