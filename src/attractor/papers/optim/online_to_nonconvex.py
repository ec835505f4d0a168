"""Online-to-nonconvex conversion: an online learner of displacements is an optimal nonsmooth nonconvex optimizer.

```python
import jax
import jax.numpy as jnp
import optax
from attractor.optim import convert_online_learner

optimizer = convert_online_learner(optax.sgd(1e-3), radius=0.02)  # any optax method can be the learner
w = jnp.zeros(2)
state = optimizer.init(w)

@jax.jit
def step(w, state, key):
    gradient = jax.grad(lambda w: jnp.sum(jnp.abs(w - 3.0)))(w)
    updates, state = optimizer.update(gradient, state, w, key=key)
    return optax.apply_updates(w, updates), state

for key in jax.random.split(jax.random.key(0), 500):
    w, state = step(w, state, key)
print(w)  # near 3, 3
```
"""

from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.optim.online import OnlineToNonconvexState, convert_online_learner, online_to_nonconvex
from attractor.papers.words import Evidence, cached, claim, key, log_slope, mean, seed, seeds, sizes

DIM, DELTA = 10, 0.1  # number of variables, radius of stationarity
SLOPE, GAP = 4.0, 1.0  # size of a noisy gradient, and of the loss at the start


@cached
def _waves():
    """20 random kinked functions: |sin| of a projection in one half, a ReLU of one in the other."""
    rng = np.random.default_rng(seed())
    rows = rng.standard_normal((20, DIM)) / np.sqrt(DIM)
    return rows.astype(np.float32), rng.uniform(-1, 1, 20).astype(np.float32)


def _loss(x):
    rows, shifts = _waves()
    t = rows @ x + shifts
    return jnp.max(jnp.concatenate([jnp.abs(jnp.sin(3 * t[:10])), jax.nn.relu(t[10:])]))


def _end_of_segment(learner, radius):
    """Gradients at the end of each segment, not at a random point of it."""
    plain = convert_online_learner(learner, radius)

    def update(updates, state, params=None, **extra):
        moved, after = plain.update(updates, state, params, **extra)
        displacement, fraction, learner = cast(OnlineToNonconvexState, after)
        return moved + (1 - fraction) * displacement, OnlineToNonconvexState(displacement, jnp.ones([]), learner)

    return optax.GradientTransformationExtraArgs(plain.init, update)


@claim(
    "maximum of 20 kinked functions: the mean slope at random points of a segment is the progress along it, to 1e-3",
    source="ours",
    broken={"gradient at the end of the segment": {"convert": _end_of_segment}},
)
def random_points_measure_the_progress(convert=convert_online_learner, *, scale):
    draws, radius = sizes(scale, draws=(500_000, 10_000_000))["draws"], 0.5
    optimizer = convert(optax.sgd(1.0), radius)

    def error(pair):
        x, direction = pair
        displacement = radius * direction / jnp.linalg.norm(direction)
        state = optimizer.init(x)

        def slope(draw):
            moved, _ = optimizer.update(-displacement, state, x, key=draw)
            return jax.jvp(_loss, (x + moved,), (displacement,))[1]

        slopes = jax.lax.map(slope, jr.split(key(1), draws), batch_size=20_000)
        return jnp.abs(slopes.mean() - (_loss(x + displacement) - _loss(x)))

    errors = jax.lax.map(error, jr.normal(key(), (4, 2, DIM)))
    return Evidence(float(errors.max()), at_most=1e-3)


@partial(jax.jit, static_argnums=(2, 3))
def _blocks(rate, radius, blocks, length, draws):
    """Per seed, the loss at the start, and the noisy gradients' mean square; per block, its mean gradient's norm, and
    the largest distance from its mean point."""
    optimizer = online_to_nonconvex(rate, radius)

    def step(carry, draw):
        w, state = carry
        gradient = jax.grad(_loss)(w)
        noisy = gradient + jr.normal(jr.fold_in(draw, 2), (DIM,))
        updates, state = optimizer.update(noisy, state, w, key=draw)
        return (w + updates, state), (w, gradient, jnp.sum(noisy**2))

    def block(carry, draw):
        carry, (points, gradients, squares) = jax.lax.scan(step, carry, jr.split(draw, length))
        spread = jnp.linalg.norm(points - points.mean(0), axis=1).max()
        return carry, (squares.mean(), jnp.linalg.norm(gradients.mean(0)), spread)

    def lane(draw):
        start = jr.normal(jr.fold_in(draw, 1), (DIM,))
        return _loss(start), *jax.lax.scan(block, (start, optimizer.init(start)), jr.split(draw, blocks))[1]

    return jax.vmap(lane)(draws)


@cached
def _measure(settings, budget):
    """Per seed, the norm of blocks' mean gradients, as it is and over the theorem's bound; squared slope; reach."""
    length = round((SLOPE * budget * DELTA / GAP) ** (2 / 3))
    radius, blocks = DELTA / length, budget // length
    draws = jr.split(key(), len(seeds(16)))
    made = _blocks(*settings(radius / (SLOPE * length**0.5), radius), blocks, length, draws)
    gaps, squares, norms, spreads = map(np.asarray, made)
    # The gap over the distance that can be traveled, the learner's regret, and the noise of a block's mean.
    bound = gaps.mean() / (radius * blocks * length) + (SLOPE + DIM**0.5) / length**0.5
    return norms.mean(1), norms.mean(1) / bound, squares.mean(), float(spreads.max())


def _budgets(scale):
    return (5_000, 25_000, 125_000) if scale == "quick" else (10_000, 100_000, 1_000_000)


def _theory(rate, radius):
    return rate, radius


CLIMBS = {"learner climbs": {"settings": lambda rate, radius: (-rate, radius)}}


@claim(
    "20 kinked functions, noise 1: a block's mean gradient keeps the theorem's bound after 5,000 to 125,000 steps",
    source="paper",
    broken={**CLIMBS, "rate D / (G T)": {"settings": lambda rate, radius: (rate * (radius / DELTA) ** 0.5, radius)}},
)
def keeps_the_bound(settings=_theory, *, scale):
    """Gap / (D N) + (G + noise) / sqrt(T), for D = delta / T and the T that balances them."""
    found = {n: _measure(settings, n) for n in _budgets(scale)}
    still = _measure(lambda rate, radius: (rate, 1e-9), _budgets(scale)[-1])[1]
    given = {"a point that does not move breaks it": still.mean() > 1}
    if settings is _theory:
        given["noisy gradients are as short as assumed"] = max(f[2] for f in found.values()) <= SLOPE**2
    return Evidence.of_cases({f"{n} steps": mean(f[1]) for n, f in found.items()}, at_most=1.0, given=given)


@claim(
    "20 kinked functions, noise 1: a block's mean gradient falls as steps^-0.25 or faster (theory: -1/3)",
    source="ours",
    broken=CLIMBS,
)
def averaged_gradients_vanish(settings=_theory, *, scale):
    norms = np.stack([_measure(settings, n)[0] for n in _budgets(scale)])
    note = ", ".join(f"{n}: {m:.3f}" for n, m in zip(_budgets(scale), norms.mean(1), strict=True))
    return Evidence(log_slope(_budgets(scale), norms.T), at_most=-0.25, note=note)


@claim(
    "20 kinked functions: every point of a block is within 0.1, the radius of stationarity, of the block's mean",
    source="paper",
    broken={"displacement not projected": {"settings": lambda rate, radius: (rate, 1e6)}},
)
def blocks_stay_within_reach(settings=_theory, *, scale):
    return Evidence.of_cases({f"{n} steps": _measure(settings, n)[3] for n in _budgets(scale)[:2]}, at_most=DELTA)
