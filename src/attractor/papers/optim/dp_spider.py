"""DP-SPIDER: private descent whose releases after small moves need little noise.

```python
from attractor import run
from attractor.optim import PrivateSpider
from attractor.problems import sigmoid_classification

problem = sigmoid_classification(4_000)  # rows of length 1: the constants below are exact
method = PrivateSpider(lipschitz=0.25, smoothness=0.0963, epsilon=1.0, delta=1e-5, steps=60, period=10)
print(run(problem, method, steps=60, seeds=4).last("loss").values)
```
"""

import jax
import jax.numpy as jnp
import numpy as np

from attractor.optim.private import PrivateDescent, zcdp_budget
from attractor.optim.variance_reduction import PrivateSpider
from attractor.papers.words import Evidence, cached, claim, log_slopes, mean, paired_ratio, run, seeds, sizes
from attractor.problems.generalized_linear import sigmoid_classification, sigmoid_loss
from attractor.registry import LogUniform, sample
from attractor.trees import norm

SIZES, LIPSCHITZ, SMOOTHNESS = (250, 1_000, 4_000), 0.25, 0.0963
SPACE = {"steps": LogUniform(4, 256), "learning_rate": LogUniform(0.5 / SMOOTHNESS, 4 / SMOOTHNESS)}
PERIODS = {"period": LogUniform(2, 256)}


def _noisy(factor=1.0, move=lambda moved: moved):
    """The method with so many times the noise, or with noise for another size of the move."""

    class Damaged(PrivateSpider):
        def noise(self, samples, moved=None):
            return factor * super().noise(samples, None if moved is None else move(moved))

    return {"method": Damaged}


TOO_LITTLE = {"noise for one release": _noisy(40**-0.5), "noise like the squared move": _noisy(move=jnp.square),
              "a change of one gradient, not of two": _noisy(0.5)}  # fmt: skip
LARGE = {"noise for the largest move": _noisy(move=lambda moved: moved + 1e9)}


@claim("40 releases of 250 samples: no one of 2,000 hostile replacements spends more than the zCDP budget of (1, 1e-5)",
       source="paper", broken=TOO_LITTLE)  # fmt: skip
def keeps_the_budget(method=PrivateSpider, *, scale):
    n, count, (draw,) = SIZES[0], sizes(scale, count=(2_000, 100_000))["count"], seeds(1)
    problem, spider = sigmoid_classification(n, seed=draw), method(LIPSCHITZ, SMOOTHNESS, 0.5, steps=40, period=10)
    (rows, labels), x, (draws, others) = problem.full, problem.init(None), jax.random.split(jax.random.key(draw))  # pyright: ignore[reportArgumentType]

    def step(carry, k):
        return spider.step(problem, *carry, k), carry[0]  # pyright: ignore[reportCallIssue]

    start = (x, spider.init(problem, x, draws))
    path = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[1])(start, jax.random.split(draws, 40))
    hostile = jax.random.normal(others, (count, len(x)))
    hostile = hostile / jnp.linalg.norm(hostile, axis=1, keepdims=True)
    # Half of the replacements flip the label of a sample that is there, which moves its gradient the most.
    index = jnp.arange(count) % n
    hostile = jnp.where((jnp.arange(count) < count // 2)[:, None], rows[index], hostile)
    each = jax.vmap(jax.vmap(jax.grad(sigmoid_loss), (None, 0)), (0, None))
    now = each(path, (rows[index][:, None], labels[index][:, None]))
    change = (each(path, (hostile[:, None], -labels[index][:, None])) - now) / n  # (step, replacement, dim)
    spent = 0.0
    for t in range(40):
        fresh = t % 10 == 0
        size = jnp.linalg.norm(change[t] - (0 if fresh else change[t - 1]), axis=1)
        deviation = spider.noise(n) if fresh else spider.noise(n, jnp.linalg.norm(path[t] - path[t - 1]))
        spent = spent + size**2 / (2 * deviation**2)
    return Evidence(float(jnp.max(spent) / zcdp_budget(1.0, 1e-5)), at_most=1.0, note="of the budget")


@cached
def _norms(method, n, scale):
    """Per data set, the final gradient's norm, averaged over 2 noises; the method is tuned on another data set."""

    def make(steps, learning_rate, period=None):
        if period is None:
            return PrivateDescent(learning_rate, steps=jnp.round(steps), bound=LIPSCHITZ, normalize=False)
        return method(LIPSCHITZ, SMOOTHNESS, learning_rate, steps=jnp.round(steps), period=jnp.round(period))

    space = SPACE if method is PrivateDescent else SPACE | PERIODS
    probes = {"gradient": lambda problem, x, key: norm(jax.grad(problem.loss)(x, problem.full))}
    how, chosen = {"steps": 256, "every": 256, "probes": probes}, sizes(scale, budget=(16, 64), sets=(8, 64))
    known, *fresh = (sigmoid_classification(n, seed=draw) for draw in seeds(chosen["sets"] + 1, stream=2))

    def final(problem, configs):
        values = run(problem, make, sweep=configs, seeds=seeds(2), lanes=2, **how).last("gradient").values
        return np.nan_to_num(values, nan=np.inf).mean(1)

    configs = sample(space, chosen["budget"])
    winner = configs[int(final(known, configs).argmin())]
    return np.array([final(problem, [winner])[0] for problem in fresh])


def _slopes(method, scale):
    norms = np.stack([_norms(method, n, scale) for n in SIZES], 1)
    return log_slopes(SIZES, norms), ", ".join(f"{v:.2g}" for v in norms.mean(0))


@claim("nonconvex linear model, epsilon 1, n = 250 to 4,000, tuned: the gradient's norm falls like n^-0.6 or faster",
       source="ours", broken=LARGE, reason="-0.48: the noise of the first, "
       "long moves stays in the estimate until the next full release")  # fmt: skip
def falls_with_the_sample(method=PrivateSpider, *, scale):
    slopes, note = _slopes(method, scale)
    return Evidence(mean(slopes), at_most=-0.6, note=note)


@claim("nonconvex linear model, n = 250 to 4,000, tuned: its exponent is at least 0.1 below descent's (theory: 1/6)",
       source="scaled", broken=LARGE, reason="0.10 above: up to n = 4,000 descent averages its noise over steps, "
       "of which its bound makes no use")  # fmt: skip
def falls_faster_than_private_descent(method=PrivateSpider, *, scale):
    (ours, note), (theirs, other) = (_slopes(m, scale) for m in (method, PrivateDescent))
    learns = {"descent's gradient falls with n": mean(theirs).high < 0}
    return Evidence(mean(ours - theirs), at_most=-0.1, given=learns, note=f"{note} against {other}")


@claim("nonconvex linear model, n = 4,000, both tuned: its gradient is at most 1.1 times that of private descent",
       source="ours", broken=LARGE,
       reason="2.1 times: descent forgets old noise, released changes pile it up")  # fmt: skip
def is_as_stationary_as_private_descent(method=PrivateSpider, *, scale):
    ours, baseline = (_norms(m, SIZES[-1], scale) for m in (method, PrivateDescent))
    return Evidence(paired_ratio(ours, baseline), at_most=1.1, note=f"{ours.mean():.2g} against {baseline.mean():.2g}")
