"""Adaptive braking: momentum that stays stable when gradients arrive late.

```python
import optax
from attractor import run
from attractor.optim import adaptive_braking, delay_gradients
from attractor.problems import digits_mlp

late = optax.chain(delay_gradients(32), adaptive_braking(learning_rate=0.05))
print(run(digits_mlp(width=32), late, steps=300, every=300, seeds=2).last("test_accuracy").values)
```
"""

import functools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax

from attractor.optim.delay import adaptive_braking, delay_gradients
from attractor.papers import words
from attractor.papers.words import Evidence, cached, claim, first_step, paired_difference, probes, run, sizes
from attractor.problem import Minimization
from attractor.problems.digits import digits_mlp
from attractor.registry import LogUniform

DELAY, RHO, SPACE = 32, 2.0, {"learning_rate": LogUniform(3e-4, 0.1)}
PUSHES = {"pushes": {"rho": -RHO}}


def _late(learning_rate, rho, delay=DELAY):
    """Braking on late gradients; plain momentum for rho = 0."""
    return optax.chain(delay_gradients(delay), adaptive_braking(learning_rate, rho=rho))


RATES = np.geomspace(1e-3, 0.1, 41)


@cached
def _losses(rho):
    """Losses over the first one, ``(rates, records)``, on a quadratic of condition 100 for 5,000 steps."""
    curvature = jnp.logspace(-2, 0, 50)
    problem = Minimization(lambda x: 0.5 * jnp.sum(curvature * x**2), jnp.ones(50))
    sweep = {"learning_rate": RATES.tolist(), "rho": [rho]}
    loss = run(problem, _late, sweep=sweep, steps=5_000, every=50)["loss"].values[:, 0]
    return np.nan_to_num(loss / loss[:, :1], nan=np.inf)


def _largest_stable_rate(rho):
    """The largest of 41 rates up to which the loss never exceeds 100 times its start."""
    stable = _losses(rho).max(1) <= 100
    return RATES[np.argmin(stable) - 1] if not stable.all() else RATES[-1]


@claim(
    "quadratic of condition 100, gradients 32 steps late: braking allows at least twice the learning rate of momentum",
    source="ours", broken=PUSHES, deterministic=True)  # fmt: skip
def allows_larger_steps(rho=RHO):
    ours, momentum = _largest_stable_rate(rho), _largest_stable_rate(0.0)
    given = {"momentum is stable at some rate": bool((_losses(0.0)[0] <= 100).all())}
    return Evidence(ours / momentum, at_least=2.0, given=given, note=f"{ours:.4f} against {momentum:.4f}")


@claim("quadratic, 32 steps late, each at its best rate: gets to 1e-3 of the loss in at most 0.9 of momentum's steps",
       source="ours", broken=PUSHES, deterministic=True,
       reason="13 times the rate is spent on braking: slow directions agree with the velocity for long")  # fmt: skip
def accelerates(rho=RHO):
    ours, momentum = (first_step(_losses(r), 1e-3).min() * 50 for r in (rho, 0.0))
    given = {"momentum gets there": bool(np.isfinite(momentum))}
    return Evidence(ours / momentum, at_most=0.9, given=given, note=f"{ours:.0f} steps against {momentum:.0f}")


LONG, SHORT = (2_500, 30_000), 1_000
_network = cached(lambda: digits_mlp(width=16, batch_size=32))
_make = cached(lambda delay: functools.partial(_late, delay=delay))


def _accuracy(rho, delay, steps, scale):  # test accuracy by seed at the best of eight rates
    made = eqx.Partial(_make(delay), rho=jnp.asarray(rho)), SPACE  # one program for every rho
    size = sizes(scale, steps=steps, every=steps, seeds=(16, 64), budget=8)
    recorded = probes(_network(), "test_accuracy", "validation_accuracy")
    return words.tune(_network(), made, metric="test_accuracy", probes=recorded, **size).final


def _against_momentum(rho, delay, steps, at_least, scale):
    """Accuracy with late gradients, minus that of momentum with gradients so late."""
    ours, theirs = _accuracy(rho, DELAY, steps, scale), _accuracy(0.0, delay, steps, scale)
    note = f"{100 * ours.mean():.1f} % against {100 * theirs.mean():.1f} %"
    given = {"momentum learns": bool(theirs.mean() > 0.7)}
    return Evidence(paired_difference(ours, theirs), at_least=at_least, given=given, note=note)


@claim(
    "digits network, gradients 32 steps late, both tuned: at most 1.5 points less accurate than momentum without delay",
    source="ours", broken=PUSHES, reason="4 points below, in a run of 2,500 steps, of which 32 are many")  # fmt: skip
def hides_the_delay(rho=RHO, *, scale):
    return _against_momentum(rho, 0, LONG, -0.015, scale)


@claim("digits network, gradients 32 steps late, both tuned: test accuracy at least that of momentum",
       source="scaled", broken=PUSHES)  # fmt: skip
def outdoes_late_momentum(rho=RHO, *, scale):
    return _against_momentum(rho, DELAY, LONG, 0.0, scale)


@claim("digits network, 32 steps late, both tuned, only 1,000 steps: test accuracy at least that of momentum",
       source="ours", broken=PUSHES,
       reason="behind on average, by 4 points, and undecided: from 10 behind to 3 ahead")  # fmt: skip
def outdoes_late_momentum_in_a_short_run(rho=RHO, *, scale):
    return _against_momentum(rho, DELAY, SHORT, 0.0, scale)
