"""The classic rule is Levenberg-Marquardt; the environment takes the method's steps."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import Composite, run
from attractor.problems import bundle_adjustment, random_scene, reprojection_residuals
from attractor.second_order import (
    LearnedDamping,
    LevenbergMarquardt,
    constant_rule,
    damping_environment,
    learned_rule,
    losses_of_many,
    tenfold_rule,
)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_the_classic_rule_is_levenberg_marquardt():
    problem = bundle_adjustment(points=5, error=1.0)
    # The first iteration does not know how a step went; after it, both divide and multiply by ten.
    ours = run(problem, LearnedDamping(tenfold_rule), steps=10, every=1)["loss"].values
    theirs = run(problem, LevenbergMarquardt(diagonal=True), steps=10, every=1)["loss"].values
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert (np.diff(ours) == 0).any(), "no step was refused: the test sees half of the rule only"


def test_a_constant_rule_returns_to_its_damping():
    rule = constant_rule(-2.0)
    for log_damping in (-3.0, 1.0):
        assert float(rule(jnp.array([log_damping / 4, 0.0, 0.0, 1.0]))) + log_damping == pytest.approx(-2.0)


def test_the_environment_takes_the_methods_steps():
    keys = jr.split(jr.key(0), 3)
    scenes, starts = jax.vmap(lambda key: random_scene(key, points=5))(keys)
    decision = damping_environment(reprojection_residuals, scenes, starts, jnp.full(3, 1e-4), horizon=7)
    actor = decision.init(jr.key(1))[0]
    rule = learned_rule(decision, actor)
    state = decision.reset(jr.key(2))
    assert float(decision.observe(state)[0]) == -0.75
    problem = bundle_adjustment(points=5)
    method = LearnedDamping(rule)
    problem = type(problem).least_squares(lambda x: reprojection_residuals(x, state.instance), state.x)
    losses = run(problem, method, steps=7, every=1)["loss"].values[0, 0]
    for expected in losses[1:]:
        action = rule(decision.observe(state))[None]
        state, reward, done = decision.step(state, action, jr.key(0))
        np.testing.assert_allclose(state.damping.value, expected, rtol=1e-9)
        assert reward == -1
        assert bool(done) == (expected <= 1e-4)


def test_many_instances_are_solved_as_each_alone():
    scenes, starts = jax.vmap(lambda key: random_scene(key, points=4, noise=1e-2, arc=0.2))(jr.split(jr.key(3), 2))
    losses = losses_of_many(LearnedDamping(tenfold_rule), reprojection_residuals, scenes, starts, 6)
    for scene, start, found in zip(scenes, starts, losses, strict=True):
        problem = Composite.least_squares(lambda x, scene=scene: reprojection_residuals(x, scene), start)
        expected = run(problem, LearnedDamping(tenfold_rule), steps=6, every=1)["loss"].values[0, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-8)
    with pytest.raises(ValueError, match="steps"):
        losses_of_many(LearnedDamping(), reprojection_residuals, scenes, starts, 0)


def test_errors():
    with pytest.raises(ValueError, match="log_damping"):
        LearnedDamping(log_damping=9.0)
    with pytest.raises(ValueError, match="horizon"):
        damping_environment(reprojection_residuals, None, jnp.zeros((1, 2)), jnp.zeros(1), horizon=0)
    with pytest.raises(ValueError, match="width"):
        damping_environment(reprojection_residuals, None, jnp.zeros((1, 2)), jnp.zeros(1), width=0)
