"""Values of matrix games against closed forms, and methods that reach them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.games import Extragradient
from attractor.problems import matrix_game, matrix_game_value, onto_simplices


def test_value_of_a_game_of_two_by_two_is_the_closed_form():
    """Where no pure strategies are in equilibrium, the value is the determinant over a sum."""
    a = np.array([[3.0, -1.0], [-2.0, 1.5]])
    total = a[0, 0] + a[1, 1] - a[0, 1] - a[1, 0]
    value, x, y = matrix_game_value(a)
    assert value == pytest.approx(np.linalg.det(a) / total)
    np.testing.assert_allclose(x, [(a[1, 1] - a[1, 0]) / total, (a[0, 0] - a[0, 1]) / total])
    np.testing.assert_allclose(y, [(a[1, 1] - a[0, 1]) / total, (a[0, 0] - a[1, 0]) / total])


def test_the_equilibrium_has_no_gap_and_other_strategies_have_one():
    game = matrix_game(n=5, m=3, seed=2)
    x, y = game.solution
    (a,) = game.payoff.args
    value = matrix_game_value(a)[0]
    np.testing.assert_allclose(game.payoff(x, y), value, rtol=1e-5)
    gap = game.probes["gap"]
    assert abs(float(gap(game, (x, y), jr.key(0)))) < 1e-5
    even_x, other = game.init(jr.key(0))[0], jnp.array([0.2, 0.5, 0.3])
    expected = float(jnp.max(even_x @ a) - jnp.min(a @ other))
    assert float(gap(game, (even_x, other), jr.key(0))) == pytest.approx(expected, rel=1e-5)
    assert expected > 0.1


@pytest.mark.parametrize("payoffs", ["rock-paper-scissors", "matching-pennies"])
def test_symmetric_games_are_worth_nothing(payoffs):
    game = matrix_game(payoffs)
    assert float(game.payoff(*game.solution)) == pytest.approx(0.0, abs=1e-6)
    for player in game.solution:
        np.testing.assert_allclose(player, 1 / len(player), atol=1e-6)


def test_extragradient_on_the_simplices_closes_the_gap():
    game, method = matrix_game(seed=1), Extragradient(0.2, projection=onto_simplices)
    z = jax.lax.fori_loop(0, 3_000, lambda _, z: method.step(game, z, None, jr.key(0))[0], game.init(jr.key(0)))
    assert float(game.probes["gap"](game, z, jr.key(0))) < 1e-3
    np.testing.assert_allclose(jnp.concatenate(z), jnp.concatenate(game.solution), atol=0.01)


@pytest.mark.parametrize("payoffs", ["chess", np.ones(3), np.array([[np.inf, 0.0]])])
def test_bad_payoffs_are_refused(payoffs):
    with pytest.raises(ValueError, match="payoffs"):
        matrix_game(payoffs)
