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

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import optax

from attractor.optim.regularizers import (
    add_penalty,
    binary_penalty,
    on_affine_set,
    one_sided_penalty,
    orthogonal_penalty,
    ternary_penalty,
)
from attractor.papers.words import Evidence, cached, claim, key, paired_ratio, proportion, sizes, tune
from attractor.probe import Probe
from attractor.problems.digits import digits_mlp
from attractor.registry import Choice

SETS = {
    binary_penalty: lambda key: jr.rademacher(key, (40,), float),
    one_sided_penalty: lambda key: jr.bernoulli(key, 0.5, (40,)).astype(float),
    ternary_penalty: lambda key: jr.randint(key, (40,), -1, 2).astype(float),
    orthogonal_penalty: lambda key: jr.orthogonal(key, 8)[:, :5],
}


@claim(
    "on its set, scaled by 1e-2 to 1e2, each penalty is at most 1e-10 of its value at random points of that size",
    source="ours",
    broken={"one scale only": {"on": lambda penalty: lambda x: penalty(x) + jnp.sum((x**2 - 1) ** 2)}},
)
def vanishes_exactly_on_its_set(on=lambda penalty: penalty, *, scale):
    worst, trials = 0.0, sizes(scale, trials=(10, 1_000))["trials"]
    for penalty, draw in SETS.items():
        for k in jr.split(key(), trials):
            for size in (1e-2, 1.0, 1e2):
                member = size * draw(k)
                other = jr.normal(k, member.shape) * jnp.linalg.norm(member) / member.size**0.5
                worst = max(worst, float(on(penalty)(member) / on(penalty)(other)))
    return Evidence(worst, at_most=1e-10)


@partial(jax.jit, static_argnums=0)
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
    "c·{-1, 1}^100 with unknown c is recovered to 1 % from 75 Gaussian measurements in at least 90 % of 100 trials",
    source="ours",
    broken={
        "no scale term": {"penalty": lambda x: jnp.sum(x**4)},
        "least squares": {"penalty": lambda x: jnp.sum(x**2)},
    },
)
def recovers_binary_vectors(penalty=binary_penalty, *, scale):
    keys = jr.split(key(1), sizes(scale, trials=(100, 1_000))["trials"])
    errors = jax.lax.map(partial(_trial, penalty), keys)
    return Evidence(proportion(int(jnp.sum(errors < 0.01)), len(keys)), at_least=0.9)


def _penalized(weight):
    return optax.chain(add_penalty(binary_penalty, weight), optax.adam(3e-3))


PENALIZED = (_penalized, {"weight": Choice((1.0, 3.0, 10.0, 30.0, 100.0))})
PLAIN = (partial(_penalized, 0.0), {})


def _rounded(accuracy, problem, x, key):
    """Accuracy with all weight matrices rounded to ±a."""
    binary = jax.tree.map(lambda w: jnp.mean(jnp.abs(w)) * jnp.sign(w) if w.ndim == 2 else w, x)
    return problem.probes[accuracy](problem, binary, key)


PARTS = ("test", "validation")
ROUNDING = {f"{part}_rounded": Probe(partial(_rounded, f"{part}_accuracy"), "max") for part in PARTS}


@cached
def _network():
    return digits_mlp()


def _tuned(method, scale):
    """With the weight that rounds best: test accuracy before and after rounding, by seed."""
    task, how = _network(), sizes(scale, seeds=24, budget=8, steps=(500, 10_000), every=(500, 10_000))
    entry = tune(task, method, probes=task.probes | ROUNDING, metric="test_rounded", **how)
    return entry.trace.last("test_accuracy").values[0], entry.final, entry.winner


@claim(
    "digits network: with the penalty, rounding the weights to ±a costs at most half the accuracy it costs without",
    source="ours",
    broken={"penalty of weight zero": {"method": PLAIN}},
)
def keeps_accuracy_when_rounded(method=PENALIZED, *, scale):
    (kept, rounded, winner), (plain, plain_rounded, _) = _tuned(method, scale), _tuned(PLAIN, scale)
    ours, theirs = kept - rounded, plain - plain_rounded
    given = {"the plain network learns": plain.mean() > 0.9, "rounding costs it accuracy": theirs.mean() > 0}
    note = f"lost {ours.mean():.3f} against {theirs.mean():.3f}, with {winner}"
    return Evidence(paired_ratio(ours, theirs), at_most=0.5, given=given, note=note)
