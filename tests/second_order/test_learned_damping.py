"""The classic rule is Levenberg-Marquardt; the environment takes the method's steps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from keys import uses_no_key_twice

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
from attractor.second_order.learned_damping import damped_iteration, first_state


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(("solve", "tolerance"), [("svd", 1e-12), ("cholesky", 1e-6)])
def test_the_classic_rule_is_levenberg_marquardt(solve, tolerance):
    problem = bundle_adjustment(points=5, error=1.0)
    # The first iteration does not know how a step went; after it, both divide and multiply by ten.
    ours = run(problem, LearnedDamping(tenfold_rule, solve=solve), steps=10, every=1)["loss"].values
    theirs = run(problem, LevenbergMarquardt(diagonal=True), steps=10, every=1)["loss"].values
    np.testing.assert_allclose(ours, theirs, rtol=tolerance)
    assert (np.diff(ours) == 0).any(), "no step was refused: the test sees half of the rule only"


def test_iterations_by_hand():
    """All that a rule may look at, after steps that are accepted and refused, with every change its own."""
    rng = np.random.default_rng(1)
    rows, shift = rng.standard_normal((5, 3)), rng.standard_normal(5)

    def residuals(x, np=np):
        return rows @ x + np.sin(3 * rows @ x) - shift

    x = 2 * rng.standard_normal(3)
    value, log_damping, seen = residuals(x) @ residuals(x) / 2, -1.5, []
    state, at = first_state(jnp.asarray(value), log_damping), jnp.asarray(x)
    for change in (-0.5, -1.0, 0.7, 1.1, -0.3):
        j = rows * (1 + 3 * np.cos(3 * rows @ x))[:, None]
        gradient, hessian = j.T @ residuals(x), j.T @ j
        log_damping += change
        step = -np.linalg.solve(hessian + 10**log_damping * np.diag(np.diag(hessian)), gradient)
        new = residuals(x + step) @ residuals(x + step) / 2
        gain = (value - new) / -(gradient @ step + step @ hessian @ step / 2)
        at, state = damped_iteration(
            at, jnp.asarray(j), jnp.asarray(gradient), lambda x: jnp.sum(residuals(x, jnp) ** 2) / 2, state,
            jnp.asarray(change),
        )  # fmt: skip
        drop, accepted = (np.log10(value / new), 1) if new < value else (0, -1)
        x, value = (x + step, new) if new < value else (x, value)
        np.testing.assert_allclose(at, x, rtol=1e-8)
        np.testing.assert_allclose(state, [value, log_damping, np.clip(gain, -1, 2), drop, accepted], rtol=1e-8)
        np.testing.assert_allclose(state.observation[0], log_damping / 4)
        seen.append((accepted, -1 < gain < 2))
    assert {(1, True), (-1, True)} <= set(seen)


def test_a_policy_corrects_the_classic_rule():
    decision = damping_environment(reprojection_residuals, None, jnp.zeros((1, 2)), jnp.zeros(1))
    actor, observed = decision.init(jr.key(3))[0], jnp.array([-0.4, 0.3, 0.5, 1.0])
    into, out = actor.correction.layers
    expected = -1.0 + out.weight @ jnp.tanh(into.weight @ observed + into.bias) + out.bias
    np.testing.assert_allclose(learned_rule(decision, actor)(observed), expected[0], rtol=1e-6)
    np.testing.assert_allclose(actor.log_std, [-0.7], rtol=1e-6)
    uses_no_key_twice(jax.make_jaxpr(decision.init)(jr.key(0)).jaxpr)


def test_a_constant_rule_returns_to_its_damping():
    rule = constant_rule(-2.0)
    for log_damping in (-3.0, 1.0):
        assert float(rule(jnp.array([log_damping / 4, 0.0, 0.0, 1.0]))) + log_damping == pytest.approx(-2.0)


def test_the_environment_takes_the_methods_steps():
    keys = jr.split(jr.key(0), 3)
    scenes, starts = jax.jit(jax.vmap(lambda key: random_scene(key, points=5)))(keys)
    decision = damping_environment(reprojection_residuals, scenes, starts, jnp.full(3, 1e-4), horizon=7)
    actor = decision.init(jr.key(1))[0]
    rule = learned_rule(decision, actor)
    state = decision.reset(jr.key(2))
    assert float(decision.observe(state)[0]) == -0.75
    problem = bundle_adjustment(points=5)
    method = LearnedDamping(rule)
    problem = type(problem).least_squares(lambda x: reprojection_residuals(x, state.instance), state.x)
    losses = run(problem, method, steps=7, every=1)["loss"].values[0, 0]
    act = eqx.filter_jit(lambda state: decision.step(state, rule(decision.observe(state))[None], jr.key(0)))
    for expected in losses[1:]:
        state, reward, done = act(state)
        np.testing.assert_allclose(state.damping.value, expected, rtol=1e-9)
        assert reward == -1
        assert bool(done) == (expected <= 1e-4)


def residuals_of(scene, x, batch=None):
    return reprojection_residuals(x, scene)


def test_many_instances_are_solved_as_each_alone():
    draw = jax.vmap(lambda key: random_scene(key, points=4, noise=1e-2, arc=0.2))
    scenes, starts = jax.jit(draw)(jr.split(jr.key(3), 2))
    losses = losses_of_many(LearnedDamping(tenfold_rule), reprojection_residuals, scenes, starts, 6)
    method = LearnedDamping(tenfold_rule)
    for scene, start, found in zip(scenes, starts, losses, strict=True):
        # The scene is an array of the problem, so that both share one program.
        problem = Composite.least_squares(eqx.Partial(residuals_of, scene), start)
        expected = run(problem, method, steps=6, every=1)["loss"].values[0, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-8)
    with pytest.raises(ValueError, match="steps"):
        losses_of_many(LearnedDamping(), reprojection_residuals, scenes, starts, 0)


def test_errors():
    with pytest.raises(ValueError, match="log_damping"):
        LearnedDamping(log_damping=9.0)
    with pytest.raises(ValueError, match="solve"):
        LearnedDamping(solve="qr")
    with pytest.raises(ValueError, match="horizon"):
        damping_environment(reprojection_residuals, None, jnp.zeros((1, 2)), jnp.zeros(1), horizon=0)
    with pytest.raises(ValueError, match="width"):
        damping_environment(reprojection_residuals, None, jnp.zeros((1, 2)), jnp.zeros(1), width=0)
