"""AdAdaGrad: AdaGrad whose batch grows whenever gradient noise fails a variance test.

```python
import jax, jax.numpy as jnp
from attractor import Minimization, run
from attractor.optim import adadagrad_norm

data = jax.random.normal(jax.random.key(0), (1_000, 3))
problem = Minimization(lambda x, rows: jnp.mean((x - rows) ** 2), init=jnp.ones(3), data=data)
trace = run(problem, adadagrad_norm(1.0, initial=8), steps=200)
print(trace.last("loss").values)  # the variance of the data, 1, as batches have grown to all of it
```
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.optim.batch_size import adadagrad, adadagrad_norm
from attractor.papers.words import Evidence, cached, claim, log_slopes, mean, paired_ratio, seed, seeds, sizes
from attractor.problems.noisy import noisy_wells

ROWS, NOISE, ETA = 40_000, 0.6, 0.5
RATES = (0.5, 1.0, 2.0, 4.0)  # searched
STEPS, EVERY, FIRST = 200, 2, 20  # slopes are fitted from step FIRST on
SAMPLES = 2**17  # of the comparison at equal samples


@eqx.filter_jit
def _descend(make, problem, rates, starts, records, every):
    def path(rate, start):
        method, key = make(rate), jr.key(start)
        x = problem.init(key)

        def record(carry, key):
            exact = jax.grad(problem.loss)(carry[0], jnp.zeros((1, len(x))))
            found = jnp.sum(exact**2), carry[1].batch, carry[1].drawn
            carry, _ = jax.lax.scan(lambda c, k: (method.step(problem, *c, k), None), carry, jr.split(key, every))
            return carry, found

        return jax.lax.scan(record, (x, method.init(problem, x, key)), jr.split(key, records))[1]

    return jax.vmap(jax.vmap(path, (None, 0)), (0, None))(rates, starts)


@cached
def _paths(make, largest, rates, scale, steps=STEPS, every=EVERY):
    """Squared gradient, batch, and samples drawn so far, each ``(rates, seeds, records)``."""
    starts = jnp.asarray(seeds(**sizes(scale, n=(8, 64))))
    problem = noisy_wells(samples=ROWS, noise=NOISE, seed=seed(), batch_size=largest)
    found = _descend(make, problem, jnp.asarray(rates), starts, steps // every + 1, every)
    return [np.asarray(a, float) for a in found]


def _fixed(rate, size, make=adadagrad_norm):
    return make(rate, initial=size, largest=size)


def _accepts(make, eta):
    """So much noise; twice as much asks for a quarter of the samples. A number, so that one program serves all."""
    return eqx.Partial(make, eta=jnp.asarray(eta))


# Makers, the most that they may draw, and rates: of several the one with the smallest mean squared gradient counts.
NORM, QUARTER = (adadagrad_norm, 24_576, (1.25,)), (_accepts(adadagrad_norm, 2 * ETA), 4_096, (1.25,))
COORDINATES = (_accepts(adadagrad, ETA), 4_096, (0.5,))
SMALL, SMALL_COORDINATES = ((functools.partial(_fixed, size=8, make=m), 8, RATES) for m in (adadagrad_norm, adadagrad))


def _curves(adaptive, scale):  # squared gradient and batch, ``(seeds, records)``
    squared, batch, _ = _paths(*adaptive, scale)  # pyright: ignore[reportCallIssue]
    best = squared.mean((1, 2)).argmin()
    return squared[best], batch[best]


def _slopes(curves):
    return log_slopes(EVERY * np.arange(curves.shape[1]), curves, since=FIRST)


def _mean_slope(adaptive, scale):
    curves, _ = _curves(adaptive, scale)
    return mean(_slopes(np.cumsum(curves, 1) / np.arange(1, curves.shape[1] + 1)))


def _growing(scale):
    batch = _curves(NORM, scale)[1][:, FIRST // EVERY :]
    return {"batches grow": (batch[:, 0] < batch[:, -1]).all(), "and never are all data": batch.max() < NORM[1]}


@claim("nonconvex sum: the mean squared gradient so far falls like K^-0.85 or faster from 20 to 200 steps",
       source="ours", broken={"batches of 8, retuned": {"adaptive": SMALL}})  # fmt: skip
def converges_like_one_over_k(adaptive=NORM, *, scale):
    return Evidence(_mean_slope(adaptive, scale), at_most=-0.85, given=_growing(scale))


def _passed(adaptive, scale, allowed):
    """Share of steps whose noise is at most so much of the gradient, by the exact gradient and variance."""
    squared, batch = (a[:, FIRST // EVERY :] for a in _curves(adaptive, scale))
    return mean((NOISE / batch <= allowed**2 * squared).mean(1))


@claim("nonconvex sum, steps 20 to 200: noise at most eta = 1/2 of the gradient's norm at nine of ten steps",
       source="paper", broken={"a quarter of the samples": {"adaptive": QUARTER}},
       reason="only at three of ten: the test sees the batch's own gradient, which its noise makes larger")  # fmt: skip
def passes_the_norm_test(adaptive=NORM, *, scale):
    return Evidence(_passed(adaptive, scale, ETA), at_least=0.9, given=_growing(scale))


@claim(
    "nonconvex sum, steps 20 to 200: noise at most eta / (1 - eta^2)^0.5 of the gradient's norm at nine of ten steps",
    source="ours", broken={"a quarter of the samples": {"adaptive": QUARTER}})  # fmt: skip
def passes_the_test_on_its_own_gradient(adaptive=NORM, *, scale):
    """A batch's squared gradient is larger by its own noise, so that the test passes at 1 / (1 - eta^2) times more."""
    return Evidence(_passed(adaptive, scale, ETA / (1 - ETA**2) ** 0.5), at_least=0.9, given=_growing(scale))


@claim("nonconvex sum: the smallest squared gradient so far falls with a power larger by 0.25 than with batches of 8",
       source="ours", broken={"batches of 8 of AdaGrad": {"adaptive": SMALL_COORDINATES}})  # fmt: skip
def outruns_small_batches(adaptive=NORM, *, scale):
    ours, small = (_slopes(np.minimum.accumulate(_curves(a, scale)[0], 1)) for a in (adaptive, SMALL))
    return Evidence(mean(small - ours), at_least=0.25, given=_growing(scale))


@claim("nonconvex sum: after 200 steps the squared gradient is at most 0.2 of that with batches of 8, retuned",
       source="ours", broken={"batches of 8 of AdaGrad": {"adaptive": SMALL_COORDINATES}},
       reason="the 8 runs do not decide it: 0.13 [0.08, 0.20]")  # fmt: skip
def ends_with_a_smaller_gradient(adaptive=NORM, *, scale):
    ours, small = _curves(adaptive, scale)[0], _curves(SMALL, scale)[0]
    falls = (small[:, -1] < 0.1 * small[:, 0]).all()
    return Evidence(paired_ratio(ours[:, -1], small[:, -1]), at_most=0.2, given={"batches of 8 make progress": falls})


def _after_samples(make, largest, steps, every, scale):
    """Squared gradient by seed once 2^17 samples are drawn, at the best of four rates."""
    squared, _, drawn = _paths(make, largest, RATES, scale, steps, every)
    last = (drawn <= SAMPLES).sum(-1, keepdims=True) - 1
    squared = np.take_along_axis(squared, last, 2)[..., 0]
    return squared[np.log(squared).mean(1).argmin()]


FULL = (functools.partial(_fixed, size=ROWS), None, SAMPLES // ROWS, 1)
FIXED = {"8": (*SMALL[:2], SAMPLES // 8, 256), "512": (functools.partial(_fixed, size=512), 512, SAMPLES // 512, 4),
         "all": FULL}  # fmt: skip


@claim(
    "nonconvex sum, 2^17 samples drawn, each tuned: squared gradient at most 0.9 of that with batches of 8, 512, all",
    source="ours", broken={"all data at once": {"how": FULL}}, reason="batches of 8 spend samples best: "
    "late steps cost thousands; all data at once is 80 times worse")  # fmt: skip
def gains_at_equal_samples(how=(adadagrad_norm, 4_096, 120, 2), *, scale):
    ours, fixed = _after_samples(*how, scale), {k: _after_samples(*f, scale) for k, f in FIXED.items()}  # pyright: ignore[reportCallIssue]
    return Evidence.of_cases({f"against {k}": paired_ratio(ours, f) for k, f in fixed.items()}, at_most=0.9)


@claim("AdAdaGrad, tested by coordinate: the mean squared gradient falls like K^-0.85 or faster from 20 to 200 steps",
       source="ours", broken={"batches of 8, retuned": {"adaptive": SMALL_COORDINATES}})  # fmt: skip
def converges_by_coordinates(adaptive=COORDINATES, *, scale):
    return Evidence(_mean_slope(adaptive, scale), at_most=-0.85)


@claim("AdAdaGrad, tested by coordinate: after 20 steps the batch is at most half of the 4,096 that it may have",
       source="ours", broken={"any noise is too much": {"eta": 0.01}},
       reason="one coordinate whose gradient is near 0 asks for all: the largest answer counts")  # fmt: skip
def leaves_room_by_coordinates(eta=ETA, *, scale):
    batch = _paths(_accepts(adadagrad, eta), *COORDINATES[1:], scale)[1][0, :, FIRST // EVERY]
    return Evidence(mean(batch / COORDINATES[1]), at_most=0.5)
