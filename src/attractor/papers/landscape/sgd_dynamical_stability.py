"""Dynamical stability: minima where stochastic gradient descent can stay have a small trace of the Hessian.

```python
import jax
from attractor.landscape import sgd_stability_threshold
rows = jax.random.normal(jax.random.key(0), (50, 8))  # of the Jacobian, at parameters that fit all 50 examples
for batch in (1, 4, 16):
    print(batch, sgd_stability_threshold(rows, batch), 2 / (rows**2).sum(1).mean())
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.landscape.dynamical_stability import diagonal_network_sgd, sgd_stability_threshold
from attractor.papers.words import Evidence, cached, claim, mean, paired_ratio, seed, seeds, sizes

SIZES, _threshold = ((20, 5), (100, 20), (15, 30)), jax.jit(sgd_stability_threshold)


def _rows(kind, n, p, draw=None):  # of a Jacobian
    rng = np.random.default_rng([seed() if draw is None else draw, n, p])
    rows, heavy = rng.standard_normal((n, p)), rng.standard_t(3, (n, 1))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows * {"one length": 1 / lengths, "normal": 1.0, "heavy tails": heavy}[kind]


def _trace(rows, order=1.0):  # of the Hessian; with another order, that norm of its eigenvalues
    return float(np.linalg.norm(np.linalg.svd(rows, compute_uv=False) ** 2 / len(rows), order))


@claim("one example a step, gradients of one length: SGD is stable up to a rate of 2 / tr H, to 1e-9, p = 5 to 30",
       source="paper", broken={"largest eigenvalue": {"order": np.inf}, "Frobenius' norm": {"order": 2}})  # fmt: skip
def threshold_is_the_trace(order=1.0):
    with jax.enable_x64(True):
        rows = {p: _rows("one length", n, p) for n, p in SIZES}
        cases = {f"p = {p}": float(_threshold(jnp.asarray(r), 1.0)) * _trace(r, order) / 2 for p, r in rows.items()}
    return Evidence.of_cases(cases, within=(1 - 1e-9, 1 + 1e-9))


@claim("one example a step, gradients of any lengths: SGD is stable at no rate above 2 / tr H, p = 5 to 30",
       source="paper", broken={"four examples a step": {"batch": 4.0}})  # fmt: skip
def no_minimum_with_a_larger_trace(batch=1.0):
    with jax.enable_x64(True):
        kinds = {f"{k}, p = {p}": _rows(k, n, p) for n, p in SIZES for k in ("normal", "heavy tails")}
        cases = {name: float(_threshold(jnp.asarray(r), batch)) * _trace(r) / 2 for name, r in kinds.items()}
    beyond = [_trace(r) / _trace(r, np.inf) for name, r in kinds.items() if "normal" in name]
    given = {"full-batch descent is, for normal ones": min(beyond) > 1.5}
    return Evidence.of_cases(cases, at_most=1.0, given=given)


@claim("runs near a minimum, 100 examples, p = 20: 95 % leave at 1.05 times the threshold, return at 0.95 times",
       source="scaled", broken={"four examples a step": {"batch": 4}},
       reason="the mean square grows, and yet with one in six draws of normal gradients most runs return")  # fmt: skip
def runs_leave_beyond_it(batch=1, *, scale):
    size, cases = sizes(scale, draws=(16, 64), runs=(8, 32), steps=(12_000, 40_000)), {}
    draws, runs = seeds(size["draws"]), size["runs"]
    rng, of_draw = np.random.default_rng(draws), np.arange(len(draws))[:, None, None]
    for kind in ("one length", "normal"):
        rows = np.stack([_rows(kind, 100, 20, draw) for draw in draws])
        thresholds = np.asarray(jax.vmap(_threshold, (0, None))(jnp.asarray(rows), 1.0))[:, None, None]
        for factor, leaves in ((0.95, False), (1.05, True)):
            w = np.full((len(draws), runs, 20), 20**-0.5)
            for _ in range(size["steps"]):
                chosen = rows[of_draw, rng.integers(0, 100, (len(draws), runs, batch))]
                w = w - factor * thresholds / batch * ((chosen @ w[..., None]) * chosen).sum(2)
            hits = (np.linalg.norm(w, axis=2) > 1) == leaves
            cases[f"{kind}, {factor} of the threshold"] = mean(hits.mean(1))
    return Evidence.of_cases(cases, at_least=0.95)


RATES = (0.012, 0.016, 0.024, 0.028)


@partial(jax.jit, static_argnames="steps")
def _networks(draws, full, steps):
    def one(rate, draw):
        loss, trace, error = diagonal_network_sgd(jr.key(draw), rate, full, steps)
        return loss, rate / 2 * trace, error

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(jnp.array(RATES), draws)


@cached
def _solutions(full, scale):
    """``(rate, draw)``: the loss, the Hessian's trace times rate / 2, the squared error of the coefficients."""
    size = sizes(scale, seeds=(16, 256), steps=(20_000, 100_000))
    return [np.asarray(a) for a in _networks(jnp.asarray(seeds(size["seeds"])), full, size["steps"])]


@claim("diagonal networks fitted one example a step: tr H is at most 1.1 times 2 / rate in every run, 4 rates",
       source="scaled", broken={"all examples a step": {"full": True}})  # fmt: skip
def networks_end_with_a_small_trace(full=False, *, scale):
    losses, traces, _ = _solutions(full, scale)
    cases = {f"rate {r}": float(t[l < 1e-6].max(initial=0)) for r, t, l in zip(RATES, traces, losses, strict=True)}
    return Evidence.of_cases(cases, at_most=1.1, given={"half of them fit": (losses < 1e-6).mean(1).min() >= 0.5})


@claim("diagonal networks, 20 examples of 60 inputs, the largest rate: SGD's error is at most 0.75 times descent's",
       source="ours", broken={"half of the rate": {"rate": 0}},
       reason="only runs that come near to divergence find the sparse solution")  # fmt: skip
def and_generalize_better(rate=-1, *, scale):
    (losses, _, sgd), (_, _, descent) = _solutions(False, scale), _solutions(True, scale)
    fit = losses[rate] < 1e-6
    ratio = paired_ratio(sgd[rate][fit], descent[rate][fit])
    return Evidence(ratio, at_most=0.75, given={"half of the runs fit": fit.mean() >= 0.5})
