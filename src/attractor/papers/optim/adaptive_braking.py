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

import jax.numpy as jnp
import numpy as np
import optax

from attractor.optim.delay import adaptive_braking, delay_gradients
from attractor.papers.words import Evidence, cached, claim, mean, paired_difference, probes, run, seeds, sizes
from attractor.problem import Minimization
from attractor.problems.digits import digits_mlp

DELAY = 32
_network = cached(digits_mlp)  # one object, so that its programs are compiled once
BROKEN = {"pushes": {"rho": -2.0}, "plain momentum": {"rho": 0.0}}


def _late_braking(learning_rate, rho):
    return optax.chain(delay_gradients(DELAY), adaptive_braking(learning_rate, rho=rho))


def _late_momentum(learning_rate):
    return optax.chain(delay_gradients(DELAY), optax.sgd(learning_rate, momentum=0.9))


def _momentum(learning_rate):
    return optax.sgd(learning_rate, momentum=0.9)


@cached
def _largest_stable_rate(method, **settings):
    """The largest of 41 rates up to which the loss never exceeds 100 times its start in 5,000 steps."""
    curvature = jnp.logspace(-2, 0, 50)
    problem = Minimization(lambda x: 0.5 * jnp.sum(curvature * x**2), jnp.ones(50))
    rates = np.geomspace(1e-3, 0.1, 41)
    sweep = {"learning_rate": rates.tolist()} | {name: [value] for name, value in settings.items()}
    loss = run(problem, method, sweep=sweep, steps=5_000, every=50)["loss"].values[:, 0]
    stable = np.nan_to_num(loss, nan=np.inf).max(1) <= 100 * loss[:, 0]
    return rates[np.argmin(stable) - 1] if not stable.all() else rates[-1]


@claim(
    "quadratic of condition 100, gradients 32 steps late: braking allows at least twice the learning rate of momentum",
    source="ours",
    broken=BROKEN,
    deterministic=True,
)
def allows_larger_steps(rho=2.0):
    ours, momentum = _largest_stable_rate(_late_braking, rho=rho), _largest_stable_rate(_late_momentum)
    return Evidence(ours / momentum, at_least=2.0, note=f"{ours:.4f} against {momentum:.4f}")


@cached
def _accuracy(method, scale, **settings):
    """By seed, at a learning rate with which momentum on time reaches 96 %."""
    problem = _network()
    return run(
        problem, method, sweep=[{"learning_rate": 0.01} | settings], steps=1_000, every=1_000,
        seeds=seeds(**sizes(scale, n=(8, 50))), probes=probes(problem, "test_accuracy"),
    ).last("test_accuracy").values[0]  # fmt: skip


@claim(
    "digits network, rate 0.01, gradients 32 steps late: at most 1.5 points less accurate than momentum without delay",
    source="ours",
    broken=BROKEN,
    reason="13 points below: 32 steps are long for a run of 1,000; late momentum at its own best rate, 0.001, loses 11",
)
def hides_the_delay(rho=2.0, *, scale):
    ours, on_time = _accuracy(_late_braking, scale, rho=rho), _accuracy(_momentum, scale)
    note = f"{100 * mean(ours).value:.1f} %, momentum on time {100 * mean(on_time).value:.1f} %"
    given = {"momentum on time learns": bool(on_time.min() > 0.9)}
    return Evidence(paired_difference(ours, on_time), at_least=-0.015, given=given, note=note)


@claim(
    "digits network, rate 0.01, gradients 32 steps late: test accuracy at least that of momentum",
    source="scaled",
    broken={"pushes": BROKEN["pushes"]},
)
def outdoes_late_momentum(rho=2.0, *, scale):
    ours, late = _accuracy(_late_braking, scale, rho=rho), _accuracy(_late_momentum, scale)
    return Evidence(paired_difference(ours, late), at_least=0.0)
