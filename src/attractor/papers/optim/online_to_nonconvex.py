"""Online-to-nonconvex conversion: an online learner of displacements is an optimal nonsmooth nonconvex optimizer.

```python
import optax
from attractor import run
from attractor.optim import convert_online_learner
from attractor.problems import kinked_maximum

optimizer = convert_online_learner(optax.sgd(1e-3), radius=0.02)  # any optax method can be the learner
print(run(kinked_maximum(), optimizer, steps=500, seeds=4)["loss"].values[0, :, ::20])
```
"""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.optim.online import OnlineToNonconvexState, convert_online_learner
from attractor.optim.stationarity import averaged_gradients
from attractor.papers.words import Evidence, cached, claim, key, log_slope, mean, seed, seeds, sizes
from attractor.problems.kinks import kinked_maximum

DELTA, SLOPE, GAP = 0.1, 4.0, 1.0  # radius of stationarity; size assumed of a noisy gradient, of the loss at the start


def _end_of_segment(learner, radius):
    """Gradients at the end of each segment, not at a random point of it."""
    plain = convert_online_learner(learner, radius)

    def update(updates, state, params=None, **extra):
        moved, after = plain.update(updates, state, params, **extra)
        displacement, fraction, learner = cast(OnlineToNonconvexState, after)
        return moved + (1 - fraction) * displacement, OnlineToNonconvexState(displacement, jnp.ones([]), learner)

    return optax.GradientTransformationExtraArgs(plain.init, update)


@claim("maximum of 20 kinked functions: the mean slope at random points of a segment is the progress along it, to 1e-3",
       source="ours", broken={"gradient at the end of the segment": {"convert": _end_of_segment}})  # fmt: skip
def random_points_measure_the_progress(convert=convert_online_learner, *, scale):
    draws, radius, loss = sizes(scale, draws=(500_000, 10_000_000))["draws"], 0.5, kinked_maximum(seed=seed()).loss
    optimizer = convert(optax.sgd(1.0), radius)

    def error(pair):
        x, direction = pair
        displacement = radius * direction / jnp.linalg.norm(direction)
        state = optimizer.init(x)

        def slope(draw):
            moved, _ = optimizer.update(-displacement, state, x, key=draw)
            return jax.jvp(lambda x: loss(x, None), (x + moved,), (displacement,))[1]

        slopes = jax.lax.map(slope, jr.split(key(1), draws), batch_size=20_000)
        return jnp.abs(slopes.mean() - (loss(x + displacement, None) - loss(x, None)))

    return Evidence(float(jax.lax.map(error, jr.normal(key(), (4, 2, 10))).max()), at_most=1e-3)


def _restarted(rate, length):
    """Online gradient descent that is back at zero every so many steps, which bounds its regret on each stretch."""

    def update(gradient, count, displacement=None):
        restarts = (count + 1) % length == 0
        moved = jax.tree.map(lambda g, d: jnp.where(restarts, -d, -rate * g), gradient, displacement)
        return moved, count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros([], int), update)  # pyright: ignore[reportArgumentType]


@eqx.filter_jit
def _blocks(rate, radius, blocks, length, problems, draws):
    """Per seed, its own loss and slope at the start, and what is measured per block."""

    def lane(problem, draw):
        def loss(x):
            return problem.loss(x, None)

        start, optimizer = problem.init(draw), convert_online_learner(_restarted(rate, length), radius)
        found = averaged_gradients(loss, optimizer, start, draw, blocks, length, noise=1.0)
        return loss(start), jnp.linalg.norm(jax.grad(loss)(start)), found

    return eqx.filter_vmap(lane, in_axes=(eqx.if_array(0), 0))(problems, draws)


@cached
def _measure(factors, budget):
    """Per seed the norm of blocks' mean gradients; the bound; the slopes over what is assumed; a block's reach."""
    length = round((SLOPE * budget * DELTA / GAP) ** (2 / 3))
    radius, blocks, draws = DELTA / length, budget // length, seeds(16)
    each = [kinked_maximum(seed=draw) for draw in draws]
    problems = jax.tree.map(lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *each)
    rate, reach = jnp.array([radius / (SLOPE * length**0.5), radius]) * jnp.array(factors)
    measured = _blocks(rate, reach, blocks, length, problems, jr.split(key(), len(draws)))
    gaps, slopes, (averages, reaches, squares) = jax.tree.map(np.asarray, measured)
    # The gap (to 0, below all values) over the distance that can be traveled, the learner's regret, and the noise of a
    # block's mean: the theorem's terms with its constants, for a learner that starts each block at zero.
    bound = gaps.mean() / (radius * blocks * length) + (SLOPE + 10**0.5) / length**0.5
    return averages.mean(1), bound, slopes.mean() / bound, squares.mean() / SLOPE**2, float(reaches.max())


def _budgets(scale):
    return (5_000, 25_000, 125_000) if scale == "quick" else (10_000, 100_000, 1_000_000)


THEORY = (1.0, 1.0)  # times its rate, and its radius
CLIMBS = {"learner climbs": {"factors": (-1.0, 1.0), "last": 2}}


@claim("20 kinked functions, noise 1: a block's mean gradient keeps the theorem's bound after 5,000 to 125,000 steps",
       source="paper", broken=CLIMBS)  # fmt: skip
def keeps_the_bound(factors=THEORY, last=3, *, scale):
    """Gap / (D N) + (G + noise) / sqrt(T), for D = delta / T and the T that balances them. Of the squared noisy
    gradients the regret's bound needs their mean alone; noise 1 on each of 10 coordinates is 10^0.5 long."""
    found = {n: _measure(factors, n) for n in _budgets(scale)[:last]}
    *_, (_, _, still, _, _) = found.values()
    given = {"the slope at the start is above the last bound": still > 1}
    if factors == THEORY:
        given["noisy gradients are as short as assumed"] = max(f[3] for f in found.values()) <= 1
    return Evidence.of_cases({f"{n} steps": mean(f[0] / f[1]) for n, f in found.items()}, at_most=1.0, given=given)


@claim("20 kinked functions, noise 1: a block's mean gradient falls as steps^-0.25 or faster (theory: -1/3)",
       source="ours", broken=CLIMBS, reason="16 losses and 125,000 steps do not decide it; "
       "it is steeper from 25,000 steps on than before")  # fmt: skip
def averaged_gradients_vanish(factors=THEORY, last=3, *, scale):
    budgets = _budgets(scale)[:last]
    norms = np.stack([_measure(factors, n)[0] for n in budgets])
    note = ", ".join(f"{n}: {m:.3f}" for n, m in zip(budgets, norms.mean(1), strict=True))
    return Evidence(log_slope(budgets, norms.T), at_most=-0.25, note=note)


@claim("20 kinked functions: every point of a block is within 0.1, the radius of stationarity, of the block's mean",
       source="paper", broken={"displacement not projected": {"factors": (1.0, 1e9)}})  # fmt: skip
def blocks_stay_within_reach(factors=THEORY, *, scale):
    return Evidence.of_cases({f"{n} steps": _measure(factors, n)[4] for n in _budgets(scale)[:2]}, at_most=DELTA)
