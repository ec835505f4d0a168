"""Cautious weight decay: decay only the weights that the update shrinks anyway.

```python
import jax
import jax.numpy as jnp
import optax
from attractor.optim import add_cautious_decayed_weights

optimizer = optax.chain(  # AdamW, with one line changed; attractor.optim.cautious_adamw is the same in one piece
    optax.scale_by_adam(),
    add_cautious_decayed_weights(0.1),
    optax.scale_by_learning_rate(optax.cosine_decay_schedule(0.05, 500)),
)
w = jnp.zeros(3)
state = optimizer.init(w)

@jax.jit
def step(w, state):
    updates, state = optimizer.update(jax.grad(lambda w: jnp.sum((w - 3.0) ** 2))(w), state, w)
    return optax.apply_updates(w, updates), state

for _ in range(500):
    w, state = step(w, state)
print(w)  # 3, 3, 3: the minimizer of the loss itself, not of a loss with a penalty
```
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.optim.weight_decay import add_cautious_decayed_weights
from attractor.papers.words import (
    Evidence,
    cached,
    claim,
    mean,
    paired_difference,
    probes,
    run,
    seed,
    seeds,
    sizes,
    tune,
)
from attractor.problem import Minimization
from attractor.problems.digits import digits_mlp
from attractor.registry import LogUniform
from attractor.trees import norm


def _opposed(weight_decay):
    """The mask inverted: decay where the update grows the weight."""
    cautious, ordinary = add_cautious_decayed_weights(weight_decay), optax.add_decayed_weights(weight_decay)

    def update(u, x):
        with_ordinary, _ = ordinary.update(u, ordinary.init(x), x)
        with_cautious, _ = cautious.update(u, cautious.init(x), x)
        return jax.tree.map(lambda u, a, b: u + a - b, u, with_ordinary, with_cautious)

    return optax.stateless(update)


def _none(weight_decay):
    """No decay at all."""
    return optax.identity()


ORDINARY = {"ordinary decay": {"decay": optax.add_decayed_weights}, "inverted mask": {"decay": _opposed}}
DIRECTIONS = {"momentum": (optax.trace(0.9), 0.1), "adam": (optax.scale_by_adam(), 0.01)}  # with learning rates


def _with_cosine(direction, decay, learning_rate, steps):
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    return optax.chain(direction, decay, optax.scale_by_learning_rate(schedule))


def _gradient_norm(problem, x, key):
    return norm(jax.grad(problem.loss)(x, problem.full))


@cached
def _quadratic():
    """A quadratic of condition 10 with its minimizer away from 0, where a run starts."""
    rng, dim = np.random.default_rng(seed()), 20
    basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    matrix = jnp.asarray(basis * np.geomspace(0.1, 1.0, dim) @ basis.T, dtype=float)
    solution = jnp.asarray(rng.standard_normal(dim), dtype=float)
    return Minimization(lambda x: (x - solution) @ matrix @ (x - solution) / 2, init=jnp.zeros(dim))


@claim(
    "quadratic, minimizer not 0, decay 0.1, cosine schedule: momentum SGD and AdamW end with a gradient norm <= 1e-4",
    source="ours",
    broken=ORDINARY,
)
def keeps_the_minimizer(decay=add_cautious_decayed_weights, *, scale):
    steps = 10_000 if scale == "quick" else 100_000

    def end(direction, rate):
        method = _with_cosine(direction, decay(0.1), rate, steps)
        trace = run(_quadratic(), method, steps=steps, every=steps, probes={"gradient": _gradient_norm})
        return float(trace.last("gradient").max())

    return Evidence.of_cases({name: end(*how) for name, how in DIRECTIONS.items()}, at_most=1e-4)


@cached
def _regression():
    rng = np.random.default_rng(seed())
    rows = jnp.asarray(rng.standard_normal((20, 60)), dtype=float)
    targets = rows @ jnp.asarray(rng.standard_normal(60), dtype=float)
    return Minimization(lambda x: jnp.mean((rows @ x - targets) ** 2), lambda key: jax.random.normal(key, (60,)))


@cached
def _solutions(decay, name, scale):
    """Loss and norm at the end, by seed."""
    (direction, rate), problem = DIRECTIONS[name], _regression()
    steps = 3_000 if scale == "quick" else 30_000
    measured = problem.probes | {"size": lambda problem, x, key: norm(x)}
    method = _with_cosine(direction, decay(0.1), rate, steps)
    trace = run(problem, method, steps=steps, every=steps, seeds=seeds(8), probes=measured)
    return trace.last("loss").values[0], trace.last("size").values[0]


@claim(
    "overparametrized regression: loss at most 1e-6, at a solution at least 1 % smaller than without decay",
    source="ours",
    broken=ORDINARY | {"no decay": {"decay": _none}},
)
def finds_smaller_solutions(decay=add_cautious_decayed_weights, *, scale):
    ratios, given = {}, {}
    for name in DIRECTIONS:
        (loss, size), (loss_without, size_without) = (_solutions(d, name, scale) for d in (decay, _none))
        ratios[name] = mean(np.where(loss <= 1e-6, size, np.inf) / size_without)
        given[f"{name} solves it without decay"] = bool((loss_without <= 1e-6).all())
    return Evidence.of_cases(ratios, at_most=0.99, given=given)


_network = cached(digits_mlp)  # one object, so that its programs are compiled once


@cached
def _test_loss(decay, scale):
    size = sizes(scale, seeds=(16, 64), budget=16, steps=500, every=500)

    def adamw(learning_rate, weight_decay):
        return _with_cosine(optax.scale_by_adam(), decay(weight_decay), learning_rate, size["steps"])

    space = {"learning_rate": LogUniform(3e-4, 3e-2), "weight_decay": LogUniform(1e-2, 1.0)}
    recorded = probes(_network(), "test_loss", "validation_loss")
    return tune(_network(), (adamw, space), metric="test_loss", probes=recorded, **size).final


@claim(
    "digits network, AdamW's decay made cautious, both tuned, cosine decay: test loss not above ordinary decay's",
    source="scaled",
    broken={"no decay": {"decay": _none}, "inverted mask": {"decay": _opposed}},
    reason="each tuning settles on another learning rate, and at equal settings the small difference has either sign",
)
def improves_adamw(decay=add_cautious_decayed_weights, *, scale):
    ours, baseline = _test_loss(decay, scale), _test_loss(optax.add_decayed_weights, scale)
    return Evidence(paired_difference(ours, baseline), at_most=0.0)
