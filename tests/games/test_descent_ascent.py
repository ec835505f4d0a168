"""Descent-ascent through optax transformations, against Adam in NumPy and the room's own methods."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import run
from attractor.games import DescentAscent, GradientDescentAscent, adam_descent_ascent
from attractor.problem import Game
from attractor.problems import bilinear_game

RNG = np.random.default_rng(3)
A, B, START = RNG.normal(size=(5, 5)), RNG.normal(size=(5, 5)), RNG.normal(size=5)
CUTS = [2, 3]  # three players, of 2, 1 and 2 numbers


def field(z):
    return A @ z + 0.5 * np.tanh(B @ z) - 0.2


def in_jax(z):
    flat = jnp.concatenate(z)
    return tuple(jnp.split(A @ flat + 0.5 * jnp.tanh(B @ flat) - 0.2, CUTS))


def path(method, steps=9):
    """The points of a method, as rows."""
    with jax.enable_x64(True):
        game = Game(in_jax, tuple(map(jnp.asarray, np.split(START, CUTS))))
        x = game.init(jr.key(0))
        state = method.init(game, x, jr.key(0))
        points = []
        for _ in range(steps):
            x, state = eqx.filter_jit(method.step)(game, x, state, jr.key(0))
            points.append(np.concatenate(method.readout(x, state)))
        return np.array(points)


def adam_path(rates, b1, b2, in_turn, steps=9):
    """Adam in NumPy, a rate per number; in turn, each player's gradient is taken where those before it have gone."""
    z, m, v, points = START.copy(), np.zeros(5), np.zeros(5), []
    players = np.split(np.arange(5), CUTS)
    for t in range(1, steps + 1):
        for own in players if in_turn else [np.arange(5)]:
            slope = field(z)[own]
            m[own] = b1 * m[own] + (1 - b1) * slope
            v[own] = b2 * v[own] + (1 - b2) * slope**2
            z[own] -= rates[own] * (m[own] / (1 - b1**t)) / (np.sqrt(v[own] / (1 - b2**t)) + 1e-8)
        points.append(z.copy())
    return np.array(points)


@pytest.mark.parametrize("in_turn", [False, True])
def test_adam_is_numpys(in_turn):
    expected = adam_path(np.full(5, 0.05), 0.4, 0.95, in_turn)
    np.testing.assert_allclose(path(adam_descent_ascent(0.05, 0.4, 0.95, in_turn)), expected, rtol=1e-9)


@pytest.mark.parametrize("in_turn", [False, True])
def test_every_player_may_have_its_own(in_turn):
    optimizers = [optax.adam(rate, 0.4, 0.95) for rate in (0.01, 0.05, 0.2)]
    expected = adam_path(np.array([0.01, 0.01, 0.05, 0.2, 0.2]), 0.4, 0.95, in_turn)
    np.testing.assert_allclose(path(DescentAscent(*optimizers, in_turn=in_turn)), expected, rtol=1e-9)


def test_players_are_clipped_by_norms_of_their_own():
    clipped = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0))
    first, slope = path(DescentAscent(clipped), 1)[0], np.split(field(START), CUTS)
    expected = [p - f * min(1.0, 0.1 / np.linalg.norm(f)) for p, f in zip(np.split(START, CUTS), slope, strict=True)]
    np.testing.assert_allclose(first, np.concatenate(expected), rtol=1e-9)


def test_sgd_is_descent_ascent_and_optimism_is_optimistic():
    np.testing.assert_allclose(path(DescentAscent(optax.sgd(0.07))), path(GradientDescentAscent(0.07)), rtol=1e-9)
    points = [START, START - 0.07 * field(START)]  # optax takes the first field for the one before as well
    for _ in range(8):
        points.append(points[-1] - 0.14 * field(points[-1]) + 0.07 * field(points[-2]))
    np.testing.assert_allclose(path(DescentAscent(optax.optimistic_gradient_descent(0.07))), points[1:], rtol=1e-9)


def test_players_see_one_sample_and_draw_for_themselves():
    game = Game(lambda z, batch: (batch, batch), (jnp.zeros(()), jnp.zeros(())), noise=lambda key: jr.normal(key))
    start, key = game.init(jr.key(0)), jr.key(3)
    for in_turn in (False, True):
        method = DescentAscent(optax.sgd(1.0), in_turn=in_turn)
        moved, _ = method.step(game, start, method.init(game, start, key), key)
        np.testing.assert_allclose(moved, [-float(jr.normal(key))] * 2, rtol=1e-6)

    def noise(updates, state, params=None, *, key, **_):
        return jax.tree.map(lambda u: jr.normal(key, u.shape), updates), state

    method = DescentAscent(optax.GradientTransformationExtraArgs(lambda params: None, noise))
    moved, _ = method.step(game, start, method.init(game, start, key), key)
    np.testing.assert_allclose(moved, [jr.normal(jr.fold_in(key, i)) for i in (1, 2)], rtol=1e-6)


def test_a_schedule_free_player_is_read_out_at_its_average():
    method = DescentAscent(optax.contrib.schedule_free_sgd(0.1), optax.sgd(0.1))
    game = bilinear_game(2)
    x = game.init(jr.key(0))
    state = method.init(game, x, jr.key(0))
    for _ in range(3):
        x, state = method.step(game, x, state, jr.key(0))
    seen = method.readout(x, state)
    expected = optax.contrib.schedule_free_eval_params(state[0], x[0])
    np.testing.assert_allclose(seen[0], expected, rtol=1e-6)
    assert not np.allclose(seen[0], x[0])
    np.testing.assert_array_equal(seen[1], x[1])


@pytest.mark.parametrize("given", [(), (optax.adam,), (optax.sgd(0.1), 3)])
def test_what_is_no_transformation_is_refused(given):
    with pytest.raises(TypeError, match="optimizers"):
        DescentAscent(*given)


def test_as_many_as_players_or_one():
    with pytest.raises(ValueError, match=r"expected 1 \(for all players\) or 2"):
        run(bilinear_game(2), DescentAscent(*[optax.sgd(0.1)] * 3), steps=1)
