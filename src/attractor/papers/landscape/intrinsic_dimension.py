"""Intrinsic dimension: how many random directions from the start hold a network that solves the task.

```python
import jax, jax.numpy as jnp, jax.random as jr
from attractor.landscape import random_subspace

place = random_subspace({"w": jnp.zeros(1_000)}, 12, jr.key(0))
loss = lambda z: jnp.sum((place(z)["w"][:10] - 1) ** 2)  # ten constraints on a thousand parameters
step = lambda _, z: z - 40 * jax.grad(loss)(z)
print(loss(jax.lax.fori_loop(0, 1_000, step, jnp.zeros(12))))
```
"""

from itertools import product

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.landscape.paths import intrinsic_dimension, random_subspace
from attractor.papers.words import Evidence, bootstrap, cached, claim, descend, mean, seeds, sizes
from attractor.problems.digits import digits

WIDTHS, DIMENSIONS = (16, 48, 144), (32, 48, 64, 96, 128, 192)
MOST, TRIED, STEPS, BATCH = max(WIDTHS), max(DIMENSIONS), 500, 64
COORDINATES = {"random parameters, not directions, retuned": {"coordinates": True}}


@claim("quadratics with 3, 10, 30 constraints on 200 and 1,000 parameters are solved from just so many dimensions on",
       source="paper", deterministic=True, broken={"every direction twice": {"copies": 2}})  # fmt: skip
def constraints_are_counted(copies=1):
    found = {}
    for p, k in product((200, 1_000), (3, 10, 30)):
        place = jax.vmap(random_subspace(jnp.zeros(p), 60, jr.key(0)), out_axes=1)
        rows, values = np.split(np.random.default_rng(k).standard_normal((k, p + 1)), [p], 1)
        columns = rows @ np.asarray(place(jnp.eye(60)), float).repeat(copies, 1)
        solutions = [np.linalg.lstsq(columns[:, :d], values, rcond=None)[0] for d in range(1, 61)]
        gaps = np.array([np.sum((columns[:, : len(z)] @ z - values) ** 2) for z in solutions])
        found[f"{k} on {p}"] = (1 + np.argmax(gaps < 1e-8)) / k
    return Evidence.of_cases(found, within=(0.999, 1.001))


@jax.jit
def _accuracies(number, width, train, test, coordinates):
    """In training and test, of all parameters, then in subspaces; what exceeds the width is held at zero."""
    keys, there = jr.split(jr.key(number), 4), (jnp.arange(MOST) < width) * 1.0
    used = jnp.concatenate([jnp.tile(there, 17), jnp.repeat(there, 10), jnp.ones(10)])
    scale = jnp.repeat(jnp.array([0.25, width**-0.5, 0.0]), np.array([17 * MOST, 10 * MOST, 10]))
    start = scale * used * jr.normal(keys[0], used.shape)
    drawn = jr.normal(keys[1], (used.size, TRIED)) * used[:, None]
    some = jnp.argsort(jr.uniform(keys[3], used.shape) + 1 - used)[:TRIED]
    columns = jnp.where(coordinates, jax.nn.one_hot(some, used.size, axis=0), drawn / jnp.linalg.norm(drawn, axis=0))
    adam = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(lambda t: -(1 - t / STEPS)))

    def one(dimension):
        rates = (jnp.arange(TRIED) < dimension) * jnp.where(coordinates, 0.3, 0.5), (dimension == 0) * 0.05 * used

        def logits(moves, images):
            params = start + columns @ (rates[0] * moves[0]) + rates[1] * moves[1]
            w, b, v, c = jnp.split(params, np.cumsum([16 * MOST, MOST, 10 * MOST]))
            return jax.nn.relu(images @ w.reshape(16, MOST) + b) @ v.reshape(MOST, 10) + c

        def loss(moves, key):
            x, labels = (a[jr.randint(key, (BATCH,), 0, len(train[1]))] for a in train)
            return optax.softmax_cross_entropy_with_integer_labels(logits(moves, x), labels).mean()

        moves = descend(adam, jax.grad(loss), (jnp.zeros(TRIED), jnp.zeros(used.size)), jr.split(keys[2], STEPS))
        return jnp.stack([jnp.mean(logits(moves, x).argmax(-1) == y) for x, y in (train, test)])

    return jax.vmap(one)(jnp.array([0, *DIMENSIONS]))


@cached
def _scores(width, scale, coordinates=False, images=None, shuffled=False):
    """``(seeds, 1 + dimensions, 2)``; of so many images, repeated, where that is given."""
    train, test = ((x.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16), labels) for x, labels in digits())
    found = []
    for number in seeds(sizes(scale, n=(8, 20))["n"]):
        rng, (x, labels) = np.random.default_rng(number), train
        if images:
            chosen = rng.choice(len(labels), images, replace=False)
            x, labels = x[chosen], rng.permutation(labels[chosen]) if shuffled else labels[chosen]
        repeated = np.resize(x, train[0].shape), np.resize(labels, train[1].shape)
        found.append(_accuracies(number, width, repeated, test, coordinates))
    return np.array(found)


def _needed(found, which=1):
    return intrinsic_dimension(DIMENSIONS, found[:, 1:, which], found[:, 0, which])


@claim("digits of 16 pixels, widths 16 to 144: the dimensions for 90 % differ by at most 1.8, parameters by 8.8",
       source="scaled", broken=COORDINATES)  # fmt: skip
def hardly_depends_on_the_width(coordinates=False, *, scale):
    found = np.stack([_scores(width, scale, coordinates) for width in (WIDTHS[::2] if coordinates else WIDTHS)])

    def most_over_least(chosen):  # of the mean curves: that of one network may stop just short of 90 %
        needed = np.array([_needed(scores[chosen.astype(int)].mean(1)) for scores in found])
        return np.nan_to_num(needed.max(0) / needed.min(0), nan=np.inf, posinf=np.inf)  # if none is enough

    ratio, note = bootstrap(most_over_least, np.arange(found.shape[1])), f"{_needed(found.mean(1)).round()} dimensions"
    given = {"all parameters reach 85 %": found[:, :, 0, 1].mean(1).min() > 0.85}
    return Evidence(ratio, at_most=1.8, given=given, note=note)


@claim("digits of 16 pixels, width 144: a tenth of the 3,898 parameters' number is enough for 90 % of the accuracy",
       source="scaled", broken=COORDINATES)  # fmt: skip
def compresses(coordinates=False, *, scale):
    found = _scores(MOST, scale, coordinates)
    given = {"all parameters reach 90 %": found[:, 0, 1].mean() > 0.9}
    return Evidence(mean((27 * MOST + 10) / _needed(found)), at_least=10.0, given=given)


@claim("100 digits, width 144: to fit shuffled labels takes at least 3 times the dimensions that true ones take",
       source="scaled", broken={"the test's labels": {"which": 1}},
       reason="none of up to 192 dimensions fits shuffled labels, so that this is a lower bound")  # fmt: skip
def shuffled_labels_need_more(which=0, *, scale):
    true, false = (_scores(MOST, scale, images=100, shuffled=shuffled) for shuffled in (False, True))
    needed = np.minimum(_needed(false, which), TRIED)  # if none is enough, it is more than that
    given = {"both are fit with all parameters": min(true[:, 0, 0].mean(), false[:, 0, 0].mean()) > 0.9}
    return Evidence(mean(needed / _needed(true, which)), at_least=3.0, given=given)
