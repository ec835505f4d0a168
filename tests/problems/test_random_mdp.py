"""A random decision process: its exact quantities against sums over time, finite differences and frequencies."""

import numpy as np
import pytest

from attractor.problems.random_mdp import random_mdp

MDP = random_mdp(3, states=4, actions=3, gamma=0.8)


def test_values_are_sums_over_time():
    visits = MDP.visits(200)
    np.testing.assert_allclose(visits.sum(2), 1.0)
    discounted = np.einsum("t,tpq,q->p", 0.8 ** np.arange(201), visits, MDP.reward.ravel()).reshape(4, 3)
    np.testing.assert_allclose((MDP.policy * discounted).sum(1), MDP.value, atol=1e-10)
    np.testing.assert_allclose(discounted - MDP.value[:, None], MDP.advantage, atol=1e-10)
    np.testing.assert_allclose((MDP.policy * MDP.advantage).sum(1), 0.0, atol=1e-12)


def test_gradient_is_that_of_the_expected_advantage():
    advantage, logits = np.random.default_rng(0).standard_normal((4, 3)), np.log(MDP.policy)

    def expected(logits):
        policy = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return (policy * advantage).sum(1).mean()

    for s, a in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[s, a] = 1e-5
        slope = (expected(logits + step) - expected(logits - step)) / 2e-5
        assert MDP.gradient(advantage)[s, a] == pytest.approx(slope, abs=1e-8)


def test_rollouts_have_the_right_frequencies():
    count = 40_000
    states, actions = MDP.rollouts(count, 2, seed=1)
    assert states.shape == (3, count)
    assert actions.shape == (2, count)
    pairs = states[:2] * 3 + actions
    second = np.bincount(pairs[1], minlength=12) / count
    expected = (MDP.policy.ravel() / 4) @ MDP.visits(1)[1]
    np.testing.assert_allclose(second, expected, atol=0.01)
    last = np.bincount(states[2][pairs[1] == 5], minlength=4) / (pairs[1] == 5).sum()
    np.testing.assert_allclose(last, MDP.transition[1, 2], atol=0.03)
    averaged = (MDP.advantage[states[0], actions[0]][:, None, None] * MDP.score(states[0], actions[0])).mean(0)
    np.testing.assert_allclose(averaged, MDP.gradient(MDP.advantage), atol=0.01)


@pytest.mark.parametrize(("argument", "value"), [("states", 1), ("actions", 1), ("gamma", 1.0), ("gamma", -0.1)])
def test_refuses(argument, value):
    with pytest.raises(ValueError, match=argument):
        random_mdp(0, **{argument: value})
