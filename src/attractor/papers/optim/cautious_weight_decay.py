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

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.comparison import compare
from attractor.engine import run
from attractor.optim.weight_decay import add_cautious_decayed_weights
from attractor.papers import Evidence, claim
from attractor.problem import Minimization, norm
from attractor.problems.digits import digits_mlp
from attractor.registry import LogUniform
from attractor.stats import mean

SLUG = "cautious-weight-decay"


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


def _size(problem, x, key):
    return norm(x)


@claim(
    SLUG,
    "quadratic with minimizer away from 0, decay 0.1, cosine schedule: momentum SGD and AdamW end with a gradient norm "
    "of at most 1e-4",
    broken=ORDINARY,
)
def keeps_the_minimizer(decay=add_cautious_decayed_weights, *, scale):
    rng, dim, steps = np.random.default_rng(0), 20, 10_000 if scale == "quick" else 100_000
    basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    matrix = jnp.asarray(basis * np.geomspace(0.1, 1.0, dim) @ basis.T, dtype=float)
    solution = jnp.asarray(rng.standard_normal(dim), dtype=float)
    problem = Minimization(lambda x: (x - solution) @ matrix @ (x - solution) / 2, init=jnp.zeros(dim))
    ends = {
        name: float(run(problem, _with_cosine(direction, decay(0.1), rate, steps), steps=steps, every=steps,
                        probes={"gradient": _gradient_norm}).last("gradient").max())
        for name, (direction, rate) in DIRECTIONS.items()
    }  # fmt: skip
    note = ", ".join(f"{name}: {end:.1e}" for name, end in ends.items())
    return Evidence(max(ends.values()), at_most=1e-4, note=note)


@claim(
    SLUG,
    "overparametrized regression: loss at most 1e-6, at a solution at least 1 % smaller than without decay",
    broken=ORDINARY | {"no decay": {"decay": _none}},
)
def finds_smaller_solutions(decay=add_cautious_decayed_weights, *, scale):
    rng, steps = np.random.default_rng(0), 3_000 if scale == "quick" else 30_000
    rows = jnp.asarray(rng.standard_normal((20, 60)), dtype=float)
    targets = rows @ jnp.asarray(rng.standard_normal(60), dtype=float)
    problem = Minimization(
        lambda x: jnp.mean((rows @ x - targets) ** 2), init=lambda key: jax.random.normal(key, (60,))
    )
    ratios = {}
    for name, (direction, rate) in DIRECTIONS.items():
        with_decay, without = (
            run(problem, _with_cosine(direction, d, rate, steps), steps=steps, every=steps, seeds=8,
                probes=problem.probes | {"size": _size})
            for d in (decay(0.1), optax.identity())
        )  # fmt: skip
        solved = with_decay.last("loss").values[0] <= 1e-6
        size = np.where(solved, with_decay.last("size").values[0], np.inf)
        ratios[name] = mean(size / without.last("size").values[0])
    note = ", ".join(f"{name}: {ratio}" for name, ratio in ratios.items())
    return Evidence(max(ratios.values(), key=lambda ratio: ratio.high), at_most=0.99, note=note)


@claim(
    SLUG,
    "digits network, AdamW's decay made cautious, both tuned, cosine schedule: test loss not above ordinary decay's",
    broken={"no decay": {"decay": _none}, "inverted mask": {"decay": _opposed}},
    reason="each tuning settles on another learning rate, and at equal settings the small difference has either sign",
)
def improves_adamw(decay=add_cautious_decayed_weights, *, scale):
    steps = 500

    def adamw(decay, learning_rate, weight_decay):
        return _with_cosine(optax.scale_by_adam(), decay(weight_decay), learning_rate, steps)

    space = {"learning_rate": LogUniform(3e-4, 3e-2), "weight_decay": LogUniform(1e-2, 1.0)}
    methods = {
        "cautious": (functools.partial(adamw, decay), space),
        "ordinary": (functools.partial(adamw, optax.add_decayed_weights), space),
    }
    problem = digits_mlp()
    c = compare(
        problem, methods, probes={"test_loss": problem.probes["test_loss"]}, steps=steps, every=steps,
        budget=16, seeds=16 if scale == "quick" else 64,
    )  # fmt: skip
    return Evidence(c.difference("cautious", "ordinary"), at_most=0.0, comparison=c)
