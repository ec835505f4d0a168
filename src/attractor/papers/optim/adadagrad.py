"""AdAdaGrad: AdaGrad whose batch grows whenever gradient noise fails a variance test.

```python
import jax
import jax.numpy as jnp
from attractor import Minimization, run
from attractor.optim import adadagrad_norm

data = jax.random.normal(jax.random.key(0), (1_000, 3))
problem = Minimization(lambda x, rows: jnp.mean((x - rows) ** 2), init=jnp.ones(3), data=data)
trace = run(problem, adadagrad_norm(1.0, initial=8), steps=200)
print(trace.last("loss").values)  # the variance of the data, 1, as batches have grown to all of it
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from attractor.optim.batch_size import adadagrad_norm
from attractor.papers.words import Evidence, cached, claim, log_slopes, mean, paired_ratio, run, seed, seeds, sizes
from attractor.problem import Minimization
from attractor.trees import norm

STEPS, EVERY, FIRST = 1_500, 10, 100  # slopes are fitted from step FIRST on
_fixed = functools.partial(adadagrad_norm, largest=8)
FIXED = {"the batch stays at 8": {"adaptive": _fixed}}


def _sigmoid_loss(x, batch):
    rows, labels = batch
    return jnp.mean(jax.nn.sigmoid(-labels * (rows @ x)))


def _squared_gradient(problem, x, key):
    return norm(jax.grad(problem.loss)(x, problem.full)) ** 2


@cached
def _problem(rows):
    """A smooth, nonconvex finite sum: labels by a hidden direction, a fifth of them flipped."""
    rng = np.random.default_rng(seed())
    data = rng.standard_normal((rows, 20)).astype(np.float32)
    labels = np.sign(data @ rng.standard_normal(20)) * np.where(rng.random(rows) < 0.2, -1, 1)
    return Minimization(_sigmoid_loss, lambda key: jax.random.normal(key, (20,)), (data, labels.astype(np.float32)))


@cached
def _curves(method, scale):
    """Squared norms of the full gradient, one curve a seed."""
    size = sizes(scale, rows=(2_000, 20_000), seeds=(4, 16))
    return run(
        _problem(size["rows"]), method(1.0), steps=STEPS, every=EVERY, seeds=seeds(size["seeds"]),
        probes={"gradient": _squared_gradient},
    )["gradient"].values[0]  # fmt: skip


def _slopes(curves):
    return log_slopes(EVERY * np.arange(curves.shape[1]), curves, since=FIRST)


def _running_mean(curves):
    return np.cumsum(curves, 1) / np.arange(1, curves.shape[1] + 1)


@claim(
    "sigmoid loss: the mean squared gradient so far falls like K^-0.85 or faster from 100 to 1,500 steps",
    source="ours",
    broken=FIXED,
)
def converges_like_one_over_k(adaptive=adadagrad_norm, *, scale):
    return Evidence(mean(_slopes(_running_mean(_curves(adaptive, scale)))), at_most=-0.85)


@claim(
    "sigmoid loss: the smallest squared gradient so far falls with a power at least 0.25 larger than with batches of 8",
    source="ours",
    broken=FIXED,
    reason="batches of 8 have a gradient 20 times larger throughout, but it falls about as fast between these steps",
)
def outruns_small_batches(adaptive=adadagrad_norm, *, scale):
    ours, baseline = (_slopes(np.minimum.accumulate(_curves(m, scale), 1)) for m in (adaptive, _fixed))
    return Evidence(mean(baseline - ours), at_least=0.25)


@claim(
    "sigmoid loss: after 1,500 steps the squared gradient is at most 0.2 of that with batches of 8",
    source="ours",
    broken=FIXED,
)
def ends_with_a_smaller_gradient(adaptive=adadagrad_norm, *, scale):
    ours, baseline = _curves(adaptive, scale), _curves(_fixed, scale)
    falls = bool((baseline[:, -1] < baseline[:, 0]).all())
    return Evidence(
        paired_ratio(ours[:, -1], baseline[:, -1]), at_most=0.2, given={"batches of 8 make progress": falls}
    )
