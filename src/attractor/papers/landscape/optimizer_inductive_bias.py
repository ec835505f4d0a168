"""Optimizers that fit the data equally well end at solutions of different kinds: each has a bias of its own.

```python
import jax, jax.numpy as jnp, jax.random as jr, optax
from attractor import Minimization, run
from attractor.optim import hypentropy_descent

rows = jr.normal(jr.key(0), (40, 200))
problem = Minimization(lambda w: jnp.mean((rows @ w - rows[:, 0]) ** 2), jnp.zeros(200))
print(run(problem, hypentropy_descent(0.1, 1e-3), steps=500).last("loss"))
```
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from attractor.optim.mirror import hypentropy_descent, least_hypentropy
from attractor.optim.sign import unit_vector
from attractor.papers import words
from attractor.papers.words import Evidence, cached, claim, descend, paired_difference, paired_ratio, run, seeds, sizes
from attractor.problems.digits import digits_mlp
from attractor.problems.synthetic import sparse_system

N, D, STEPS = 40, 200, 20_000
_system = partial(sparse_system, N, D, 5)
FADING = optax.linear_schedule(0.01, 0.0, STEPS)
UNIT = optax.chain(optax.stateless(lambda g, _: unit_vector(g)), optax.scale_by_learning_rate(FADING))
METHODS = {
    "descent": lambda scale: optax.sgd(0.1), "sign": lambda scale: optax.sign_sgd(FADING),
    "unit": lambda scale: UNIT, "mirror": lambda scale: hypentropy_descent(0.1 / (1 + scale), scale)}  # fmt: skip


@cached
def _solutions(name, numbers, scale: ArrayLike = 1e-3, start=0.0):
    """Of every system ``(n, D)``, from a start of this size in a random direction, and the mean square errors."""
    with jax.enable_x64(True):
        rows, values, _ = (np.stack(part) for part in zip(*map(_system, numbers), strict=True))
        method, scale = METHODS[name], np.broadcast_to(scale, len(numbers))

        @jax.jit
        @jax.vmap
        def solve(rows, values, scale, x):
            x = descend(method(scale), lambda x, _: rows.T @ (rows @ x - values) / N, x, STEPS)
            return x, jnp.mean((rows @ x - values) ** 2)

        begun = start * np.random.default_rng(0).standard_normal((len(numbers), D))
        return tuple(map(np.asarray, solve(rows, values, scale, begun)))


@claim("40 equations, 200 unknowns: descent ends at the least 2-norm, mirror descent at the least entropy, up to 1e-4",
       source="paper", deterministic=True,
       broken={"from 0.01 off": {"start": 0.01}, "twice the scale": {"factor": 2.0}})  # fmt: skip
def each_minimizes_its_potential(start=0.0, factor=1.0):
    scales, cases = (1e-2, 0.1, 1.0, 10.0), {}
    mirror = _solutions("mirror", (0,) * 4, factor * np.array(scales), start)[0]
    descent = _solutions("descent", (0,) * 4, start=start)[0][0]
    for name, found, scale in [("descent", descent, 0.0), *zip(map(str, scales), mirror, scales, strict=True)]:
        least = least_hypentropy(*_system(0)[:2], scale)
        cases[name] = float(np.linalg.norm(found - least) / np.linalg.norm(least))
    return Evidence.of_cases(cases, at_most=1e-4)


def _compared(measure, ours, entropy, scale):
    """The ratio to gradient descent's of something about the solutions."""
    numbers = tuple(seeds(sizes(scale, n=(8, 64))["n"]))
    (x, fit), (y, other) = _solutions(ours, numbers, entropy), _solutions("descent", numbers)
    truths = np.stack([_system(number)[2] for number in numbers])
    given = {"both fit": fit.max() < (1e-8 if ours == "mirror" else 1e-4) and other.max() < 1e-8}
    return {"value": paired_ratio(measure(x, truths), measure(y, truths)), "given": given}


@claim("40 equations, sparse truth in 200 unknowns: mirror descent's 1-norm is at most 0.7 times gradient descent's",
       source="scaled", broken={"scale 1 instead of 1e-3": {"entropy": 1.0}})  # fmt: skip
def mirror_descent_is_sparse(entropy=1e-3, *, scale):
    return Evidence(**_compared(lambda x, _: np.abs(x).sum(1), "mirror", entropy, scale), at_most=0.7)


@claim("40 equations, sparse truth in 200 unknowns: mirror descent errs at most 0.3 times gradient descent's in test",
       source="scaled", broken={"scale 1 instead of 1e-3": {"entropy": 1.0}})  # fmt: skip
def mirror_descent_finds_the_truth(entropy=1e-3, *, scale):
    return Evidence(**_compared(lambda x, truth: np.sum((x - truth) ** 2, 1), "mirror", entropy, scale), at_most=0.3)


@claim("40 equations, 200 unknowns: fading sign descent's largest entry is at most 0.8 times that of gradient descent",
       source="scaled", broken={"unit vectors in place of signs": {"ours": "unit"}})  # fmt: skip
def sign_descent_is_flat(ours="sign", *, scale):
    return Evidence(**_compared(lambda x, _: np.abs(x).max(1), ours, 1e-3, scale), at_most=0.8)


MAKERS = {"momentum": eqx.Partial(optax.sgd, momentum=0.9), "adam": optax.adam, "mirror": hypentropy_descent}
RATES = {"momentum": (0.02, 0.05, 0.1, 0.2), "adam": (3e-4, 1e-3, 3e-3, 1e-2), "mirror": (0.3, 1.0, 3.0, 10.0)}


def _pruned(problem, params, key):  # test accuracy with the tenth of the weights that is largest
    sizes = jnp.sort(jnp.concatenate([jnp.abs(p).ravel() for p in jax.tree.leaves(params) if p.ndim == 2]))
    kept = jax.tree.map(lambda p: p * ((jnp.abs(p) >= sizes[-len(sizes) // 10]) | (p.ndim < 2)), params)
    return problem.probes["test_accuracy"](problem, kept, key)


@cached
def _best(arm, n, **fixed):
    """Per seed the pruned network's accuracy once the loss is 0.05, or NaN, at the rate that is best on others."""
    problem = digits_mlp()
    how = {"steps": 1_000, "every": 50, "probes": {"loss": problem.probes["loss"], "pruned": _pruned}, "lanes": n}

    def accuracies(configs, seeds):
        trace = run(problem, MAKERS[arm], sweep=configs, seeds=seeds, **how)
        at = words.first_step(trace["loss"].values, 0.05)
        last = np.where(np.isfinite(at), at, 0).astype(int)[..., None]
        return np.where(np.isfinite(at), np.take_along_axis(trace["pruned"].values, last, 2)[..., 0], np.nan)

    configs = [{"learning_rate": rate} | fixed for rate in RATES[arm]]
    best = np.nan_to_num(accuracies(configs, seeds(n // 4, stream=1)).mean(1)).argmax()
    return accuracies([configs[best]], seeds(n))[0]


@claim("digits, loss 0.05, tuned: with a tenth of its weights mirror descent is 10 points above Adam and momentum",
       source="ours", broken={"scale 1 instead of 1e-3, tuned": {"entropy": 1.0}},
       reason="8 seeds leave it open against momentum; against Adam it is 30 points")  # fmt: skip
def networks_differ_at_equal_loss(entropy=1e-3, *, scale):
    n = sizes(scale, n=(8, 32))["n"]
    ours, others = _best("mirror", n, scale=entropy), {arm: _best(arm, n) for arm in ("adam", "momentum")}
    given = {"all reach the loss": np.isfinite([ours, *others.values()]).all()}
    cases = {arm: paired_difference(ours, found) for arm, found in others.items()}
    return Evidence.of_cases(cases, at_least=0.1, given=given, note=f"pruned: {ours.mean():.3f}")
