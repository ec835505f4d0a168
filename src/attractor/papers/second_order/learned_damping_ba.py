"""A game of bundle adjustment: a policy learns to choose the damping of Levenberg-Marquardt.

```python
import jax
import jax.random as jr
from attractor import run
from attractor.problems.bundle_adjustment import bundle_adjustment, random_scene, reprojection_residuals
from attractor.rl import TRPO
from attractor.second_order import LearnedDamping, damping_environment, learned_rule

scenes, starts = jax.vmap(lambda key: random_scene(key, points=6))(jr.split(jr.key(0), 50))
decision = damping_environment(reprojection_residuals, scenes, starts, targets=jax.numpy.full(50, 1e-3), horizon=10)
trained = run(decision, TRPO(gamma=1.0, environments=8, steps=8), steps=5)
actor = jax.tree.map(lambda leaf: leaf[0, 0], trained.final[0])
method = LearnedDamping(learned_rule(decision, actor))  # for other scenes, and other problems
print(run(bundle_adjustment(), method, steps=10, every=1)["loss"].values[0, 0])
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.objectives import Composite
from attractor.papers.words import (
    Evidence,
    cached,
    claim,
    first_step,
    key,
    paired_ratio,
    ratio_of_means,
    run,
    seeds,
    sizes,
)
from attractor.problems.bundle_adjustment import random_scene, reprojection_residuals
from attractor.rl.online.trust_region import TRPO
from attractor.second_order.learned_damping import (
    LearnedDamping,
    constant_rule,
    damping_environment,
    learned_rule,
    tenfold_rule,
)
from attractor.second_order.levenberg_marquardt import LevenbergMarquardt

LIMIT = 60  # iterations; who is not there by then counts as 60
CONSTANTS = np.arange(-5.0, 0.5, 0.5)


@cached
def _scenes(stream, count, points):
    """Measurements, starts, and 1.01 times the least loss there is (found from the truth on)."""
    keys = jr.split(key(stream), count)
    measured, starts = jax.vmap(lambda k: random_scene(k, points=points))(keys)
    truths = jax.vmap(lambda k: random_scene(k, points=points, error=0.0)[1])(keys)
    return measured, starts, 1.01 * _losses(tenfold_rule, measured, truths, 20)[:, -1]


@eqx.filter_jit
def _losses(rule, measured, starts, steps):
    """After each iteration on every scene: ``(scenes, steps + 1)``."""
    method = LearnedDamping(rule)

    def solve(scene, x):
        problem = Composite.least_squares(lambda z: reprojection_residuals(z, scene), x)

        def step(carry, key):
            carry = method.step(problem, *carry, key)
            return carry, carry[1].value

        state = method.init(problem, x, jr.key(0))
        return jnp.append(state.value, jax.lax.scan(step, (x, state), jr.split(jr.key(0), steps))[1])

    return jax.vmap(solve)(measured, starts)


def _glance(observation):
    """Some rule that looks at everything."""
    return jnp.tanh(observation @ jnp.array([-0.3, 0.5, -0.2, -1.0]))


BY_GLANCE = LearnedDamping(_glance)


@claim(
    "parameters in units of 1 to 1,000, residuals in units of 50: each of 20 losses is the same to a relative 1e-6",
    source="ours",
    broken={"damping in the parameters' units": {"method": LevenbergMarquardt()}},
)
def needs_no_units(method=BY_GLANCE):
    with jax.enable_x64(True):
        measured, start = random_scene(key(3), points=10)
        units = jnp.geomspace(1.0, 1e3, len(start))
        problems = (
            Composite.least_squares(lambda x: reprojection_residuals(x, measured), start),
            Composite.least_squares(lambda x: 50 * reprojection_residuals(x / units, measured), units * start),
        )
        ours, theirs = (run(problem, method, steps=20, every=1)["loss"].values[0, 0] for problem in problems)
    return Evidence(float(np.abs(theirs / (2_500 * ours) - 1).max()), at_most=1e-6)


def _sizes(scale):
    """Points per scene, scenes to learn from and to be tested on, iterations of learning."""
    return sizes(scale, points=(10, 20), trained=(200, 2_000), tested=(50, 500), steps=(25, 1_000))


def _iterations(rule, scale, stream=1):
    """To within 1 % of the least loss, on scenes that nobody has seen."""
    size = _sizes(scale)
    measured, starts, targets = _scenes(stream, size["tested"], size["points"])
    return np.minimum(first_step(_losses(rule, measured, starts, LIMIT), targets), LIMIT)


@cached
def _decision(scale):
    size = _sizes(scale)
    measured, starts, targets = _scenes(0, size["trained"], size["points"])
    return damping_environment(reprojection_residuals, measured, starts, jnp.asarray(targets))


@cached
def _actor(learned, scale):
    decision, steps = _decision(scale), _sizes(scale)["steps"]
    if not learned:
        return decision.init(key(0))[0]
    learner = TRPO(gamma=1.0, lam=0.95, delta=0.05, eps=0.3, environments=32, steps=16)
    trace = run(decision, learner, steps=steps, every=steps, seeds=seeds(1))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[0, 0], trace.final[0])


def _reversed(rule, observation):
    """What learning adds to the classic rule is taken from it."""
    return 2 * tenfold_rule(observation) - rule(observation)


@cached
def _learned(learned, reverse, scale):
    with jax.enable_x64(True):
        rule = learned_rule(_decision(scale), _actor(learned, scale))
        return _iterations(eqx.Partial(_reversed, rule) if reverse else rule, scale)


@cached
def _classic(scale):
    with jax.enable_x64(True):
        return _iterations(tenfold_rule, scale)


@cached
def _constant(scale):
    """With the constant that is best on other scenes; its common logarithm, too."""
    with jax.enable_x64(True):
        means = [_iterations(constant_rule(jnp.asarray(c)), scale, stream=2).mean() for c in CONSTANTS]
        best = CONSTANTS[int(np.argmin(means))]
        return _iterations(constant_rule(jnp.asarray(best)), scale), best


def _met(iterations):
    """The baseline comes within 1 % on most scenes."""
    return {"the baseline arrives on most scenes": bool((iterations < LIMIT).mean() > 0.5)}


@claim(
    "unseen scenes: learned damping is within 1 % of the least loss in at most 0.8 of the classic rule's iterations",
    source="ours",
    broken={"policy as it was before learning": {"learned": False}},
    reason="most scenes take 7 iterations, as many as undamped steps need: little is left to save",
)
def saves_iterations(learned=True, *, scale):
    ours, classic = _learned(learned, False, scale), _classic(scale)
    note = f"medians {np.median(ours):g} and {np.median(classic):g}, means {ours.mean():.1f} and {classic.mean():.1f}"
    return Evidence(paired_ratio(ours, classic), at_most=0.8, given=_met(classic), note=note)


@claim(
    "unseen scenes: learned damping needs at most the mean iterations of the best of 11 constants, chosen on others",
    source="scaled",
    broken={"what was learned, reversed": {"reverse": True}},
    reason="50 scenes do not decide it: 0.92 [0.83, 1.02]; a few that take 40 or more weigh most in the mean",
)
def beats_constant_damping(reverse=False, *, scale):
    ours, (constant, best) = _learned(True, reverse, scale), _constant(scale)
    note = f"best: 10^{best:g}; means {ours.mean():.1f} and {constant.mean():.1f}"
    return Evidence(ratio_of_means(ours, constant), at_most=1.0, given=_met(constant), note=note)
