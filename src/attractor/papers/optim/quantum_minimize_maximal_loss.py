"""Minimizing the maximal loss: Gibbs samples of single losses by amplitude amplification, in small balls.

```python
import jax.numpy as jnp
import numpy as np
from attractor import Minimization, Probe, run
from attractor.optim import BallDescent, amplified_categorical

rng = np.random.default_rng(0)
x, y = rng.standard_normal((64, 3)), rng.standard_normal(64)
loss = lambda w, batch: jnp.mean(jnp.abs(batch[0] @ w - batch[1]))
worst = Probe(lambda problem, w, key: jnp.max(jnp.abs(problem.full[0] @ w - problem.full[1])))
problem = Minimization(loss, jnp.zeros(3), (x, y), probes={"worst": worst})
method = BallDescent(smoothing=0.02, radius=0.01, sampler=amplified_categorical)
print(run(problem, method, steps=300, every=50)["worst"].values[0, 0])  # the best fit in the maximum norm
```
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy.optimize import linprog

from attractor.linalg.amplification import amplified_sampling
from attractor.optim.maximal_loss import BallDescent, amplified_categorical, soft_maximum
from attractor.papers.words import Evidence, bootstrap, cached, claim, key, log_slopes, mean, run, seed, seeds, sizes
from attractor.probe import Probe
from attractor.problem import Minimization

SIZES = 2 ** np.arange(4, 13)
EPSILON = 1e-2


def _weights(n, stream):
    """Gibbs weights of n standard normal losses, largest 1, as the method meets them."""
    values = np.random.default_rng(stream).standard_normal(n)
    return np.exp((values - values.max()) * 2 * np.log(n) / EPSILON)


def _without_root(amplitudes):
    return amplified_sampling(amplitudes**2)


def _halfway(amplitudes):
    return amplified_sampling(amplitudes, amplified_sampling(amplitudes).iterations // 2)


def _rejection(amplitudes):
    """No amplification: prepare, measure, and begin again until the flag is 1."""
    return amplified_sampling(amplitudes, 0)._replace(iterations=1 / jnp.mean(amplitudes**2))


@claim(
    "amplified samples of 2^4 to 2^12 losses have the Gibbs distribution, to 1e-6 in total variation",
    source="ours",
    broken={"weights as amplitudes": {"sampling": _without_root}, "stopped halfway": {"sampling": _halfway}},
)
def samples_the_softmax(sampling=amplified_sampling):
    distances, compiled = {}, jax.jit(sampling)
    with jax.enable_x64(True):
        for n in SIZES:
            logits, some = np.random.default_rng(seed(int(n))).standard_normal(n), []
            for temperature in (1.0, 0.1, EPSILON):
                weights = np.exp((logits - logits.max()) / temperature)
                found = compiled(np.sqrt(weights))
                missed = np.abs(np.asarray(found.probabilities) - weights / weights.sum()).sum()
                some.append(float(missed + found.failure) / 2)
            distances[f"{n} losses"] = max(some)
    return Evidence.of_cases(distances, at_most=1e-6)


@claim(
    "sharp weights, 2^4 to 2^12 losses: the oracle calls of a sample grow as n to the power 1/2, within 0.05",
    source="scaled",
    broken={"rejection": {"sampling": _rejection}},
)
def needs_the_square_root(sampling=amplified_sampling):
    with jax.enable_x64(True):
        weights = [np.stack([_weights(n, stream) for stream in seeds(20)]) for n in SIZES]
        calls = [jax.jit(jax.vmap(sampling))(np.sqrt(w)).iterations for w in weights]
    slope = bootstrap(lambda *c: log_slopes(SIZES, np.stack([of_n.mean(-1) for of_n in c], -1)), *calls)
    return Evidence(slope, within=(0.45, 0.55))


def _mean_of_exponentials(values, smoothing):
    return soft_maximum(values, smoothing) - smoothing * np.log(values.shape[-1])


@claim(
    "at 1,000 points the smoothed maximum of 256 losses is above the largest by 0 to 1 times mu log n",
    source="paper",
    broken={"mean of exponentials": {"soft_maximum": _mean_of_exponentials}},
)
def smooths_from_above(soft_maximum=soft_maximum):
    values = jr.normal(key(), (1_000, 256))
    ratios = (soft_maximum(values, 0.3) - values.max(1)) / (0.3 * np.log(256))
    return Evidence.of_cases({"least": float(ratios.min()), "most": float(ratios.max())}, within=(0.0, 1.0))


@cached
def _affine(n, dim):
    """The maximum of affine functions with unit gradients, and its least value by linear programming."""
    rng = np.random.default_rng(seed())
    rows, offsets = rng.standard_normal((n, dim)), 0.3 * rng.standard_normal(n)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    bounds = [(None, None)] * (dim + 1)
    best = linprog(np.r_[np.zeros(dim), 1.0], np.c_[rows, -np.ones(n)], -offsets, bounds=bounds).fun
    gap = Probe(lambda problem, x, key: jnp.max(problem.full[0] @ x + problem.full[1]) - best)
    loss = lambda x, batch: jnp.mean(batch[0] @ x + batch[1])  # noqa: E731
    return Minimization(loss, jnp.zeros(dim), (jnp.asarray(rows), jnp.asarray(offsets)), probes={"gap": gap})


def _uniform(key, logits, draws):
    return jr.randint(key, (draws,), 0, len(logits))


@claim(
    "256 losses of 10 unknowns: such samples in balls of radius mu reach the linear program's minimum to within 0.01",
    source="ours",
    broken={"uniform samples": {"sampler": _uniform}, "smoothed 100 times as much": {"softness": 100.0}},
)
def reaches_the_optimum(sampler=amplified_categorical, softness=1.0, *, scale):
    size = sizes(scale, n=(256, 4_096), dim=(10, 100), seeds=(8, 50))
    smoothing = EPSILON / (2 * np.log(size["n"]))
    method = BallDescent(softness * smoothing, softness**0.5 * smoothing, sampler=sampler)
    trace = run(_affine(size["n"], size["dim"]), method, steps=2_000, every=2_000, seeds=seeds(size["seeds"]))
    return Evidence(mean(trace.last("gap").values[0]), at_most=EPSILON)
