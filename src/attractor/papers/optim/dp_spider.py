"""DP-SPIDER: private descent whose releases after small moves need little noise.

```python
import jax
import jax.numpy as jnp
from attractor import Minimization, run
from attractor.optim import PrivateSpider

rows = jax.random.normal(jax.random.key(0), (4_000, 20))
rows = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)  # of length 1: the constants below are then exact
labels = jnp.sign(rows @ jnp.ones(20))
problem = Minimization(
    lambda x, data: jnp.mean(jax.nn.sigmoid(-data[1] * (data[0] @ x))), jnp.zeros(20), (rows, labels)
)
method = PrivateSpider(lipschitz=0.25, smoothness=0.0963, epsilon=1.0, delta=1e-5, steps=60, period=10)
print(run(problem, method, steps=60, seeds=4).last("loss").values)
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from attractor.optim.private import PrivateDescent, zcdp_budget
from attractor.optim.variance_reduction import PrivateSpider
from attractor.papers.words import Evidence, cached, claim, key, log_slope, paired_ratio, run, seed, seeds, sizes
from attractor.problem import Minimization
from attractor.trees import norm

DIM, SIZES = 20, (250, 1_000, 4_000)
LIPSCHITZ, SMOOTHNESS = 0.25, 0.0963  # of the sigmoid, for rows of length 1


def _damaged(deviation):
    """The method with another noise: ``deviation(noise, samples, moved)``, where ``noise`` is its own."""

    class Damaged(PrivateSpider):
        def noise(self, samples, moved=None):
            return deviation(super().noise, samples, moved)

    return Damaged


def _loss(x, batch):
    rows, labels = batch
    # The penalty does not depend on data, and keeps stationary points from running off to where the sigmoid is flat.
    return jnp.mean(jax.nn.sigmoid(-labels * (rows @ x))) + 0.05 * jnp.sum(x**2) / 2


@cached
def _problem(n):
    rng = np.random.default_rng(seed())
    rows = rng.standard_normal((n, DIM))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = np.where(rng.random(n) < 1 / (1 + np.exp(-6 * rows @ np.ones(DIM) / DIM**0.5)), 1.0, -1.0)
    return Minimization(_loss, jnp.zeros(DIM), (jnp.asarray(rows, float), jnp.asarray(labels, float)))


def _path(spider, problem):
    """The points at which it looks at the data, ``(steps, dim)``."""

    def step(carry, k):
        return spider.step(problem, *carry, k), carry[0]

    x = problem.init(key())
    keys = jax.vmap(lambda t: jax.random.fold_in(key(1), t))(jnp.arange(spider.steps))
    return jax.jit(lambda x, state: jax.lax.scan(step, (x, state), keys)[1])(x, spider.init(problem, x, key()))


@claim(
    "40 releases of 250 samples: no one of 2,000 hostile replacements spends more than the zCDP budget of (1, 1e-5)",
    source="paper",
    broken={
        "noise for one release": {"method": _damaged(lambda noise, n, moved: noise(n, moved) / 40**0.5)},
        "noise like the squared move": {
            "method": _damaged(lambda noise, n, moved: noise(n, None if moved is None else moved**2))
        },
    },
)
def keeps_the_budget(method=PrivateSpider, *, scale):
    problem, n = _problem(SIZES[0]), SIZES[0]
    spider = method(LIPSCHITZ, SMOOTHNESS, learning_rate=0.5, steps=40, period=10)
    path, (rows, labels) = _path(spider, problem), problem.full
    count = sizes(scale, count=(2_000, 100_000))["count"]
    hostile = jax.random.normal(key(2), (count, DIM))
    hostile = hostile / jnp.linalg.norm(hostile, axis=1, keepdims=True)
    # Half of the replacements flip the label of a sample that is there, which moves its gradient the most.
    index = jnp.arange(count) % n
    hostile = jnp.where((jnp.arange(count) < count // 2)[:, None], rows[index], hostile)
    each = jax.vmap(jax.vmap(jax.grad(_loss), (None, 0)), (0, None))
    now = each(path, (rows[index][:, None], labels[index][:, None]))
    then = each(path, (hostile[:, None], -labels[index][:, None]))
    change = (then - now) / n  # (step, replacement, dim)
    moved = jnp.linalg.norm(jnp.diff(path, axis=0), axis=1)
    spent = 0.0
    for t in range(spider.steps):
        fresh = t % spider.period == 0
        size = jnp.linalg.norm(change[t] - (0 if fresh else change[t - 1]), axis=1)
        deviation = spider.noise(n) if fresh else spider.noise(n, moved[t - 1])
        spent = spent + size**2 / (2 * deviation**2)
    return Evidence(float(jnp.max(spent) / zcdp_budget(1.0, 1e-5)), at_most=1.0, note="of the budget")


@cached
def _norms(method, n, steps, factors, count):
    """Per step size (these factors over the smoothness) and seed, the gradient's norm at the end."""
    if method is PrivateDescent:
        make = functools.partial(PrivateDescent, steps=steps, bound=LIPSCHITZ, normalize=False)
    else:
        make = functools.partial(method, LIPSCHITZ, SMOOTHNESS, steps=steps, period=10)
    trace = run(
        _problem(n), make, steps=steps, every=steps, seeds=seeds(count),
        sweep={"learning_rate": [factor / SMOOTHNESS for factor in factors]},
        probes={"gradient": lambda problem, x, key: norm(jax.grad(problem.loss)(x, problem.full))},
    )  # fmt: skip
    return trace.last("gradient").values


@claim(
    "nonconvex linear model, epsilon 1, n = 250 to 4,000: the gradient's norm falls like n^-0.6 or faster",
    source="ours",
    broken={"noise that ignores n": {"method": _damaged(lambda noise, n, moved: noise(SIZES[0], moved))}},
)
def falls_with_the_sample(method=PrivateSpider, *, scale):
    releases = {n: round(40 * (n / SIZES[0]) ** (2 / 3)) for n in SIZES}
    count = sizes(scale, seeds=(20, 100))["seeds"]
    norms = np.stack([_norms(method, n, releases[n], (0.5,), count)[0] for n in SIZES], 1)
    note = ", ".join(f"n = {n}: {v:.2g}" for n, v in zip(SIZES, norms.mean(0), strict=True))
    return Evidence(log_slope(SIZES, norms), at_most=-0.6, note=note)


@claim(
    "n = 4,000, both at the best of 4 step sizes: its gradient is at most 1.1 times that of private gradient descent",
    source="ours",
    broken={
        "noise for the largest move": {
            "method": _damaged(lambda noise, n, moved: noise(n, None if moved is None else 1e9))
        }
    },
    reason="a well conditioned problem: descent forgets old noise, released changes pile it up",
)
def is_as_stationary_as_private_descent(method=PrivateSpider, *, scale):
    count = sizes(scale, seeds=(8, 100))["seeds"]
    ours, baseline = (
        min(_norms(m, SIZES[-1], 160, (1 / 8, 1 / 4, 1 / 2, 1.0), count), key=np.mean) for m in (method, PrivateDescent)
    )
    return Evidence(paired_ratio(ours, baseline), at_most=1.1, note=f"{ours.mean():.2g} against {baseline.mean():.2g}")
