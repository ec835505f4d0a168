"""A game of bundle adjustment: a policy learns to choose the damping of Levenberg-Marquardt.

```python
from attractor import run
from attractor.problems import bundle_adjustment
from attractor.second_order import LearnedDamping

# Any function of (log damping / 4, gain, drop, accepted); `learned_rule` makes one of a trained policy.
twice_as_bold = LearnedDamping(lambda seen: -2.0 * seen[3])
print(run(bundle_adjustment(points=6), twice_as_bold, steps=10)["loss"])
```
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.engine import run
from attractor.papers.words import Evidence, cached, claim, first_step, key, paired_ratio, ratio_of_means, seeds, sizes
from attractor.problems.bundle_adjustment import random_scene, reprojection_residuals
from attractor.rl.online.trust_region import TRPO
from attractor.second_order import learned_damping as damping
from attractor.second_order.learned_damping import LearnedDamping, learned_rule, losses_of_many, tenfold_rule
from attractor.second_order.levenberg_marquardt import LevenbergMarquardt

LIMIT, CONSTANTS = 60, np.arange(-5.0, 1.0)  # who is not there by then counts as so many; logarithms
# Shares of the classic rule's change, of the policy's, and of the way to a constant.
CLASSIC, LEARNED, REVERSED, CONSTANT = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (2.0, -1.0, 0.0), (0.0, 0.0, 1.0)
_scene = cached(lambda: jax.jit(lambda k: random_scene(k, points=10))(key(3)))
BY_GLANCE = LearnedDamping(lambda seen: jnp.tanh(seen @ jnp.array([-0.3, 0.5, -0.2, -1.0])))  # looks at everything


@claim("parameters in units of 1 to 1,000, residuals in units of 50: each of 20 losses is the same to a relative 1e-6",
       source="ours", broken={"damping in the parameters' units": {"method": LevenbergMarquardt()}})  # fmt: skip
def needs_no_units(method=BY_GLANCE):
    with jax.enable_x64(True):
        measured, start = _scene()
        units = jnp.stack([jnp.ones_like(start), jnp.geomspace(1.0, 1e3, len(start))])
        in_units = lambda x, scene: scene[1] * reprojection_residuals(x / scene[0], measured)  # noqa: E731
        solve = jax.jit(lambda *scenes: losses_of_many(method, in_units, scenes, units * start, 20))
        ours, theirs = solve(units, jnp.array([1.0, 50.0]))
        return Evidence(float(jnp.abs(theirs / (2_500 * ours) - 1).max()), at_most=1e-6)


_decision = functools.partial(damping.damping_environment, reprojection_residuals, horizon=LIMIT)
_blank = cached(lambda: _decision(jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 9)), jnp.zeros(1)))  # for its policy


def _mixed(actor, shares, log_damping, seen):
    changes = tenfold_rule(seen), learned_rule(_blank(), actor)(seen), damping.constant_rule(log_damping)(seen)
    return shares @ jnp.stack(changes)


@jax.jit
def _losses(measured, starts, *rule):
    return losses_of_many(LearnedDamping(eqx.Partial(_mixed, *rule)), reprojection_residuals, measured, starts, LIMIT)


@cached
def _actor(learned, scale):
    if not learned:  # as it was before; else on scenes of its own
        return jax.tree.map(np.asarray, eqx.filter_jit(_blank().init)(key(0))[0])  # no weak types, as below
    learner = TRPO(gamma=1.0, lam=0.95, delta=0.05, eps=0.3, environments=32, steps=16)
    how = sizes(scale, steps=(25, 1_000), every=(25, 1_000), seeds=seeds(1))
    how |= {"probes": {"log_std": lambda problem, x, key: x[0].log_std[0]}}  # the return would take episodes
    actor, _ = run(_decision(*_scenes(0, scale)), learner, **how).final
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0, 0], actor)


@functools.partial(jax.jit, static_argnames=("points", "count"))
def _drawn(key, points, count):
    """Of cameras close together and noisy views; and where these really are."""
    each = jax.vmap(lambda k, error: random_scene(k, 3, points, 1e-2, error, 0.1), (0, None))
    measured, starts = jax.vmap(each, (None, 0))(jr.split(key, count), jnp.array([0.5, 0.0]))
    return measured[0], *starts


@cached
def _scenes(stream, scale):
    measured, starts, truths = _drawn(key(stream), **sizes(scale, points=(8, 20), count=(40, 500)))
    ends = _losses(measured, truths, _actor(False, scale), jnp.array(CLASSIC), jnp.array(0.0))[:, -1]
    return measured, starts, 1.01 * ends  # the least loss, from the truth


@cached
def _iterations(shares, scale, learned=False, log_damping=0.0, stream=1):
    with jax.enable_x64(True):
        measured, starts, targets = _scenes(stream, scale)
        losses = _losses(measured, starts, _actor(learned, scale), jnp.array(shares), jnp.array(log_damping))
        return np.minimum(first_step(losses, targets), LIMIT)


def _constants(scale):  # on scenes to choose from
    return np.stack([_iterations(CONSTANT, scale, log_damping=c, stream=2) for c in CONSTANTS.tolist()])


@claim("unseen scenes: learned damping is within 1 % of the least loss in at most 0.8 of the classic rule's iterations",
       source="ours",
       reason="0.68 [0.56, 0.83] times, and 0.95 and 1.3 where rounding alone differed: so short a training is fragile",
       broken={"policy as it was before learning": {"learned": False}, "reversed": {"shares": REVERSED}})  # fmt: skip
def saves_iterations(learned=True, shares=LEARNED, *, scale):
    ours, classic = _iterations(shares, scale, learned), _iterations(CLASSIC, scale)
    room = paired_ratio(_constants(scale).min(0), _iterations(CLASSIC, scale, stream=2))
    given = {"the classic rule arrives on most scenes": (classic < LIMIT).mean() > 0.5}
    given |= {"a constant chosen for every scene takes 0.8 or less": room.value <= 0.8}
    note = f"medians {np.median(ours):g} and {np.median(classic):g}; {room.value:.2f} with a constant for every scene"
    return Evidence(paired_ratio(ours, classic), at_most=0.8, given=given, note=note)


@claim("unseen scenes: learned damping needs at most the mean iterations of the best of 6 constants, chosen on others",
       source="scaled", broken={"what was learned, reversed": {"shares": REVERSED}},
       reason="0.99 [0.75, 1.34] times; 0.75 where rounding alone differed")  # fmt: skip
def beats_constant_damping(shares=LEARNED, *, scale):
    best = float(CONSTANTS[_constants(scale).mean(1).argmin()])
    ours, constant = _iterations(shares, scale, True), _iterations(CONSTANT, scale, log_damping=best)
    given = {f"10^{best:g} arrives on most scenes": (constant < LIMIT).mean() > 0.5}
    return Evidence(ratio_of_means(ours, constant), at_most=1.0, given=given)
