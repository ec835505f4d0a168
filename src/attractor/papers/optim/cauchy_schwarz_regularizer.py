"""Cauchy-Schwarz regularizers: smooth penalties that vanish exactly on binary, ternary or orthogonal weights.

```python
import jax
import jax.numpy as jnp
import optax
from attractor.optim import add_penalty, binary_penalty

optimizer = optax.chain(add_penalty(binary_penalty, weight=1.0), optax.adam(1e-2))
w = jax.random.normal(jax.random.key(0), (4, 4))
state = optimizer.init(w)
for _ in range(500):
    updates, state = optimizer.update(jnp.zeros_like(w), state, w)  # no loss here: only the penalty
    w = optax.apply_updates(w, updates)
print(jnp.abs(w))  # one size for all, which nobody has set
```
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.engine import run
from attractor.optim.regularizers import (
    add_penalty,
    binary_penalty,
    on_affine_set,
    one_sided_penalty,
    orthogonal_penalty,
    ternary_penalty,
)
from attractor.papers import Evidence, claim
from attractor.probe import Probe
from attractor.problems.digits import digits_mlp
from attractor.stats import paired_ratio, proportion

SLUG = "cauchy-schwarz-regularizer"
SETS = {
    binary_penalty: lambda key: jr.rademacher(key, (40,), float),
    one_sided_penalty: lambda key: jr.bernoulli(key, 0.5, (40,)).astype(float),
    ternary_penalty: lambda key: jr.randint(key, (40,), -1, 2).astype(float),
    orthogonal_penalty: lambda key: jr.orthogonal(key, 8)[:, :5],
}


@claim(
    SLUG,
    "on its set, scaled by 1e-2 to 1e2, each penalty is at most 1e-10 of its value at random points of that size",
    broken={"one scale only": {"on": lambda penalty: lambda x: penalty(x) + jnp.sum((x**2 - 1) ** 2)}},
)
def vanishes_exactly_on_its_set(on=lambda penalty: penalty, *, scale):
    worst = 0.0
    for penalty, draw in SETS.items():
        for key in jr.split(jr.key(0), 10 if scale == "quick" else 1_000):
            for size in (1e-2, 1.0, 1e2):
                member = size * draw(key)
                other = jr.normal(key, member.shape) * jnp.linalg.norm(member) / member.size**0.5
                worst = max(worst, float(on(penalty)(member) / on(penalty)(other)))
    return Evidence(worst, at_most=1e-10)


@functools.partial(jax.jit, static_argnums=0)
def _trial(penalty, key):
    """Relative error of the best of four starts for c·signs, seen through 75 of 100 Gaussian measurements."""
    for_x, for_size, for_matrix, for_start = jr.split(key, 4)
    x = jr.uniform(for_size, minval=0.5, maxval=5.0) * jr.rademacher(for_x, (100,), float)
    matrix = jr.normal(for_matrix, (75, 100))
    value, solution = on_affine_set(penalty, matrix, matrix @ x)
    solver = optax.adam(optax.cosine_decay_schedule(0.3, 500))

    def step(carry, _):
        z, state = carry
        updates, state = solver.update(jax.grad(value)(z), state)
        return (z + updates, state), None

    def descend(z):
        (z, _), _ = jax.lax.scan(step, (z, solver.init(z)), length=500)
        return z

    found = jax.vmap(descend)(jr.normal(for_start, (4, 25)))
    best = solution(found[jnp.argmin(jax.vmap(value)(found))])
    return jnp.linalg.norm(best - x) / jnp.linalg.norm(x)


@claim(
    SLUG,
    "c·{-1, 1}^100 with unknown c is recovered to 1 % from 75 Gaussian measurements in at least 90 % of 100 trials",
    broken={
        "no scale term": {"penalty": lambda x: jnp.sum(x**4)},
        "least squares": {"penalty": lambda x: jnp.sum(x**2)},
    },
)
def recovers_binary_vectors(penalty=binary_penalty, *, scale):
    keys = jr.split(jr.key(1), 100 if scale == "quick" else 1_000)
    errors = jax.lax.map(functools.partial(_trial, penalty), keys)
    return Evidence(proportion(int(jnp.sum(errors < 0.01)), len(keys)), at_least=0.9)


def _binarized(w):
    return jnp.mean(jnp.abs(w)) * jnp.sign(w) if w.ndim == 2 else w


def penalized(weight, penalty=binary_penalty):
    return optax.chain(add_penalty(penalty, weight), optax.adam(3e-3))


@functools.cache
def _network():
    return digits_mlp()


def _rounded(problem, x, key):
    return problem.probes["test_accuracy"](problem, jax.tree.map(_binarized, x), key)


def _accuracy_lost(weights, scale):
    """Test accuracy that rounding all weight matrices to ±a costs, by seed, with the weight that rounds best."""
    problem, steps = _network(), 500 if scale == "quick" else 10_000
    probes = {"kept": problem.probes["test_accuracy"], "rounded": Probe(_rounded, "max")}
    shared = {"steps": steps, "every": steps, "lanes": 24, "probes": probes}
    tuning = run(problem, penalized, sweep={"weight": weights}, seeds=[1_000, 1_001], **shared)
    best = tuning.configuration(tuning.best("rounded"))
    trace = run(problem, penalized, sweep=[best], seeds=24, **shared)
    return np.asarray(trace.last("kept") - trace.last("rounded"))[0], best


@claim(
    SLUG,
    "digits network: with the penalty, rounding the weights to ±a costs at most half the accuracy it costs without",
    broken={"penalty of weight zero": {"weights": [0.0]}},
)
def keeps_accuracy_when_rounded(weights=(1.0, 3.0, 10.0, 30.0, 100.0), *, scale):
    (ours, best), (theirs, _) = _accuracy_lost(list(weights), scale), _accuracy_lost([0.0], scale)
    note = f"lost {ours.mean():.3f} against {theirs.mean():.3f}, with {best}"
    return Evidence(paired_ratio(ours, theirs), at_most=0.5, note=note)
