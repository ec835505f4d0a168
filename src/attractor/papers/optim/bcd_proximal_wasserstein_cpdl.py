"""Block coordinate descent with proximal terms, and dictionaries of distributions learned by it.

```python
import jax
import jax.numpy as jnp
import jax.random as jr
from attractor.optim import cp_tensor, nonnegative_cp

keys = jr.split(jr.key(0), 6)
truth = tuple(jr.uniform(key, (15, 3)) for key in keys[:3])
start = tuple(jr.uniform(key, (15, 3)) for key in keys[3:])
solve = jax.jit(lambda start: nonnegative_cp(cp_tensor(truth), start, sweeps=100, inner_steps=5))
factors, record = solve(start)
print(record["loss"][::20], record["stationarity"][::20])
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from attractor.optim.block_descent import (
    block_proximal_descent,
    cp_tensor,
    entropic_cost,
    nonnegative_cp,
    wasserstein_cp_dictionary,
)
from attractor.papers import Evidence, claim
from attractor.stats import mean, paired_difference

SLUG = "bcd-proximal-wasserstein-cpdl"
SIDE, RANK, HISTOGRAMS, EPSILON = 8, 4, 12, 0.01


def _exact(t):
    return jnp.full((), 50)


def _summable(t):
    """One more pass every fourth sweep, so that the inner errors fall geometrically."""
    return 1 + t // 4


def _disturbed(solvers, blocks, sweeps, measure):
    """Errors that do not shrink."""

    def off(solve):
        return lambda blocks, t: 1.01 * solve(blocks, t)

    return block_proximal_descent([off(solve) for solve in solvers], blocks, sweeps, measure)


@claim(
    SLUG,
    "noisy 15 x 15 x 15 tensor, rank 3, non-negative factors: the best squared stationarity falls with a log-log slope "
    "of at most -0.9 over 10 … 500 sweeps, for exact and for summably inexact steps",
    broken={"errors that do not shrink": {"descend": _disturbed}},
)
def becomes_stationary(descend=block_proximal_descent, *, scale):
    sweeps, seeds, slopes = 500, 4 if scale == "quick" else 32, {}
    with jax.enable_x64(True):
        for name, passes in {"exact": _exact, "inexact": _summable}.items():
            slopes[name] = []
            solve = jax.jit(
                functools.partial(nonnegative_cp, sweeps=sweeps, weight=0.1, inner_steps=passes, descend=descend)
            )
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                truth, start = (tuple(jnp.asarray(rng.random((15, 3))) for _ in range(3)) for _ in range(2))
                tensor = cp_tensor(truth) + 0.1 * jnp.asarray(rng.standard_normal((15, 15, 15)))
                _, record = solve(tensor, start)
                best = np.minimum.accumulate(np.asarray(record["stationarity"]) ** 2)[9:]
                slopes[name].append(np.polyfit(np.log(np.arange(10, sweeps + 1)), np.log(best + 1e-30), 1)[0])
    means = {name: mean(values) for name, values in slopes.items()}
    worst = max(means.values(), key=lambda interval: interval.high)
    return Evidence(worst, at_most=-0.9, note=", ".join(f"{name} {value}" for name, value in means.items()))


@functools.cache
def _bumps(seed):
    """Gaussian bumps at random places of a square, as histograms, and the squared distances of its cells."""
    rng, cells = np.random.default_rng(seed), np.linspace(0, 1, SIDE)
    points = np.stack(np.meshgrid(cells, cells, indexing="ij"), -1).reshape(-1, 2)
    centers = rng.uniform(0.2, 0.8, (HISTOGRAMS, 1, 2))
    histograms = np.exp(-((points - centers) ** 2).sum(-1) / (2 * 0.1**2)) + 1e-6
    cost = ((points[:, None] - points) ** 2).sum(-1)
    return (histograms / histograms.sum(1, keepdims=True)).reshape(-1, SIDE, SIDE), cost


def _start(seed):
    rng = np.random.default_rng(1_000 + seed)
    weights, *marginals = (rng.random((n, RANK)) + 0.1 for n in (HISTOGRAMS, SIDE, SIDE))
    return tuple(jnp.asarray(u) for u in (weights / weights.sum(1, keepdims=True), *(u / u.sum(0) for u in marginals)))


@functools.cache
def _dictionary(descend, epsilon, sweeps, inner_steps):
    """The dictionary's mixtures and objective, as a function of a data set's number."""
    solve = jax.jit(
        functools.partial(
            wasserstein_cp_dictionary, sweeps=sweeps, epsilon=epsilon, inner_steps=inner_steps, descend=descend
        )
    )

    def learn(seed):
        factors, values = solve(*(jnp.asarray(a) for a in _bumps(seed)), _start(seed))
        return cp_tensor(factors), np.asarray(values)

    return learn


def _backward(solvers, blocks, sweeps, measure):
    """Away from the block's minimizer instead of to it."""

    def away(i, solve, axis):
        def step(blocks, t):
            moved = jnp.maximum(2 * blocks[i] - solve(blocks, t), 1e-6)
            return moved / moved.sum(axis, keepdims=True)

        return step

    return block_proximal_descent(
        [away(i, solve, 1 if i == 0 else 0) for i, solve in enumerate(solvers)], blocks, sweeps, measure
    )


@claim(
    SLUG,
    "translated bumps, rank 4: no sweep of the Wasserstein dictionary raises the objective by more than 1e-6 of it",
    broken={"steps backward": {"descend": _backward}},
)
def never_rises(descend=block_proximal_descent, *, scale):
    with jax.enable_x64(True):
        _, values = _dictionary(descend, 0.05, 15, 1_000)(0)
    return Evidence(float((np.diff(values) / np.abs(values[:-1])).max()), at_most=1e-6)


@jax.jit
def _euclidean(tensor, start):
    return nonnegative_cp(tensor, start, sweeps=300)


@jax.jit
def _divergence(a, b, cost):
    """Mean transport cost, less what the entropy adds even between equals."""
    both, *alone = (entropic_cost(x, y, cost, EPSILON) for x, y in ((a, b), (a, a), (b, b)))
    return jnp.mean(both - sum(alone) / 2)


def _without_weights(solvers, blocks, sweeps, measure):
    """The mixing weights stay as they are."""
    return block_proximal_descent([lambda blocks, t: blocks[0], *solvers[1:]], blocks, sweeps, measure)


@claim(
    SLUG,
    "translated bumps, rank 4, 8 data sets: the dictionary's mixtures are nearer in Sinkhorn divergence than those of "
    "the Euclidean CP",
    broken={"weights not learned": {"descend": _without_weights}},
)
def is_nearer_in_transport_cost(descend=block_proximal_descent, *, scale):
    ours, theirs, learn = [], [], _dictionary(descend, EPSILON, 20, 300)
    with jax.enable_x64(True):
        for seed in range(8 if scale == "quick" else 16):
            tensor, cost = (jnp.asarray(a) for a in _bumps(seed))
            euclidean, _ = _euclidean(tensor, _start(seed))
            for results, found in ((ours, learn(seed)[0]), (theirs, cp_tensor(euclidean) + 1e-12)):
                rows, found = tensor.reshape(HISTOGRAMS, -1), found.reshape(HISTOGRAMS, -1)
                found = found / found.sum(1, keepdims=True)
                results.append(float(_divergence(rows, found, cost)))
    note = f"{np.mean(ours):.3g} against {np.mean(theirs):.3g}"
    return Evidence(paired_difference(ours, theirs), at_most=0.0, note=note)
