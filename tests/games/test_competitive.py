"""Competitive gradients against the dense system of equations, on a game whose mixed block is not square."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.games import (
    CompetitiveGradient,
    OptimisticCompetitiveGradient,
    competitive_game,
    competitive_gradient_descent,
)
from attractor.problem import Game
from attractor.problems import leaving_players

RNG = np.random.default_rng(0)
A, B, X, Y = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 3)), RNG.normal(size=3), RNG.normal(size=4)


def payoff(x, y):
    return x @ A @ y + 0.2 * jnp.sum(jnp.sin(B @ x) * y**2) + 0.1 * jnp.sum(x**4)


def direction(x, y, alpha):
    """By hand: the field's parts and the mixed derivatives, in one dense system."""
    s, c = np.sin(B @ x), np.cos(B @ x)
    for_x, for_y = A @ y + 0.2 * B.T @ (c * y**2) + 0.4 * x**3, A.T @ x + 0.4 * s * y
    mixed = A + 0.4 * B.T @ np.diag(c * y)
    system = np.block([[np.eye(3), alpha * mixed], [-alpha * mixed.T, np.eye(4)]])
    return np.split(np.linalg.solve(system, np.concatenate([for_x, -for_y])), [3])


@pytest.mark.parametrize(
    ("method", "rate", "alpha", "optimistic"),
    [
        (CompetitiveGradient(0.1, 0.7), 0.1, 0.7, False),
        (competitive_gradient_descent(0.2), 0.2, 0.2, False),
        (OptimisticCompetitiveGradient(0.1, 0.7), 0.1, 0.7, True),
    ],
)
def test_steps_are_those_of_the_dense_system(method, rate, alpha, optimistic):
    with jax.enable_x64(True):
        z = jnp.asarray(X), jnp.asarray(Y)
        game = Game.minimax(payoff, z)
        state, step = method.init(game, z, jr.key(0)), jax.jit(lambda z, s: method.step(game, z, s, jr.key(0)))
        x, y, last = X, Y, (np.zeros(3), np.zeros(4))
        for _ in range(6):
            z, state = step(z, state)
            lead = (x - rate * last[0], y - rate * last[1]) if optimistic else (x, y)
            last = direction(*lead, alpha)
            x, y = x - rate * last[0], y - rate * last[1]
            np.testing.assert_allclose(np.concatenate(z), np.concatenate([x, y]), atol=1e-10)


def test_noise_reaches_the_field_and_players_may_be_trees():
    def field(z, shift):
        (x,), y = z
        return (y["c"] + shift,), {"c": -x}

    game = Game(field, ((jnp.ones(2),), {"c": jnp.zeros(2)}), noise=jr.normal)
    competitive = competitive_game(game, 0.5)
    (first,), second = competitive.field(game.init(jr.key(0)), jnp.asarray(0.3))
    # x + 0.5 y = 0.3 and -0.5 x + y = -1, from D_xy = I
    np.testing.assert_allclose(first, (0.3 + 0.5) / 1.25, rtol=1e-6)
    np.testing.assert_allclose(second["c"], (-1 + 0.15) / 1.25, rtol=1e-6)
    assert competitive.sample(jr.key(1)) == game.sample(jr.key(1))


def test_players_who_would_leave_alone_are_held_together_by_reckoning():
    with jax.enable_x64(True):
        game = leaving_players(jr.key(0), 3, 0.4)
        flat = lambda field: jax.jacfwd(lambda z: jnp.concatenate(field((z[:3], z[3:]), None)))  # noqa: E731
        jacobian = flat(game.field)(jnp.zeros(6))
        np.testing.assert_allclose(jnp.diag(jacobian), -0.4, atol=1e-12)
        np.testing.assert_allclose(np.linalg.svd(jacobian[:3, 3:])[1], [2.0, 1.5, 1.0], rtol=1e-12)
        assert np.linalg.eigvals(jacobian).real.max() < 0
        assert np.linalg.eigvals(flat(competitive_game(game, 1.0).field)(jnp.zeros(6))).real.min() > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CompetitiveGradient(0.0), "learning_rate"),
        (lambda: CompetitiveGradient(0.1, -1.0), "interaction"),
        (lambda: OptimisticCompetitiveGradient(0.1, 1.0, 0), "iterations"),
        (lambda: competitive_game(Game(lambda z: z, (jnp.zeros(1), jnp.zeros(1))), -0.1), "interaction"),
        (lambda: leaving_players(jr.key(0), 0), "dim"),
        (lambda: leaving_players(jr.key(0), 2, 1.0), "away"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
