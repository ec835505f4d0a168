import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import minimize

import attractor
from attractor import problems
from attractor.decision import Categorical, Decision, Gaussian
from attractor.rl import TRPO, trust_region_value_fit

RNG = np.random.default_rng(0)
STATES, TARGETS, START = RNG.standard_normal((30, 4)), RNG.standard_normal(30), RNG.standard_normal(4)


@pytest.mark.parametrize("eps", [0.02, 0.3, 5.0])  # on the boundary, on it, and with the optimum inside
def test_value_fit_of_a_linear_critic_solves_the_constrained_problem(eps):
    before = STATES @ START
    variance = np.mean((before - TARGETS) ** 2)
    reference = minimize(
        lambda w: np.mean((STATES @ w - TARGETS) ** 2), START, method="SLSQP", options={"ftol": 1e-15},
        constraints={"type": "ineq", "fun": lambda w: eps - np.mean((STATES @ w - before) ** 2) / (2 * variance)},
    )  # fmt: skip
    with jax.enable_x64(True):
        states, targets = jnp.asarray(STATES), jnp.asarray(TARGETS)
        fitted = trust_region_value_fit(lambda w: states @ w, jnp.asarray(START), targets, eps, damping=0.0)
    np.testing.assert_allclose(fitted, reference.x, atol=1e-5)


def test_value_fit_keeps_a_nonlinear_critic_inside_and_improves_it():
    states, targets = jnp.asarray(STATES), 3 * jnp.asarray(TARGETS)
    critic = {"w": jr.normal(jr.key(0), (4, 8)), "v": jr.normal(jr.key(1), (8,))}

    def predict(critic):
        return jnp.tanh(states @ critic["w"]) @ critic["v"]

    error = jnp.mean((predict(critic) - targets) ** 2)
    fitted = trust_region_value_fit(predict, critic, targets, 0.05)
    assert jnp.mean((predict(fitted) - predict(critic)) ** 2) / (2 * error) <= 0.05
    assert jnp.mean((predict(fitted) - targets) ** 2) < 0.95 * error


def test_value_fit_stays_where_it_is_when_there_is_nothing_to_learn():
    critic = jnp.ones(4)
    states = jnp.asarray(STATES)
    np.testing.assert_array_equal(trust_region_value_fit(lambda w: states @ w, critic, states @ critic), critic)


@pytest.mark.parametrize(
    "bad",
    [
        {"gamma": 1.5}, {"lam": -0.1}, {"delta": 0.0}, {"eps": -1.0}, {"damping": -1.0}, {"environments": 0},
        {"steps": 0}, {"cg_steps": 0},
    ],
)  # fmt: skip
def test_trpo_refuses_bad_hyperparameters(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TRPO(**bad)


def bandit(continuous):
    """A step an episode: action 1 of three pays, or an action near 2."""

    def step(state, action, key):
        reward = -((action[0] - 2.0) ** 2) if continuous else jnp.where(action == 1, 1.0, 0.0)
        return state, reward, jnp.asarray(True)

    policy = (lambda w, o: Gaussian(w, jnp.zeros(1))) if continuous else (lambda w, o: Categorical(w))
    start = (jnp.zeros(1 if continuous else 3), jnp.zeros(()))
    return Decision(
        reset=lambda key: jnp.zeros(1), step=step, observe=lambda s: s, policy=policy, value=lambda v, o: v,
        init=start, horizon=5,
    )  # fmt: skip


@pytest.mark.parametrize("continuous", [False, True])
def test_trpo_learns_a_bandit_for_every_lam_and_seed(continuous):
    trace = attractor.run(
        bandit(continuous), TRPO, steps=40, seeds=2, progress=False,
        sweep={"lam": [0.0, 0.9], "delta": [0.05], "environments": [64], "steps": [1]},
    )  # fmt: skip
    actor, _ = trace.final
    if continuous:
        np.testing.assert_allclose(actor[..., 0], 2.0, atol=0.3)
    else:
        assert (jax.nn.softmax(actor)[..., 1] > 0.9).all()
    assert (trace["return"][:, :, -1] > trace["return"][:, :, 0]).all()


def test_trpo_step_stays_within_the_divergence():
    problem, method, delta = problems.cartpole(), TRPO(environments=4, steps=16), 0.01
    x = problem.init(jr.key(0))
    (actor, critic), state = method.step(problem, x, method.init(problem, x, jr.key(1)), jr.key(2))
    _, seen = jax.vmap(lambda e, k: problem.rollout(x[0], e, k, 16))(
        method.init(problem, x, jr.key(1)), jr.split(jr.key(2), 4)
    )
    observations = seen.observation.reshape(-1, 4)
    old, new = (jax.vmap(lambda o, a=a: problem.policy(a, o))(observations) for a in (x[0], actor))
    divergence = jax.vmap(lambda p, q: p.divergence(q))(old, new).mean()
    assert 0.1 * delta < divergence <= delta * 1.001
    assert jax.tree.structure(critic) == jax.tree.structure(x[1])
    assert state.elapsed.shape == (4,)


def test_trpo_needs_a_decision_problem():
    with pytest.raises(TypeError, match="Decision"):
        attractor.run(problems.rotated_quadratic(), TRPO(), steps=1)
