"""Block coordinate descent with proximal terms, and dictionaries of distributions learned by it.

```python
import jax, jax.random as jr
from attractor.optim import cp_tensor, nonnegative_cp
truth, start = map(tuple, jr.uniform(jr.key(0), (2, 3, 15, 3)))
solve = jax.jit(lambda start: nonnegative_cp(cp_tensor(truth), start, sweeps=100, inner_steps=5))
factors, record = solve(start)
print(record["loss"][::20], record["stationarity"][::20])
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from attractor.optim import block_descent as lib
from attractor.optim.block_descent import block_proximal_descent, cp_tensor, nonnegative_cp
from attractor.papers.words import Evidence, cached, claim, log_slope, paired_difference, seeds, sizes
from attractor.problems.matrix import translated_bumps

SWEEPS, EPSILON = 500, 0.01
# Passes of the first sweep, and more a sweep: exact, or one more every fourth, with errors that fall geometrically.
PASSES = {"exact": (50.0, 0.0), "summably inexact": (1.0, 0.25)}


def _at_once(solvers, blocks, sweeps, measure):
    """All blocks from the same last sweep, as Jacobi did and not Gauss and Seidel."""

    def sweep(blocks, t):
        blocks = tuple(solve(blocks, t) for solve in solvers)
        return blocks, measure(blocks)

    return jax.lax.scan(sweep, blocks, jnp.arange(sweeps))


@partial(jax.jit, static_argnums=0)
@partial(jax.vmap, in_axes=(None, 0, 0, None, None))
def _decompose(descend, tensor, start, passes, error):
    """Of a tensor: loss and stationarity after each sweep. Every solution of a block is off by a factor."""

    def of_blocks(solvers, *rest):
        return descend([lambda blocks, t, solve=solve: (1 + error) * solve(blocks, t) for solve in solvers], *rest)

    count = lambda t: (passes[0] + jnp.floor(passes[1] * t)).astype(int)  # noqa: E731
    return nonnegative_cp(tensor, start, sweeps=SWEEPS, weight=0.1, inner_steps=count, descend=of_blocks)[1]


@cached
def _decompositions(passes, n, error=0.0, descend=block_proximal_descent):
    """Of noisy 15 x 15 x 15 tensors of rank 3, by data set."""
    tensors, starts = [], []
    for number in seeds(n):
        rng = np.random.default_rng(number)
        truth, start = (tuple(jnp.asarray(rng.random((15, 3))) for _ in range(3)) for _ in range(2))
        tensors.append(cp_tensor(truth) + 0.1 * jnp.asarray(rng.standard_normal((15, 15, 15))))
        starts.append(start)
    stack = jax.tree.map(lambda *a: jnp.stack(a), *starts)
    found = _decompose(descend, jnp.stack(tensors), stack, jnp.array(PASSES[passes]), jnp.array(error))
    return jax.tree.map(np.asarray, found)


@claim(
    "noisy tensors, nonnegative CP: the best squared stationarity has log-log slope at most -0.9 from sweep 10 to 500",
    source="scaled", broken={"errors that do not shrink": {"error": 0.01}})  # fmt: skip
def becomes_stationary(error=0.0, *, scale):
    n, slopes = sizes(scale, seeds=(8, 64))["seeds"], {}
    with jax.enable_x64(True):
        for name in PASSES:
            best = np.minimum.accumulate(np.square(_decompositions(name, n, error)["stationarity"]), axis=1) + 1e-30
            slopes[name] = log_slope(np.arange(1, SWEEPS + 1), best, since=10)
    return Evidence.of_cases(slopes, at_most=-0.9)


def _dictionary(tensors, starts, cost, **how):
    solve = jax.vmap(partial(lib.wasserstein_cp_dictionary, **how), (0, None, 0))
    return jax.jit(solve)(tensors, cost, starts)


@cached
def _bumps(n):  # data, starts with everything in simplices, and the cost
    (*tensors,), (cost, *_) = zip(*(translated_bumps(i) for i in seeds(n)), strict=True)
    starts = [lib.dictionary_start(tensors[0].shape, 4, i) for i in seeds(n, stream=1)]
    return jnp.stack(tensors), jax.tree.map(lambda *a: jnp.stack(a), *starts), cost


@claim(
    "noisy tensors, translated bumps: no sweep of CP or of the dictionary raises the objective by more than 1e-6 of it",
    source="ours", broken={"all blocks at once": {"descend": _at_once}})  # fmt: skip
def never_rises(descend=block_proximal_descent, *, scale):
    with jax.enable_x64(True):
        bumps = _dictionary(*_bumps(2), epsilon=0.05, sweeps=10, inner_steps=500, descend=descend)[1]
        tensors = _decompositions("exact", sizes(scale, n=(8, 64))["n"], descend=descend)["loss"]
    curves = {"dictionary of bumps": np.asarray(bumps), "noisy tensors": tensors}
    rises = {name: float((np.diff(values) / np.abs(values[:, :-1])).max()) for name, values in curves.items()}
    return Evidence.of_cases(rises, at_most=1e-6)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, None))
def _missed(tensor, factors, cost):
    """By data set: mean Sinkhorn divergence of histograms from mixtures."""
    a, b = (x.reshape(len(x), -1) for x in (tensor, cp_tensor(factors) + 1e-12))
    return jnp.mean(lib.sinkhorn_divergence(a, b / b.sum(1, keepdims=True), cost, EPSILON))


@cached
def _baselines(n):
    """What Euclidean and KL CP miss by data set, after 1,000 sweeps, and whether they stand still by then."""
    tensors, starts, cost = _bumps(n)
    euclidean = partial(nonnegative_cp, sweeps=1_000, weight=1e-4, inner_steps=5)
    (plain, record), (kl, values) = (jax.jit(jax.vmap(f))(tensors, starts)
                                     for f in (euclidean, partial(lib.divergence_cp, sweeps=1_000)))  # fmt: skip
    still = [float(jnp.median(curve[:, -101] / curve[:, -1])) < 1.01 for curve in (record["loss"], values)]
    return [np.asarray(_missed(tensors, factors, cost)) for factors in (plain, kl)], all(still)


@claim(
    "translated bumps: the Wasserstein dictionary's Sinkhorn divergence to data is at most that of Euclidean and KL CP",
    source="ours", broken={"the dual ascent stops after 10 steps": {"inner_steps": 10}})  # fmt: skip
def is_nearer_in_transport_cost(inner_steps=300, *, scale):
    """On 128 data sets the gains were 0.45 (Euclidean) and 0.5 (KL) of their standard deviations; on 64 a t-interval
    excludes 0 for such gains with probability 0.94 and 0.98."""
    n = sizes(scale, n=(64, 128))["n"]
    some = slice(n if inner_steps > 10 else 24)  # enough for a damaged one
    with jax.enable_x64(True):
        (tensors, starts, cost), (theirs, still) = _bumps(n), _baselines(n)
        tensors, starts = jax.tree.map(lambda a: a[some], (tensors, starts))
        found, _ = _dictionary(tensors, starts, cost, epsilon=EPSILON, sweeps=20, inner_steps=inner_steps)
        ours, theirs = np.asarray(_missed(tensors, found, cost)), [t[some] for t in theirs]
    cases = {name: paired_difference(ours, t) for name, t in zip(("Euclidean CP", "KL CP"), theirs, strict=True)}
    note = f"{ours.mean():.3g} against {theirs[0].mean():.3g} and {theirs[1].mean():.3g}"
    return Evidence.of_cases(cases, at_most=0.0, given={"the baselines stand still": still}, note=note)
