"""Constants of fields against closed forms, pairs of points and fields that are known not to have them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import Game, problems, run
from attractor.games import Extragradient, field_constants
from attractor.problems.linear_fields import comonotone_matrix, comonotonicity, linear_game


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_a_linear_field_has_the_constants_of_its_matrix(x64):
    matrix = np.random.default_rng(0).standard_normal((5, 5)) + 0.3 * np.eye(5)
    found = field_constants(linear_game(matrix), jax.vmap(linear_game(matrix).init)(jr.split(jr.key(0), 3)))
    np.testing.assert_allclose(found.lipschitz, np.linalg.svd(matrix)[1][0])
    np.testing.assert_allclose(found.monotonicity, np.linalg.eigvalsh(matrix + matrix.T)[0] / 2)
    np.testing.assert_allclose(found.comonotonicity, comonotonicity(jnp.asarray(matrix)))
    skew = (matrix - matrix.T) / 2
    np.testing.assert_allclose(found.rotation, (skew**2).sum() / (matrix**2).sum())


@pytest.mark.parametrize("rho", [0.1, 0.45])
def test_constants_that_were_built_in_are_found(rho, x64):
    game = linear_game(comonotone_matrix(jr.key(1), 6, rho))
    found = field_constants(game, jax.tree.map(lambda leaf: leaf[None], game.init(jr.key(0))))
    np.testing.assert_allclose([found.lipschitz, found.comonotonicity], [1.0, rho], rtol=1e-6)
    assert found.monotonicity < 0


def test_a_curved_field_keeps_them_between_all_pairs_of_points(x64):
    """min over x, max over y of log cosh x + x A y - y²: what it keeps is asked of differences, without derivatives."""
    mixed = jr.normal(jr.key(2), (3, 2))
    game = Game.minimax(
        lambda x, y: jnp.log(jnp.cosh(x)).sum() + x @ mixed @ y - (y**2).sum(), (jnp.ones(3), jnp.ones(2))
    )
    points = tuple(3 * jr.normal(key, (400, n)) for key, n in zip(jr.split(jr.key(3)), (3, 2), strict=True))
    found = field_constants(game, points)
    z, field = (
        np.concatenate([np.asarray(p) for p in part], 1) for part in (points, jax.vmap(game.field)(points, None))
    )
    dz, df = (part[:200] - part[200:] for part in (z, field))
    inner = (dz * df).sum(1)
    assert (np.linalg.norm(df, axis=1) <= found.lipschitz * np.linalg.norm(dz, axis=1) * (1 + 1e-6)).all()
    assert (inner >= found.monotonicity * (dz**2).sum(1) - 1e-9).all()
    assert 0 < found.monotonicity < 0.05  # log cosh is nearly flat far out
    assert 0 < found.rotation < 1


def test_a_kernel_that_its_range_does_not_meet_is_left_out(x64):
    """Twice the projection onto a plane: cocoercive by a half; a nilpotent map: by no constant; none at all: by any."""
    plane = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 2)))[0]
    at = jax.tree.map(lambda leaf: leaf[None], linear_game(np.eye(4)).init(jr.key(0)))
    assert field_constants(linear_game(2 * plane @ plane.T), at).comonotonicity == pytest.approx(-0.5)
    assert field_constants(linear_game(np.eye(4, k=1)), at).comonotonicity == np.inf
    assert field_constants(linear_game(np.zeros((4, 4))), at).comonotonicity == -np.inf


def test_a_batch_reaches_the_field_and_extragradient_holds_below_one_over_its_length():
    game = Game(lambda z, batch: (batch * z[1], -batch * z[0]), (jnp.ones(2), jnp.ones(2)), noise=lambda key: 3.0)
    found = field_constants(game, jax.tree.map(lambda leaf: leaf[None], game.init(jr.key(0))), batch=3.0)
    np.testing.assert_allclose(found, (3.0, 0.0, 0.0, 1.0), atol=1e-6)
    residuals = [run(game, Extragradient(s / found.lipschitz), steps=200).last("residual").item() for s in (0.9, 1.1)]
    assert residuals[0] < 1 < residuals[1]


def test_points_that_are_none_are_refused():
    game = problems.bilinear_game()
    with pytest.raises(ValueError, match="points: expected iterates with one common leading axis"):
        field_constants(game, (jnp.ones((2, 1)), jnp.ones((3, 1))))
    root = Game.minimax(lambda x, y: jnp.sum(jnp.sqrt(x)) - jnp.sum(y**2), (jnp.ones(1), jnp.ones(1)))
    with pytest.raises(ValueError, match="not finite at point 1"):
        field_constants(root, (jnp.asarray([[1.0], [0.0]]), jnp.ones((2, 1))))
