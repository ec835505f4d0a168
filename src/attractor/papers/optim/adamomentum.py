"""AdaMomentum: Adam whose denominator follows the momentum instead of the raw gradient.

```python
import jax
import jax.numpy as jnp
import optax
from attractor.optim import adamomentum

optimizer = adamomentum(optax.cosine_decay_schedule(0.1, 300))
w = jnp.zeros(3)
state = optimizer.init(w)

@jax.jit
def step(w, state):
    updates, state = optimizer.update(jax.grad(lambda w: jnp.sum((w - 3.0) ** 2))(w), state, w)
    return optax.apply_updates(w, updates), state

for _ in range(300):
    w, state = step(w, state)
print(w)  # near 3, 3, 3
```
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.objectives import Composite
from attractor.optim.adaptive import adamomentum, scale_by_adamomentum
from attractor.papers.words import (
    Evidence,
    cached,
    claim,
    first_step,
    key,
    paired_difference,
    paired_ratio,
    probes,
    run,
    seed,
    seeds,
    sizes,
    tune,
)
from attractor.problem import Minimization
from attractor.problems.digits import cross_entropy_of, digits, digits_mlp
from attractor.registry import LEARNING_RATE

WAIT, STEPS = 200, 3_000  # a run stays where it starts until the moments have settled


def _without_root(learning_rate):
    """The momentum divided by its mean square: the root is forgotten."""
    scaled = scale_by_adamomentum()

    def update(updates: Any, state: Any, params: Any = None):
        _, state = scaled.update(updates, state)
        means = (optax.tree.bias_correction(m, b, state.steps) for m, b in ((state.mu, 0.9), (state.nu, 0.999)))
        return jax.tree.map(lambda m, v: m / (v + 1e-8), *means), state

    return optax.chain(optax.GradientTransformation(scaled.init, update), optax.scale_by_learning_rate(learning_rate))


@claim(
    "white-noise gradients: Adam's denominator is sqrt((1 + b1) / (1 - b1)) = 4.36 times this one, within 10 %",
    source="ours",
    broken={"second moment of the gradient, as in Adam": {"scale_by": optax.scale_by_adam}},
)
def divides_noise_by_less(scale_by=scale_by_adamomentum, *, scale):
    noise = jax.random.normal(key(), (5_000 if scale == "quick" else 50_000, 1_000))

    def second_moment(transformation):
        state = transformation.init(noise[0])
        state, _ = jax.lax.scan(lambda s, g: (transformation.update(g, s)[1], None), state, noise)
        return jnp.mean(state.nu)

    ratio = float(jnp.sqrt(second_moment(optax.scale_by_adam()) / second_moment(scale_by())))
    return Evidence(abs(ratio / np.sqrt(1.9 / 0.1) - 1), at_most=0.1, note=f"ratio {ratio:.3f}")


def _double_well(x, noise):
    """Minima near -1 (shallow) and 1 (deep), a barrier of 0.15 between them, gradients with noise of size 1."""
    return 0.25 * (x**2 - 1) ** 2 - 0.08 * x + jnp.mean(noise) * x


@cached
def _escape(method, scale):
    """Steps until a run has left the shallow minimum, by seed; all of them if it never does."""
    rate = optax.join_schedules([optax.constant_schedule(0.0), optax.constant_schedule(0.1)], [WAIT])
    problem = Minimization(_double_well, jnp.asarray(-1.0), jax.random.normal(key(), (10_000,)), batch_size=1)
    trace = run(
        problem, method(rate), steps=STEPS, every=1, seeds=seeds(**sizes(scale, n=(64, 1_000))),
        probes={"x": lambda problem, x, key: x},
    )  # fmt: skip
    return np.minimum(first_step(trace["x"].values[0], 0.5, rising=True), STEPS) - WAIT


@claim(
    "a noisy double well, equal learning rates: leaves the shallow minimum in at most 0.9 of Adam's steps",
    source="ours",
    broken={"second moment of the gradient, as in Adam": {"adamomentum": optax.adam}},
)
def leaves_shallow_minima_sooner(adamomentum=adamomentum, *, scale):
    ours, baseline = _escape(adamomentum, scale), _escape(optax.adam, scale)
    note = f"{np.median(ours):.0f} steps against {np.median(baseline):.0f}"
    given = {"most runs of Adam leave it": bool(np.median(baseline) < STEPS - WAIT)}
    return Evidence(paired_ratio(ours, baseline), at_most=0.9, given=given, note=note)


@cached
def _mislabeled():
    """The digits network, a fifth of whose training labels are replaced by random ones."""
    (images, labels), _ = digits()
    rng = np.random.default_rng(seed())
    labels = np.where(rng.random(len(labels)) < 0.2, rng.integers(0, 10, len(labels)), labels).astype(np.int32)
    problem = Composite.of_model(
        lambda key: eqx.nn.MLP(64, 10, 32, 1, key=key), cross_entropy_of, (images, labels), batch_size=64
    )
    held_out = probes(digits_mlp(width=32), "test_accuracy", "validation_accuracy")
    return eqx.tree_at(lambda p: p.probes, problem, held_out)


def _accuracy(method, scale):
    size = sizes(scale, seeds=(16, 64), budget=(8, 32), steps=500, every=500)
    return tune(_mislabeled(), (method, {"learning_rate": LEARNING_RATE}), metric="test_accuracy", **size).final


@claim(
    "digits network with a fifth of the labels random, both tuned: test accuracy at most 0.2 points below Adam's",
    source="ours",
    broken={"the root is forgotten": {"adamomentum": _without_root}},
    reason="16 seeds on 180 images do not decide it: 0.6 points below Adam, between 1.3 below and 0.03 above",
)
def is_as_accurate_as_adam(adamomentum=adamomentum, *, scale):
    ours, baseline = _accuracy(adamomentum, scale), _accuracy(optax.adam, scale)
    note = f"{100 * ours.mean():.2f} % against {100 * baseline.mean():.2f} %"
    return Evidence(paired_difference(ours, baseline), at_least=-0.002, note=note)
