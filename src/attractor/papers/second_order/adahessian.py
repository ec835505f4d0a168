"""AdaHessian: Adam whose denominator follows the Hessian diagonal, estimated by one random probe per step.

```python
import jax
import jax.numpy as jnp
import optax
from attractor.second_order import adahessian, hvp

def loss(w):
    return jnp.sum(jnp.array([1.0, 1e-3]) * (w - 3.0) ** 2)

optimizer = adahessian(learning_rate=0.3)
w = jnp.zeros(2)
state = optimizer.init(w)

@jax.jit
def step(w, state, key):
    updates, state = optimizer.update(jax.grad(loss)(w), state, w, hvp=hvp(loss, w), key=key)
    return optax.apply_updates(w, updates), state

for key in jax.random.split(jax.random.key(0), 200):
    w, state = step(w, state, key)
print(w)  # both coordinates near 3, though one is a thousand times flatter
```
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import optax

from attractor.comparison import Entry, compare
from attractor.engine import run
from attractor.papers import Evidence, claim
from attractor.problems.digits import digits_mlp
from attractor.problems.quadratics import diagonal_quadratic, rotated_quadratic
from attractor.second_order.curvature import hutchinson_diagonal, hvp, rademacher_like
from attractor.second_order.diagonal import adahessian
from attractor.stats import mean, paired_difference

SLUG = "adahessian"
STEPS = 500
UNSMOOTHED = {"no smoothing of the curvature": {"adahessian": functools.partial(adahessian, b2=0.0)}}

_network = functools.cache(digits_mlp)  # one object, so that its programs are compiled once


def _without_probe(matvec, x, key, probes=1):
    """The product with the probe is not multiplied by the probe again."""
    estimates = jax.vmap(lambda k: matvec(rademacher_like(k, x)))(jr.split(key, probes))
    return estimates.mean(0)


def _gaussian(matvec, x, key, probes=1):
    """Normal probes: unbiased too, but a diagonal operator is no longer read off exactly."""
    z = jr.normal(key, (probes, *x.shape))
    return (z * jax.vmap(matvec)(z)).mean(0)


def _relative_error(estimate, problem, probes, key):
    x = problem.init(key)
    truth = jnp.diag(jax.hessian(lambda x: problem.loss(x, None))(x))
    found = estimate(hvp(lambda x: problem.loss(x, None), x), x, key, probes)
    return jnp.linalg.norm(found - truth) / jnp.linalg.norm(truth)


@claim(
    SLUG,
    "2,000 probes give the diagonal of a dense 50-dimensional Hessian to within 5 % (Euclidean norm)",
    broken={"product not multiplied by the probe": {"estimate": _without_probe}},
)
def estimates_the_diagonal(estimate=hutchinson_diagonal, *, scale):
    problem, keys = rotated_quadratic(50, condition=1e4), jr.split(jr.key(0), 16 if scale == "quick" else 256)
    errors = jax.lax.map(lambda key: _relative_error(estimate, problem, 2_000, key), keys)
    return Evidence(mean(errors), at_most=0.05)


@claim(
    SLUG,
    "one probe gives the diagonal of a diagonal Hessian exactly (relative error at most 1e-6)",
    broken={"Gaussian probes": {"estimate": _gaussian}},
)
def reads_a_diagonal_hessian_exactly(estimate=hutchinson_diagonal, *, scale):
    return Evidence(float(_relative_error(estimate, diagonal_quadratic(50, 1e4), 1, jr.key(0))), at_most=1e-6)


@claim(
    SLUG,
    "reaches 1e-6 of the initial loss in at most half of tuned Adam's steps, diagonal quadratic, condition 1e4",
    broken={"no curvature": {"adahessian": functools.partial(adahessian, hessian_power=0.0)}},
    reason="Adam, tuned over 16 learning rates, needs only 123 steps here, AdaHessian 85 (medians)",
)
def halves_the_steps(adahessian=adahessian, *, scale):
    c = compare(
        diagonal_quadratic(50, condition=1e4), {"adahessian": adahessian, "adam": optax.adam},
        steps=2_000, seeds=8 if scale == "quick" else 64, budget=16, target=1e-6, every=5,
    )  # fmt: skip
    return Evidence(c.ratio("steps_to_target", "adahessian", "adam"), at_most=0.5, comparison=c)


@functools.cache
def _tuned(method, scale) -> Entry:
    """A method on the digits network: the same tuning budget for each, then fresh seeds, which all of them share."""
    problem, (seeds, budget) = _network(), (16, 8) if scale == "quick" else (64, 32)
    probes = {"test_accuracy": problem.probes["test_accuracy"]}
    c = compare(problem, {"it": method}, probes=probes, steps=STEPS, every=STEPS, seeds=seeds, budget=budget)
    return c["it"]


@claim(
    SLUG,
    "digits network, both tuned: test accuracy at most 0.3 points below Adam's",
    broken=UNSMOOTHED,
    reason="the mean is 0.07 points below Adam's, but 16 seeds on 360 test images do not exclude 0.31",
)
def is_as_accurate_as_adam(adahessian=adahessian, *, scale):
    ours, baseline = _tuned(adahessian, scale), _tuned(optax.adam, scale)
    return Evidence(paired_difference(ours.final, baseline.final), at_least=-0.003)


@claim(
    SLUG,
    "digits network: a learning rate up to 4 times too small or too large costs at most 2 points of test accuracy",
    broken=UNSMOOTHED,
    reason="a rate 4 times too large costs 1.5 points on average, and its bound over 8 seeds is 2.5",
)
def tolerates_the_learning_rate(adahessian=adahessian, *, scale):
    tuned, seeds = _tuned(adahessian, scale), 8 if scale == "quick" else 64
    rates = [factor * tuned.winner["learning_rate"] for factor in (1 / 4, 1 / 2, 2, 4)]
    trace = run(
        _network(), adahessian, steps=STEPS, every=STEPS, seeds=seeds, sweep={"learning_rate": rates},
        lanes=len(tuned.final), probes={"test_accuracy": _network().probes["test_accuracy"]},
    )  # fmt: skip
    drops = [mean(tuned.final[:seeds] - accuracy) for accuracy in trace.last("test_accuracy").values]
    note = ", ".join(f"rate {rate:.2g}: {drop}" for rate, drop in zip(rates, drops, strict=True))
    return Evidence(max(drops, key=lambda drop: drop.high), at_most=0.02, note=note)
