"""Mean-variance responses against every support in turn, and fictitious play against a loop."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.games import FictitiousPlay, mean_variance_response, reward_variance, risk_averse_game

RNG = np.random.default_rng(0)


def by_supports(payoffs, other, risk, smoothing):
    """On each support the optimum is a linear system; the best of those that are strategies."""
    draws = payoffs - (payoffs @ other)[:, None]
    curvature = 2 * risk * (draws * other) @ draws.T + smoothing * np.eye(len(payoffs))
    mean, best = payoffs @ other, (-np.inf, None)
    for size in range(1, len(payoffs) + 1):
        for support in map(list, itertools.combinations(range(len(payoffs)), size)):
            system = np.block([[curvature[np.ix_(support, support)], np.ones((size, 1))], [np.ones((1, size)), 0.0]])
            x = np.zeros(len(payoffs))
            x[support] = np.linalg.solve(system, np.append(mean[support], 1.0))[:-1]
            if (x >= -1e-12).all():
                best = max(best, (mean @ x - x @ curvature @ x / 2, x), key=lambda pair: pair[0])
    return best[1]


@pytest.mark.parametrize("risk", [0.0, 0.3, 2.0])
def test_responses_are_the_best_over_all_supports(risk):
    with jax.enable_x64(True):
        respond = jax.jit(lambda m, y: mean_variance_response(m, y, risk, 0.05, 400))
        for _ in range(8):
            payoffs, other = RNG.normal(size=(4, 3)), RNG.dirichlet(np.ones(3))
            np.testing.assert_allclose(respond(payoffs, other), by_supports(payoffs, other, risk, 0.05), atol=1e-7)


def test_variance_is_that_of_the_rewards():
    payoffs, own, other = RNG.normal(size=(4, 3)), RNG.dirichlet(np.ones(4)), RNG.dirichlet(np.ones(3))
    rewards = own @ payoffs
    expected = other @ rewards**2 - (other @ rewards) ** 2
    np.testing.assert_allclose(reward_variance(*map(jnp.asarray, (payoffs, own, other))), expected, rtol=1e-4)


def test_fictitious_play_is_the_average_of_all_responses():
    with jax.enable_x64(True):
        first, second = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 4))
        start = jnp.asarray([0.7, 0.1, 0.1, 0.1]), jnp.asarray([0.2, 0.2, 0.6])
        game = risk_averse_game(first, second, 0.8, 0.05, start)
        z, (x, y) = game.init(jr.key(0)), map(np.asarray, start)
        method = FictitiousPlay()
        state, step = method.init(game, z, jr.key(0)), jax.jit(lambda z, s: method.step(game, z, s, jr.key(0)))
        for k in range(6):
            z, state = step(z, state)
            other = by_supports(first, y, 0.8, 0.05), by_supports(second, x, 0.8, 0.05)
            x, y = (x * (k + 1) + other[0]) / (k + 2), (y * (k + 1) + other[1]) / (k + 2)
            np.testing.assert_allclose(np.concatenate(z), np.concatenate([x, y]), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: risk_averse_game(np.ones((2, 3)), np.ones((2, 3)), 1.0), "first, second"),
        (lambda: risk_averse_game([[np.nan]], [[1.0]], 1.0), "first"),
        (lambda: risk_averse_game([[1.0]], [[1.0]], -1.0), "risk"),
        (lambda: mean_variance_response(jnp.ones((2, 2)), jnp.ones(2) / 2, 1.0, 0.0), "smoothing"),
        (lambda: mean_variance_response(jnp.ones((2, 2)), jnp.ones(2) / 2, 1.0, iterations=0), "iterations"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
