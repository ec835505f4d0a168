"""L2O-PA: a learned optimizer that may only choose preconditioner and extrapolation serves problems it never saw.

```python
import jax
from attractor.blackbox import CoordinateNetwork, Tasks, learned_proximal, meta_train

bowls = Tasks(lambda key: jax.random.uniform(key, (5,), minval=0.1), jax.numpy.ones_like,
              lambda x, scales: scales * x, lambda x, scales: (scales * x**2).sum() / 2)
network = CoordinateNetwork(width=8, layers=1, key=jax.random.key(0))
network, values = meta_train(network, lambda net, task: learned_proximal(net, 1.0), bowls, jax.random.key(1), rounds=20)
print(values[0], values[-1])  # `learned_proximal(network, step_size)` works in any optax loop
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.blackbox import learned_optimizers as learned
from attractor.linalg.proximal import soft_threshold
from attractor.optim.splitting import fista
from attractor.papers.words import Evidence, cached, claim, mean, seeds
from attractor.problems.sparse_coding import digit_codes, random_sparse_code

RATES, TESTS, STEPS = (1e-3, 3e-3, 1e-2, 3e-2), 32, {"lasso": 30, "digits": 100}
# Factor of the extrapolation, whether r is told the preconditioned step, is the rule free, is 1 / L the task's own.
KINDS = {"structured": (1, 1, 0, 1), "free": (1, 1, 1, 1), "no extrapolation": (0, 1, 0, 1),
         "one step size": (1, 1, 0, 0), "plain prox": (1, 0, 0, 1)}  # fmt: skip
LEARNED = list(KINDS)[:4]
ALONE, SAME = ({f"{kind}, trained": {"ours": kind}} for kind in LEARNED[2:])


def _tasks(kind):
    def slope(x, task):  # a free rule has no prox: it is told a subgradient of all
        return task.slope(x) + kind[2] * task.strength * jnp.sign(x)

    return learned.Tasks(random_sparse_code, lambda task: jnp.zeros(task.matrix.shape[1]), slope,
                         lambda x, t: t.value(x))  # fmt: skip


def _make(kind, network, task):
    step = jnp.where(kind[3] > 0, task.step, 0.2)  # as lassos have it

    def prox(x, p):
        return soft_threshold(x, task.strength * jnp.where(kind[1] > 0, p, step))

    rules = learned.learned_proximal(network, step, prox, kind[0]), learned.learned_descent(network)

    def update(*given):
        return jax.tree.map(lambda a, b: jnp.where(kind[2] > 0, b, a), *(rule.update(*given) for rule in rules))

    return optax.GradientTransformation(rules[0].init, update)  # pyright: ignore[reportArgumentType]


def _train(kind, rate, number, rounds, batch):
    network, how = learned.CoordinateNetwork(2, 8, 1, key=jr.key(number)), {"rounds": rounds, "batch": batch}
    return learned.meta_train(network, partial(_make, kind), _tasks(kind), jr.key(number), learning_rate=rate, **how)[0]


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, None, None))  # networks …
@partial(jax.vmap, in_axes=(None, None, 0, 0))  # … and tasks
def _run(kind, network, task, start):
    """After each of 100 steps: the value, and how far it is from the start."""
    optimizer = _make(kind, network, task)
    tasks = _tasks(kind)._replace(value=lambda x, t: (t.value(x), jnp.linalg.norm(x - start)))
    return learned.unrolled(optimizer, tasks, task, start, optimizer.init(start), 100)[1]


@jax.jit
@jax.vmap
def _fista(task):
    """Where it ends after many steps, and the values on the way."""
    start = jnp.zeros(task.matrix.shape[1])
    return fista(task.slope, lambda x, t: soft_threshold(x, t * task.strength), start, task.step, 3_000,
                 measure=task.value)  # fmt: skip


def _lassos(stream):
    return jax.vmap(random_sparse_code)(jax.vmap(jr.key)(jnp.asarray(seeds(TESTS, stream)[:TESTS])))


@cached
def _networks(scale):
    """Kinds, networks of every rate, and of each run the place of the best one on lassos that are not graded."""
    runs, rounds, batch = (2, 40, 4) if scale == "quick" else (8, 500, 64)
    lanes = [(KINDS[k], r, n) for k in LEARNED for n in seeds(runs)[:runs] for r in RATES]
    kinds, rates, numbers = (jnp.asarray(column) for column in zip(*lanes, strict=True))
    made, tests = jax.jit(jax.vmap(partial(_train, rounds=rounds, batch=batch)))(kinds, rates, numbers), _lassos(1)
    score = np.asarray(_run(kinds, made, tests, jnp.zeros((TESTS, 24)))[0])[..., STEPS["lasso"] - 1].mean(1)
    score = np.where(np.isfinite(score), score, np.inf).reshape(-1, len(RATES))
    return kinds, made, len(RATES) * np.arange(len(score)) + score.argmin(1)


@cached
def _gaps(where, scale):
    """Logarithm of (F - F*) / F* after `STEPS`, for each task the mean over runs: of every kind, and of FISTA."""
    tasks = _lassos(0) if where == "lasso" else digit_codes(TESTS, seeds(1, 2)[0])
    kinds, made, best = _networks(scale)
    paths, at = np.asarray(_fista(tasks)[1]), STEPS[where] - 1
    ends = np.asarray(_run(kinds, made, tasks, jnp.zeros((TESTS, tasks.matrix.shape[2])))[0])[best, :, at]
    found = dict(zip(LEARNED, ends.reshape(4, -1, TESTS), strict=True)) | {"FISTA": paths[None, :, at]}
    gaps = {n: np.clip(np.nan_to_num(v / paths.min(1) - 1, nan=1e6), 1e-6, 1e6) for n, v in found.items()}
    return {n: np.log10(g).mean(0) for n, g in gaps.items()}


@claim("random lassos: whatever its weights, the structured rule leaves a minimizer alone, to 1e-5 in 3 steps",
       source="paper", deterministic=True, broken={"plain prox": {"ours": "plain prox"}})  # fmt: skip
def minimizers_stay(ours="structured"):
    keys = jax.vmap(jr.key)(jnp.arange(TESTS))
    networks = jax.vmap(lambda k: jax.tree.map(lambda w: 3 * w, learned.CoordinateNetwork(2, 8, 1, key=k)))(keys)
    tasks = jax.vmap(random_sparse_code)(keys)
    moved = _run(jnp.asarray([KINDS[ours]] * TESTS), networks, tasks, _fista(tasks)[0])[1]
    return Evidence(float(moved[..., 2].max()), at_most=1e-5)


@claim("random lassos, 30 steps, gaps to the optimum: L2O-PA's is at most FISTA's, and at most a free rule's",
       source="scaled", broken=ALONE)  # fmt: skip
def is_best_where_it_learned(ours="structured", *, scale):
    gaps = _gaps("lasso", scale)
    given = {"FISTA comes to 10 %, not to the floor": -5 < gaps["FISTA"].mean() < -1}
    return Evidence.of_cases({n: mean(gaps[ours] - gaps[n]) for n in ("FISTA", "free")}, at_most=0.0, given=given)


@claim("images of digits by others, 100 steps: L2O-PA that learned on random lassos has at most FISTA's gap",
       source="scaled", broken=ALONE | SAME,
       reason="7 times FISTA's gap after 160 training tasks with 24 unknowns; the paper's 32,000 have 500")  # fmt: skip
def generalizes(ours="structured", *, scale):
    gaps = _gaps("digits", scale)
    given = {"FISTA comes to 1 %, not to the floor": -5 < gaps["FISTA"].mean() < -2}
    return Evidence(mean(gaps[ours] - gaps["FISTA"]), at_most=0.0, given=given)


@claim("images of digits by others, 100 steps: a free rule learned on random lassos has 10 times L2O-PA's gap or more",
       source="ours", broken=SAME)  # fmt: skip
def a_free_rule_does_not(ours="structured", *, scale):
    gaps = _gaps("digits", scale)
    given = {"it has learned: 30 % on lassos": _gaps("lasso", scale)["free"].mean() < -0.5}
    return Evidence(mean(gaps["free"] - gaps[ours]), at_least=1.0, given=given)
