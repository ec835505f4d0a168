from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy.stats import norm

from attractor.decision import Decision, Episode
from attractor.rl import PPO, Experience, clipped_losses, experience

GAMMA, LAM = 0.9, 0.8


def episodes(problem, n):
    return jax.vmap(problem.start)(jr.split(jr.key(1), n))


def test_experience_is_what_one_gets_by_hand():
    with jax.enable_x64(True):
        problem: Any = Decision.example(jnp.float64)
        actor, critic = x = problem.init(jr.key(0))
        start = episodes(problem, 3)
        going, seen = jax.jit(lambda x, s: experience(problem, x, s, jr.key(2), 7, GAMMA, LAM))(x, start)
        by_hand = [problem.rollout(actor, Episode(*(a[i] for a in start)), k, 7) for i, k in
                   enumerate(jr.split(jr.key(2), 3))]  # fmt: skip
        np.testing.assert_allclose(going.state, [e.state for e, _ in by_hand], rtol=1e-12)
        gains = np.zeros((7, 3))
        value = lambda o: np.asarray(o) @ critic["w"] + critic["b"]  # noqa: E731
        for i, (_, t) in enumerate(by_hand):
            later = 0.0
            for s in reversed(range(7)):
                more = 0.0 if t.terminated[s] else GAMMA * value(t.next_observation[s])
                ended = bool(t.terminated[s] | t.truncated[s])
                later = t.reward[s] + more - value(t.observation[s]) + (0.0 if ended else GAMMA * LAM * later)
                gains[s, i] = later
        np.testing.assert_allclose(seen.advantage, ((gains - gains.mean()) / gains.std()).ravel(), rtol=1e-9)
        seen_by = np.stack([t.observation for _, t in by_hand], 1)
        np.testing.assert_allclose(seen.observation, seen_by.reshape(21, 2), rtol=1e-12)
        np.testing.assert_allclose(seen.returns, (gains + value(seen_by)).ravel(), rtol=1e-9)
        means = np.asarray(seen.observation) @ actor["w"][0] + actor["b"]
        logs = norm.logpdf(np.asarray(seen.action)[:, 0], means, np.exp(actor["log_std"]))
        np.testing.assert_allclose(seen.log_prob, logs, rtol=1e-9)


def test_losses_are_the_formulas():
    with jax.enable_x64(True):
        problem: Any = Decision.example(jnp.float64)
        rng = np.random.default_rng(0)
        actor, critic = problem.init(jr.key(0))
        o, a, gain, returns = (rng.standard_normal(s) for s in ((50, 2), (50, 1), 50, 50))
        logs = norm.logpdf(a[:, 0], o @ actor["w"][0] + actor["b"], np.exp(actor["log_std"]))
        ratio = np.exp(rng.uniform(-0.8, 0.8, 50))
        seen = Experience(*map(jnp.asarray, (o, a, logs - np.log(ratio), gain, returns)))
        policy, value = clipped_losses(problem, seen, 0.3)
        expected = -np.mean([min(r * g, min(max(r, 0.7), 1.3) * g) for r, g in zip(ratio, gain, strict=True)])
        np.testing.assert_allclose(policy(actor), expected, rtol=1e-10)
        np.testing.assert_allclose(value(critic), np.mean((o @ critic["w"] + critic["b"] - returns) ** 2), rtol=1e-10)


def test_a_step_is_adam_through_every_minibatch():
    with jax.enable_x64(True):
        problem: Any = Decision.example(jnp.float64)
        method = PPO(0.03, 0.15, GAMMA, LAM, environments=3, steps=4, epochs=2, minibatches=3)
        x = problem.init(jr.key(0))
        state = method.init(problem, x, jr.key(1))
        expected: Any = x
        adam, step = optax.adam(0.03), jax.jit(lambda x, state, key: method.step(problem, x, state, key))
        for i in (2, 3):  # a second one goes on with the first one's episodes and moments
            rollout, order = jr.split(jr.key(i))
            _, seen = experience(problem, expected, state.episodes, rollout, 4, GAMMA, LAM)
            moments = state.optimizer
            for key in jr.split(order, 2):
                for rows in jr.permutation(key, 12).reshape(3, 4):
                    losses = clipped_losses(problem, Experience(*(a[rows] for a in seen)), 0.15)
                    gradients = tuple(jax.grad(f)(p) for f, p in zip(losses, expected, strict=True))
                    updates, moments = adam.update(gradients, moments)
                    expected = optax.apply_updates(expected, updates)
            x, state = step(x, state, jr.key(i))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), x, expected)
            assert not np.allclose(x[0]["w"], problem.init(jr.key(0))[0]["w"], atol=1e-2)


@pytest.mark.parametrize(
    "bad",
    [
        {"learning_rate": -1.0}, {"clip": 0.0}, {"gamma": 1.5}, {"lam": -0.1}, {"environments": 0}, {"steps": 0},
        {"epochs": 0}, {"minibatches": 0},
    ],
)  # fmt: skip
def test_ppo_refuses_bad_hyperparameters(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        PPO(**bad)


def test_minibatches_divide_the_steps():
    problem: Any = Decision.example()
    method = PPO(environments=2, steps=5, minibatches=3)
    x = problem.init(jr.key(0))
    with pytest.raises(ValueError, match="minibatches: expected a divisor"):
        method.step(problem, x, method.init(problem, x, jr.key(1)), jr.key(2))
    with pytest.raises(ValueError, match="steps"):
        experience(problem, x, episodes(problem, 2), jr.key(2), 0)
