"""Self-tuning networks: weights that answer hyper-parameters through gates, learned and followed in one training run.

```python
import attractor
from attractor import games, problems

problem = problems.feature_penalties("breast_cancer")
method = games.SelfTuning(0.05, inner_rate=0.05, width=0.5)
print(attractor.run(problem, method, steps=500, seeds=4).summary("value"))
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.bilevel import Bilevel
from attractor.games import SelfTuning, gated_ridge
from attractor.papers.words import Evidence, claim, key, mean, ratio_of_means, seeds
from attractor.problems import feature_penalties

STEPS, RATES, INNER = 2_000, (0.01, 0.03, 0.1), (0.02, 0.05, 0.1)


@claim("ridge on diabetes, penalties 1e-6 to 1e6: a linear network of two layers, rows gated, is the best response",
       source="paper", deterministic=True, broken={"gates without their offsets": {"columns": (1.0, 0.0)}})  # fmt: skip
def gates_are_exact_for_linear_networks(columns=(1.0, 1.0)):
    with jax.enable_x64(True):
        features, targets = feature_penalties().full[1]
        plain, gated, gates = map(np.asarray, gated_ridge(features, targets))
        a, b = np.asarray(features), np.asarray(targets)
    off, n = [], len(b)
    for penalty in np.log(np.geomspace(1e-6, 1e6, 13)):
        ours = gated.T @ (plain / (1 + np.exp(-(gates * columns) @ [penalty, 1.0])))
        exact = np.linalg.solve(a.T @ a / n + np.exp(penalty) * np.eye(a.shape[1]), a.T @ b / n)
        off.append(np.abs(ours - exact).max() / np.abs(exact).max())
    return Evidence(float(np.max(off)), at_most=1e-9)


def _spread(level, x, y, batch):
    return level(jnp.broadcast_to(x, y.shape), y, batch)


def _spread_solution(base, x):
    return base.solve(jnp.broadcast_to(x, base.full[1][0].shape[1:]))


def _one_penalty(base, start):
    """A single penalty for all features, from where it starts, as a logarithm."""
    upper, lower = eqx.Partial(_spread, base.upper), eqx.Partial(_spread, base.lower)
    begin = jnp.full(1, start), base.init(key())[1]
    return Bilevel(upper, lower, begin, base.full, solve=eqx.Partial(_spread_solution, base))


@eqx.filter_jit
def _values(problem, points):
    return jax.vmap(problem.value)(points)


class _Ungated(SelfTuning):  # weights that do not answer
    def step(self, problem, x, state, key):
        response = state.response._replace(gated=jnp.zeros_like(x[1]))
        return super().step(problem, x, state._replace(response=response), key)


@eqx.filter_jit
def _tuned(problem, draw, method=SelfTuning):
    """The smallest value at the last x over rates of both levels; some diverge."""

    def one(rate, inner):
        own, start = method(rate, inner, entropy=0.0), problem.init(key())  # with it, runs of 30 penalties diverge

        def step(carry, draw):
            return own.step(problem, carry[0], carry[1], draw), None

        (x, _), _ = jax.lax.scan(step, (start, own.init(problem, start, draw)), jr.split(draw, STEPS))[0]
        return problem.value(x)

    rates, inner = (jnp.asarray(a.ravel()) for a in np.meshgrid(RATES, INNER))
    return jnp.nanmin(jax.vmap(one)(rates, inner))


@claim("one penalty of breast_cancer, from 3 decades below the best of 20 and 2 above: ends within 2 % of it, 5 splits",
       source="ours", broken={"weights do not answer": {"method": _Ungated}},
       reason="12 % above the best of the grid from the worse start, on average: the split decides")  # fmt: skip
def finds_what_a_grid_finds(method=SelfTuning):
    grid, ends, best = jnp.linspace(-9, 2, 20), {-3: [], 2: []}, []
    for split in seeds(5):
        base = feature_penalties("breast_cancer", seed=split)
        values = _values(_one_penalty(base, 0.0), grid[:, None])
        best.append(float(values.min()))
        for decades, found in ends.items():
            problem = _one_penalty(base, grid[values.argmin()] + decades * np.log(10))
            found.append(float(_tuned(problem, jr.key(split), method)))
    cases = {f"from {decades:+} decades": ratio_of_means(found, best) for decades, found in ends.items()}
    return Evidence.of_cases(cases, within=(0.95, 1.02))


@claim("30 penalties of breast_cancer, 3 splits: a run at the best of 9 rates ends below 30 random draws, each solved",
       source="scaled", broken={"weights do not answer": {"method": _Ungated}},
       reason="0.95 on average without the entropy term, with which runs diverge; three splits are few")  # fmt: skip
def beats_random_search(method=SelfTuning):
    ratios, gains = [], []
    for split in seeds(3):
        problem = feature_penalties("breast_cancer", seed=split)
        searched = float(_values(problem, jr.uniform(jr.key(split), (30, 30), minval=-9, maxval=2)).min())
        ratios.append(float(_tuned(problem, jr.key(split), method)) / searched)
        gains.append(searched / float(problem.value(problem.init(key())[0])))
    given = {"the search improves by a tenth": np.mean(gains) < 0.9}
    return Evidence(mean(np.array(ratios)) if np.isfinite(ratios).all() else np.inf, at_most=1.0, given=given)
