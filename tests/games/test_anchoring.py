"""Anchored iterations against loops in NumPy, and their proven rates."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import FixedPoint
from attractor.games.anchoring import FiniteSum, VarianceReducedHalpern, plane_games
from attractor.linalg.fixed_point import Halpern

RNG = np.random.default_rng(0)
ROWS, TARGETS, START = RNG.normal(size=(30, 5)), RNG.normal(size=30), RNG.normal(size=5)
TURN = np.array([[1.0, -0.7], [0.7, 1.0]])


def field(z, rows, targets):
    """Not symmetric, and nonlinear."""
    along = rows.T @ (np.tanh(rows @ z) - targets) / len(rows)
    return along + 0.3 * np.roll(z, 1)


def in_jax(z, data):
    rows, targets = data
    flat = jnp.concatenate(z)
    out = rows.T @ (jnp.tanh(rows @ flat) - targets) / len(rows) + 0.3 * jnp.roll(flat, 1)
    return out[:2], out[2:]


@pytest.mark.parametrize("probability", [None, 0.4])
def test_variance_reduced_halpern_is_the_loop_in_numpy(probability):
    with jax.enable_x64(True):
        game = FiniteSum(in_jax, (jnp.asarray(START[:2]), jnp.asarray(START[2:])), (ROWS, TARGETS), batch_size=4)
        method = VarianceReducedHalpern(0.2, probability)
        x = game.init(jr.key(0))
        state, step = method.init(game, x, jr.key(0)), eqx.filter_jit(method.step)
        z, before, estimate, calls, coins = START, None, None, 0, []
        for k in range(25):
            key = jr.key(k)
            x, state = step(game, x, state, key)
            p = 4 / (min(k, 30**0.5) + 5) if probability is None else probability
            coins.append(k == 0 or bool(jr.bernoulli(jr.fold_in(key, 1), p)))
            if coins[-1]:
                estimate, calls = field(z, ROWS, TARGETS), calls + 30
            else:
                rows, targets = map(np.asarray, game.sample(key))
                estimate, calls = estimate + field(z, rows, targets) - field(before, rows, targets), calls + 8
            share = 2 / (k + 4)
            z, before = share * START + (1 - share) * z - 0.2 * estimate, z
            np.testing.assert_allclose(np.concatenate(x), z, atol=1e-12)
        assert 3 < sum(coins) < 22
        assert float(state.calls) == calls


def test_batches_are_drawn_from_all_samples_and_about_the_root_of_them():
    game = FiniteSum(in_jax, (jnp.zeros(2), jnp.zeros(3)), (ROWS, np.arange(30.0)))
    drawn = {float(t) for k in range(60) for t in game.sample(jr.key(k))[1]}
    assert game.batch_size == 5
    assert drawn == set(np.arange(30.0))


def test_halpern_is_the_loop_in_numpy_and_keeps_its_bound_where_iterating_never_converges():
    with jax.enable_x64(True):
        matrix = TURN / np.linalg.norm(TURN, 2)  # a rotation, whose iterates run in circles
        start, problem = jnp.array([1.0, -2.0]), FixedPoint(lambda x: matrix @ x + 0.5, jnp.zeros(2))
        x, state, z, method = start, Halpern().init(problem, start, jr.key(0)), np.array(start), Halpern()
        fixed = np.linalg.solve(np.eye(2) - matrix, [0.5, 0.5])
        for k in range(40):
            residual = np.linalg.norm(z - matrix @ z - 0.5)
            assert residual <= 2 * np.linalg.norm(start - fixed) / (k + 1) + 1e-12
            x, state = method.step(problem, x, state, jr.key(0))
            z = np.array(start) / (k + 2) + (k + 1) / (k + 2) * (matrix @ z + 0.5)
            np.testing.assert_allclose(x, z, atol=1e-12)


def test_games_in_planes_are_the_linear_field_they_are_said_to_be():
    with jax.enable_x64(True):
        game, matrix, vector = plane_games(jr.key(3), 7, 5)
        z = jnp.asarray(START)
        together = jnp.concatenate(game.field((z[:2], z[2:]), game.full))
        np.testing.assert_allclose(together, matrix @ z + vector, atol=1e-12)
        one = tuple(leaf[:1] for leaf in game.full)  # of one of them the field is 1/2-cocoercive, and no more
        moved = [jnp.concatenate(game.field((p[:2], p[2:]), one)) for p in (z, jnp.zeros(5))]
        np.testing.assert_allclose(2 * z @ (moved[0] - moved[1]), jnp.sum((moved[0] - moved[1]) ** 2), rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VarianceReducedHalpern(0.0), "learning_rate"),
        (lambda: VarianceReducedHalpern(probability=1.5), "probability"),
        (lambda: FiniteSum(in_jax, jnp.zeros(2), (ROWS, TARGETS), batch_size=31), "batch_size"),
        (lambda: FiniteSum(in_jax, jnp.zeros(2), (ROWS, TARGETS[:7])), "data"),
        (lambda: FiniteSum(in_jax, jnp.zeros(2), ROWS[:0]), "data"),
        (lambda: FiniteSum(in_jax, jnp.zeros(2), ()), "data"),
        (lambda: plane_games(jr.key(0), 0, 3), "samples"),
        (lambda: plane_games(jr.key(0), 3, 1), "dim"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
