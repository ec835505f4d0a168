import equinox as eqx
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


def test_a_trpo_step_by_hand_stays_within_the_divergence():
    """A Gaussian policy and a critic that are linear: natural gradient, line search and value fit in closed form."""
    gamma, lam, delta, eps = 0.9, 0.7, 0.02, 0.05
    with jax.enable_x64(True):
        problem, method = Decision.example(jnp.float64), TRPO(gamma, lam, delta, eps, environments=4, steps=16)

        def step(state, action, key):  # ends often, for good
            moved, reward, _ = Decision.example(jnp.float64).step(state, action, key)
            return moved, reward, jnp.abs(moved).max() > 0.9

        problem = eqx.tree_at(lambda d: d.step, problem, step)
        x, start = problem.init(jr.key(0)), method.init(problem, problem.init(jr.key(0)), jr.key(1))
        (actor, critic), state = method.step(problem, x, start, jr.key(2))
        _, seen = jax.vmap(lambda e, k: problem.rollout(x[0], e, k, 16))(start, jr.split(jr.key(2), 4))
    assert jax.tree.structure(critic) == jax.tree.structure(x[1])
    assert state.elapsed.shape == (4,)
    seen = jax.tree.map(np.asarray, seen)
    assert seen.terminated.any()
    assert seen.truncated.any()

    def features(observation):
        return np.concatenate([observation, np.ones((*observation.shape[:-1], 1))], -1)

    def advantages(lam):
        found, later = np.zeros((4, 17)), features(seen.next_observation) @ phi
        for t in reversed(range(16)):
            residual = seen.reward[:, t] + gamma * ~seen.terminated[:, t] * later[:, t] - now[:, t]
            going = ~(seen.terminated[:, t] | seen.truncated[:, t])
            found[:, t] = residual + gamma * lam * going * found[:, t + 1]
        return found[:, :16]

    phi, theta = np.append(x[1]["w"], x[1]["b"]), np.append(np.append(x[0]["w"], x[0]["b"]), x[0]["log_std"])
    inputs, now = features(seen.observation), features(seen.observation) @ phi
    flat, target = inputs.reshape(-1, 3), (now + advantages(1.0)).ravel()
    # The critic: on the way to the least squares, as far as the trust region reaches.
    variance = np.mean((now.ravel() - target) ** 2)
    way = np.linalg.lstsq(flat, target)[0] - phi
    reach = np.sqrt(eps * 2 * variance / np.mean((flat @ way) ** 2))
    assert reach < 1
    np.testing.assert_allclose(np.append(critic["w"], critic["b"]), phi + reach * way, rtol=1e-6)

    # The actor: its Fisher matrix is that of a normal distribution whose mean is linear.
    gains, actions = advantages(lam).ravel(), seen.action.reshape(-1)

    def errors(theta):
        return (actions - flat @ theta[:3]) / np.exp(theta[3])

    def surrogate(theta):
        ratio = np.exp((errors(old) ** 2 - errors(theta) ** 2) / 2 + old[3] - theta[3])
        return np.mean(ratio * gains)

    def divergence(theta):
        ratio, apart = np.exp(2 * (old[3] - theta[3])), flat @ (theta - old)[:3] / np.exp(theta[3])
        return np.mean(ratio + apart**2 - 1 - np.log(ratio)) / 2

    old, z = theta, errors(theta)
    gradient = np.append(gains * z @ flat / np.exp(theta[3]), gains @ (z**2 - 1)) / len(gains)
    fisher = np.zeros((4, 4))
    fisher[:3, :3], fisher[3, 3] = flat.T @ flat / len(flat) / np.exp(2 * theta[3]), 2
    natural = np.linalg.solve(fisher, gradient)
    natural *= np.sqrt(2 * delta / (natural @ fisher @ natural))
    while surrogate(old + natural) <= surrogate(old) or divergence(old + natural) > delta:
        natural /= 2
    found = np.append(np.append(actor["w"], actor["b"]), actor["log_std"])
    np.testing.assert_allclose(found, old + natural, rtol=1e-6)
    assert 0.1 * delta < divergence(found) <= delta * 1.001


def test_trpo_needs_a_decision_problem():
    with pytest.raises(TypeError, match="Decision"):
        attractor.run(problems.rotated_quadratic(), TRPO(), steps=1)
