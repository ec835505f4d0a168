"""Linear stochastic approximation: the recursion, the tail equation, the two covariances."""

import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.optim import stochastic_approximation as sa

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def test_noiseless_iterates_have_a_closed_form():
    a, b = np.array([[2.0, 0.5], [0.0, 1.0]]), np.array([1.0, -1.0])
    last, average = sa.linear_stochastic_approximation(
        lambda key: (jnp.asarray(a), jnp.asarray(b)), jnp.ones(2), 0.3, 7, jr.key(0)
    )
    solution, power = np.linalg.solve(a, b), np.eye(2) - 0.3 * a
    path = [solution + np.linalg.matrix_power(power, t) @ (np.ones(2) - solution) for t in range(1, 8)]
    np.testing.assert_allclose(last, path[-1], rtol=1e-5)
    np.testing.assert_allclose(average, np.mean(path, 0), rtol=1e-5)


@pytest.mark.parametrize(("step", "index"), [(0.3, 4.15), (0.4, 3.3), (0.6, 2.1)])
def test_tail_index_of_gaussian_factors(step, index):
    rng = np.random.default_rng(0)
    found = sa.kesten_tail_index(1 - step * (1 + 1.5 * NODES), WEIGHTS)
    assert found == pytest.approx(index, abs=0.1)
    assert np.mean(np.abs(1 - step * (1 + 1.5 * rng.standard_normal(10**6))) ** found) == pytest.approx(1, abs=0.03)


def test_lognormal_factors_have_a_closed_form():
    # E exp(p (m + s Z)) = 1 at p = -2 m / s².
    assert sa.kesten_tail_index(np.exp(-0.2 + 0.5 * NODES), WEIGHTS) == pytest.approx(1.6, rel=1e-6)


def test_without_weights_all_factors_count_alike():
    factors = [0.3, 1.4, 0.6]
    found = sa.kesten_tail_index(factors)
    assert np.mean(np.power(factors, found)) == pytest.approx(1, abs=1e-6)
    assert found == pytest.approx(sa.kesten_tail_index(factors, [1 / 3] * 3), rel=1e-9)


def test_bounded_factors_have_all_moments_and_expanding_ones_no_law():
    assert sa.kesten_tail_index([0.2, 0.9]) == math.inf
    with pytest.raises(ValueError, match="factors"):
        sa.kesten_tail_index([2.0, 1.5])


def test_hill_finds_a_pareto_index():
    draws = np.random.default_rng(0).pareto(3.0, 200_000) + 1
    assert sa.hill_estimator(draws, 20_000) == pytest.approx(3.0, rel=0.03)
    with pytest.raises(ValueError, match="k"):
        sa.hill_estimator(draws, 0)


def test_covariances_in_one_dimension():
    a, s = np.array([[2.0]]), np.array([[3.0]])
    assert sa.stationary_covariance(a, s, 0.01)[0, 0] == pytest.approx(0.01 * 3 / 4)
    assert sa.averaged_covariance(a, s, 10)[0, 0] == pytest.approx(3 / 40)


def test_covariances_solve_their_equations():
    a, s = np.array([[2.0, 0.9], [-0.4, 1.0]]), np.array([[3.0, 0.5], [0.5, 1.0]])
    x = sa.stationary_covariance(a, s, 0.01)
    np.testing.assert_allclose(a @ x + x @ a.T, 0.01 * s, atol=1e-12)
    x = sa.averaged_covariance(a, s, 10)
    np.testing.assert_allclose(a @ x @ a.T, s / 10, atol=1e-12)


def test_refuses_a_bad_step():
    with pytest.raises(ValueError, match="step_size"):
        sa.linear_stochastic_approximation(lambda k: (jnp.eye(1), jnp.ones(1)), jnp.ones(1), 0.0, 1, jr.key(0))
