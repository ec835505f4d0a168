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

from attractor.engine import run
from attractor.optim.private import PrivateDescent, zcdp_budget
from attractor.optim.variance_reduction import PrivateSpider
from attractor.papers import Evidence, claim
from attractor.problem import Minimization, norm
from attractor.stats import mean, paired_ratio

SLUG = "dp-spider"
DIM, SIZES = 20, (250, 1_000, 4_000)
LIPSCHITZ, SMOOTHNESS = 0.25, 0.0963  # of the sigmoid, for rows of length 1


class _UnderCounted(PrivateSpider):
    """Noise for one release, whatever their number."""

    def noise(self, samples, moved=None):
        return super().noise(samples, moved) / self.steps**0.5


class _SquaredMove(PrivateSpider):
    """Noise in proportion to the square of the move."""

    def noise(self, samples, moved=None):
        return super().noise(samples, moved if moved is None else moved**2)


class _SameNoise(PrivateSpider):
    """Noise that does not know how many samples there are."""

    def noise(self, samples, moved=None):
        return super().noise(SIZES[0], moved)


class _FullNoise(PrivateSpider):
    """Noise that does not shrink with the move."""

    def noise(self, samples, moved=None):
        return super().noise(samples, None if moved is None else 1e9)


def _loss(x, batch):
    rows, labels = batch
    # The penalty does not depend on data, and keeps stationary points from running off to where the sigmoid is flat.
    return jnp.mean(jax.nn.sigmoid(-labels * (rows @ x))) + 0.05 * jnp.sum(x**2) / 2


@functools.cache
def _problem(n):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((n, DIM))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = np.where(rng.random(n) < 1 / (1 + np.exp(-6 * rows @ np.ones(DIM) / DIM**0.5)), 1.0, -1.0)
    return Minimization(_loss, jnp.zeros(DIM), (jnp.asarray(rows, float), jnp.asarray(labels, float)))


def _gradient_norm(problem, x, key):
    return norm(jax.grad(problem.loss)(x, problem.full))


@claim(
    SLUG,
    "250 samples, 40 releases: no replacement of one sample among 2,000 hostile ones spends more than the zCDP "
    "budget of (1, 1e-5)",
    broken={
        "noise for one release": {"method": _UnderCounted},
        "noise like the squared move": {"method": _SquaredMove},
    },
)
def keeps_the_budget(method=PrivateSpider, *, scale):
    problem, steps, period = _problem(SIZES[0]), 40, 10
    spider = method(LIPSCHITZ, SMOOTHNESS, learning_rate=0.5, steps=steps, period=period)
    x = problem.init(jax.random.key(0))
    state, points = spider.init(problem, x, jax.random.key(0)), []
    step = jax.jit(lambda x, state, key: spider.step(problem, x, state, key))
    for t in range(steps):
        points.append(x)
        x, state = step(x, state, jax.random.fold_in(jax.random.key(1), t))
    path = jnp.stack(points)
    n = SIZES[0]
    rows, labels = problem.full
    count = 2_000 if scale == "quick" else 100_000
    hostile = jax.random.normal(jax.random.key(2), (count, DIM))
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
    for t in range(steps):
        fresh = t % period == 0
        size = jnp.linalg.norm(change[t] - (0 if fresh else change[t - 1]), axis=1)
        deviation = spider.noise(n) if fresh else spider.noise(n, moved[t - 1])
        spent = spent + size**2 / (2 * deviation**2)
    return Evidence(float(jnp.max(spent) / zcdp_budget(1.0, 1e-5)), at_most=1.0, note="of the budget")


def _releases(n):
    return round(40 * (n / SIZES[0]) ** (2 / 3))


@functools.cache
def _norms(make, n, steps, factors, seeds):
    """Per step size (these factors over the smoothness) and seed, the gradient's norm at the end."""
    trace = run(
        _problem(n), make(steps), steps=steps, every=steps, seeds=seeds,
        sweep={"learning_rate": [factor / SMOOTHNESS for factor in factors]},
        probes={"gradient": _gradient_norm},
    )  # fmt: skip
    return trace.last("gradient").values


@functools.cache
def _spider(method):
    return lambda steps: functools.partial(method, LIPSCHITZ, SMOOTHNESS, steps=steps, period=10)


def _descent(steps):
    return functools.partial(PrivateDescent, steps=steps, bound=LIPSCHITZ, normalize=False)


def _best(make, n, scale):
    factors, seeds = (1 / 8, 1 / 4, 1 / 2, 1.0), 8 if scale == "quick" else 100
    return min(_norms(make, n, 160, factors, seeds), key=np.mean)


@claim(
    SLUG,
    "nonconvex linear model, epsilon 1, n = 250 to 4,000: the gradient's norm falls like n^-0.6 or faster",
    broken={"noise that ignores n": {"method": _SameNoise}},
)
def falls_with_the_sample(method=PrivateSpider, *, scale):
    seeds = 20 if scale == "quick" else 100
    norms = np.stack([_norms(_spider(method), n, _releases(n), (0.5,), seeds)[0] for n in SIZES], 1)
    slopes = [np.polyfit(np.log(SIZES), np.log(row), 1)[0] for row in norms]
    note = ", ".join(f"n = {n}: {v:.2g}" for n, v in zip(SIZES, norms.mean(0), strict=True))
    return Evidence(mean(slopes), at_most=-0.6, note=note)


@claim(
    SLUG,
    "… and at n = 4,000 it is at most 1.1 times that of private gradient descent, both at the best of 4 step sizes",
    broken={"noise for the largest move": {"method": _FullNoise}},
    reason="a well conditioned problem: descent forgets old noise, released changes pile it up",
)
def is_as_stationary_as_private_descent(method=PrivateSpider, *, scale):
    ours, baseline = _best(_spider(method), SIZES[-1], scale), _best(_descent, SIZES[-1], scale)
    return Evidence(paired_ratio(ours, baseline), at_most=1.1, note=f"{ours.mean():.2g} against {baseline.mean():.2g}")
