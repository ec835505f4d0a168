"""Descent-ascent and extragradient against a NumPy re-derivation on linear fields."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.engine import run
from attractor.games import Extragradient, GradientDescentAscent, TwoTimescaleExtragradient
from attractor.problem import Game
from attractor.problems import bilinear_game, degenerate_minimax, minimax_quadratic


def steps(method, game, z, count):
    @jax.jit
    def many(z):
        return jax.lax.fori_loop(0, count, lambda _, z: method.step(game, z, None, jr.key(0))[0], z)

    return many(z)


@pytest.mark.parametrize(
    ("method", "ahead", "timescale"),
    [
        (GradientDescentAscent(0.2), False, 1.0),
        (GradientDescentAscent(0.2, timescale=5.0), False, 5.0),
        (Extragradient(0.2), True, 1.0),
        (TwoTimescaleExtragradient(0.2, timescale=7.0), True, 7.0),
    ],
)
def test_ten_steps_are_the_matrix_power(method, ahead, timescale):
    rng = np.random.default_rng(0)
    a, c, b = rng.normal(size=(2, 2)), rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    a, b = a + a.T, b + b.T
    field = np.block([[a, c], [-c.T, -b]])
    scaled = np.diag([1 / timescale] * 2 + [1.0] * 3) @ field
    step = np.eye(5) - 0.2 * scaled @ (np.eye(5) - 0.2 * scaled if ahead else np.eye(5))
    with jax.enable_x64(True):
        x, y = jnp.asarray(rng.normal(size=2)), jnp.asarray(rng.normal(size=3))
        ours = jnp.concatenate(steps(method, minimax_quadratic(a, c, b), (x, y), 10))
    np.testing.assert_allclose(ours, np.linalg.matrix_power(step, 10) @ np.concatenate([x, y]), rtol=1e-9)


def test_extragradient_contracts_where_descent_ascent_spirals_out():
    kwargs = {"steps": 200, "sweep": {"learning_rate": [0.3]}, "seeds": 3}
    inward = run(bilinear_game(3), Extragradient, **kwargs)["distance"].values
    outward = run(bilinear_game(3), GradientDescentAscent, **kwargs)["distance"].values
    assert (inward[..., -1] < 1e-2 * inward[..., 0]).all()
    assert (outward[..., -1] > 1e2 * outward[..., 0]).all()


def test_step_size_must_exceed_the_threshold_of_the_degenerate_point():
    game, start = degenerate_minimax(bend=0.2, coupling=1.0), (jnp.ones(1), jnp.ones(1))
    near = steps(TwoTimescaleExtragradient(0.5, 4.0), game, start, 400)
    far = steps(TwoTimescaleExtragradient(0.1, 4.0), game, start, 400)
    assert max(abs(float(p[0])) for p in near) < 0.1
    assert max(abs(float(p[0])) for p in far) > 1.0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_players_may_be_any_pytrees_and_more_than_two(dtype):
    game = Game(lambda z: z, ({"a": jnp.ones((), dtype)}, jnp.ones(2, dtype), (jnp.ones(1, dtype),)))
    z = game.init(jr.key(0))
    moved, _ = TwoTimescaleExtragradient(0.5, timescale=2.0).step(game, z, None, jr.key(0))
    assert jax.tree.map(lambda p: (p.shape, p.dtype), moved) == jax.tree.map(lambda p: (p.shape, p.dtype), z)
    np.testing.assert_allclose(moved[0]["a"], 1 - 0.25 * (1 - 0.25), rtol=1e-2)
    np.testing.assert_allclose(moved[2][0], 1 - 0.5 * (1 - 0.5), rtol=1e-2)


def test_both_fields_see_the_same_noise():
    game = Game(lambda z, batch: (batch,), (jnp.zeros(()),), noise=lambda key: jr.normal(key))
    (moved,), _ = Extragradient(1.0).step(game, (jnp.zeros(()),), None, jr.key(3))
    assert float(moved) == -float(jr.normal(jr.key(3)))


def test_a_sweep_compiles_and_matches_single_runs():
    sweep = [{"learning_rate": 0.3, "timescale": 2.0}, {"learning_rate": 0.5, "timescale": 8.0}]
    together = run(degenerate_minimax(), TwoTimescaleExtragradient, steps=20, sweep=sweep)["distance"].values
    for i, config in enumerate(sweep):
        alone = run(degenerate_minimax(), TwoTimescaleExtragradient(**config), steps=20)["distance"].values
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientDescentAscent(0.0), "learning_rate"),
        (lambda: Extragradient(-1.0), "learning_rate"),
        (lambda: TwoTimescaleExtragradient(0.1, timescale=0.0), "timescale"),
        (lambda: minimax_quadratic([[1.0]], [[1.0, 2.0]], [[1.0]]), "shapes"),
        (lambda: degenerate_minimax(coupling=0.0), "coupling"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
