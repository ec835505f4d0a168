"""Cauchy-Schwarz regularizers: smooth penalties that vanish exactly on binary, ternary or orthogonal weights.

```python
import jax
import optax
from attractor import Minimization, run
from attractor.optim import add_penalty, binary_penalty

nothing = Minimization(lambda w: 0.0 * w.sum(), lambda key: jax.random.normal(key, (4, 4)))  # only the penalty
optimizer = optax.chain(add_penalty(binary_penalty, weight=1.0), optax.adam(1e-2))
print(abs(run(nothing, optimizer, steps=500).final))  # one size for all, which nobody has set
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.optim import regularizers as reg
from attractor.optim.common_descent import scalarized
from attractor.papers.words import Evidence, cached, claim, descend, key, paired_ratio, proportion, seed, sizes, tune
from attractor.probe import Probe
from attractor.problems.digits import digits_mlp
from attractor.registry import Choice

MATRIX = np.diag(np.arange(1.0, 21)) + 0.1  # symmetric
SETS = {
    reg.binary_penalty: lambda rng: rng.choice([-1.0, 1.0], 40),
    reg.one_sided_penalty: lambda rng: rng.choice([0.0, 1.0], 40),
    reg.ternary_penalty: lambda rng: rng.choice([-1.0, 0.0, 1.0], 40),
    reg.orthogonal_penalty: lambda rng: np.linalg.qr(rng.standard_normal((8, 5)))[0],
    lambda x: reg.eigenvector_penalty(x, jnp.asarray(MATRIX)):
        lambda rng: rng.choice(np.linalg.eigh(MATRIX)[1], axis=1)}  # fmt: skip


def _half(x):  # the binary penalty with half of its first product
    return x.size * jnp.sum(x**4) / 2 - jnp.sum(x**2) ** 2


HALF = {"half of the first product": {"penalty": _half}}


@claim("on its set, scaled by 1e-2 to 1e2, each penalty is at most 1e-10 of its value at random points of that size",
       source="ours",
       broken={"one scale only": {"on": lambda penalty: lambda x: penalty(x) + jnp.sum((x**2 - 1) ** 2)}})  # fmt: skip
def vanishes_exactly_on_its_set(on=lambda penalty: penalty, *, scale):
    rng, trials, worst = np.random.default_rng(seed()), sizes(scale, trials=(10, 1_000))["trials"], 0.0
    for penalty, draw in SETS.items():
        members = np.stack([size * draw(rng) for _ in range(trials) for size in (1e-2, 1.0, 1e2)])
        axes = tuple(range(1, members.ndim))
        others = rng.standard_normal(members.shape) * np.sqrt(np.mean(members**2, axes, keepdims=True))
        value = jax.jit(jax.vmap(on(penalty)))
        worst = max(worst, float(jnp.max(value(jnp.asarray(members, float)) / value(jnp.asarray(others, float)))))
    return Evidence(worst, at_most=1e-10)


@claim(
    "no spurious stationary points: from each of 100 random starts the binary penalty falls to 1e-6 of its first value",
    source="paper", broken={"another set, {-a, 0, a}": {"penalty": reg.ternary_penalty}},
    reason="the slowest start has not arrived; 1,500 steps of Adam left 1e-4 of its first value")  # fmt: skip
def has_no_spurious_stationary_points(penalty=reg.binary_penalty, *, scale):
    starts = np.random.default_rng(seed()).standard_normal((sizes(scale, trials=(100, 1_000))["trials"], 40))
    with jax.enable_x64(True):
        moves, _ = scalarized(lambda move, start: penalty(start + move), np.zeros(40), list(starts), steps=1_000)  # pyright: ignore[reportArgumentType]
        relative = jax.jit(jax.vmap(lambda x: reg.binary_penalty(x) / jnp.sum(x**2) ** 2))  # of no size
        left = relative(jnp.asarray(starts + moves)) / relative(jnp.asarray(starts))
    return Evidence(float(left.max()), at_most=1e-6, note="by L-BFGS")


@partial(jax.jit, static_argnums=0)
def _trials(penalty, keys):
    """Relative errors of the best of four starts for c·signs, seen through 75 of 100 Gaussian measurements."""

    def one(key):
        for_x, for_size, for_matrix, for_start = jr.split(key, 4)
        x = jr.uniform(for_size, minval=0.5, maxval=5.0) * jr.rademacher(for_x, (100,), float)
        matrix = jr.normal(for_matrix, (75, 100))
        value, solution = reg.on_affine_set(penalty, matrix, matrix @ x)
        adam = optax.adam(optax.cosine_decay_schedule(0.3, 500))
        ends = jax.vmap(lambda z: descend(adam, lambda z, _: jax.grad(value)(z), z, 500))
        found = ends(jr.normal(for_start, (4, 25)))
        best = solution(found[jnp.argmin(jax.vmap(value)(found))])
        return jnp.linalg.norm(best - x) / jnp.linalg.norm(x)

    return jax.lax.map(one, keys, batch_size=20)


@claim("c·{-1, 1}^100 with unknown c is recovered to 1 % from 75 Gaussian measurements in at least 90 % of 100 trials",
       source="ours", broken=HALF)  # fmt: skip
def recovers_binary_vectors(penalty=reg.binary_penalty, *, scale):
    keys = jr.split(key(1), sizes(scale, trials=(100, 1_000))["trials"])
    return Evidence(proportion(int(jnp.sum(_trials(penalty, keys) < 0.01)), len(keys)), at_least=0.9)


def _penalized(weight):
    return optax.chain(reg.add_penalty(reg.binary_penalty, weight), optax.adam(3e-3))


def _rounded(accuracy, problem, x, key):  # accuracy with all weight matrices rounded to ±a
    binary = jax.tree.map(lambda w: jnp.mean(jnp.abs(w)) * jnp.sign(w) if w.ndim == 2 else w, x)
    return problem.probes[accuracy](problem, binary, key)


PARTS = ("test", "validation")
ROUNDING = {f"{part}_rounded": Probe(partial(_rounded, f"{part}_accuracy"), "max") for part in PARTS}


@cached
def _tuned(weights, scale):
    """With the weight that rounds best: test accuracy before and after rounding, by seed."""
    task, how = digits_mlp(), sizes(scale, seeds=(24, 64), budget=8, steps=(500, 10_000), every=(500, 10_000))
    method = _penalized, {"weight": Choice(weights)}
    entry = tune(task, method, probes=task.probes | ROUNDING, metric="test_rounded", **how)
    return entry.trace.last("test_accuracy").values[0], entry.final, entry.winner


@claim("digits network: with the penalty, rounding the weights to ±a costs at most half the accuracy it costs without",
       source="ours", broken={"means for sums": {"factor": 1e-6}})  # fmt: skip
def keeps_accuracy_when_rounded(factor=1.0, *, scale):
    kept, rounded, winner = _tuned(tuple(factor * weight for weight in (1.0, 3.0, 10.0, 30.0, 100.0)), scale)
    plain, plain_rounded, _ = _tuned((0.0,), scale)
    ours, theirs = kept - rounded, plain - plain_rounded
    given = {"the plain network learns": plain.mean() > 0.9, "rounding costs it accuracy": theirs.mean() > 0}
    note = f"lost {ours.mean():.3f} against {theirs.mean():.3f}, with {winner}"
    return Evidence(paired_ratio(ours, theirs), at_most=0.5, given=given, note=note)
