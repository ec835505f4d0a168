"""Posteriors against scikit-learn's, rules against a loop, and searches whose answer is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from attractor.blackbox import Posterior, constrained_search, expected_improvement, gp_posterior, optimistic
from attractor.blackbox.gaussian_processes import search_table, squared_exponential

RNG = np.random.default_rng(2)
KERNEL = functools.partial(squared_exponential, length=0.3)
GRID = np.stack(np.meshgrid(np.linspace(0, 1, 12), np.linspace(0, 1, 9)), -1).reshape(-1, 2)


@pytest.fixture(autouse=True)
def doubles():
    with jax.enable_x64(True):
        yield


def test_the_posterior_is_that_of_another_program():
    chosen, values = RNG.integers(len(GRID), size=7), RNG.normal(size=(2, 7))
    gram = KERNEL(jnp.asarray(GRID), jnp.asarray(GRID))
    known = jnp.arange(7) < 5
    told = gp_posterior(gram, jnp.asarray(chosen), jnp.asarray(values), 0.01, known)
    for i in range(2):
        other = GaussianProcessRegressor(RBF(0.3), alpha=0.01, optimizer=None).fit(GRID[chosen[:5]], values[i, :5])
        mean, std = other.predict(GRID, return_std=True)
        np.testing.assert_allclose(told.mean[i], mean, atol=1e-7)
        np.testing.assert_allclose(told.std[i], std, atol=1e-7)


def test_rules_candidate_by_candidate():
    objective = Posterior(*(jnp.asarray(a) for a in (RNG.normal(size=30), RNG.uniform(0.1, 1, 30))))
    constraints = Posterior(*(jnp.asarray(a) for a in (RNG.normal(size=(2, 30)), RNG.uniform(0.1, 1, (2, 30)))))
    index, possible = optimistic(objective, constraints, jnp.asarray(jnp.inf), width=0.7)
    allowed = [i for i in range(30) if all(constraints.mean[:, i] - 0.7 * constraints.std[:, i] <= 0)]
    assert 0 < len(allowed) < 30
    assert (int(index), bool(possible)) == (
        min(allowed, key=lambda i: objective.mean[i] - 0.7 * objective.std[i]),
        True,
    )
    assert not optimistic(objective, Posterior(constraints.mean + 9, constraints.std), jnp.asarray(0.0))[1]

    def gain(i, best):
        mean, std = float(objective.mean[i]), float(objective.std[i])
        chance = norm.cdf(-np.asarray(constraints.mean[:, i]) / np.asarray(constraints.std[:, i])).prod()
        draws = np.linspace(1e-5, 1 - 1e-5, 20_001)
        return chance * (np.maximum(best - norm.ppf(draws, mean, std), 0).mean() if np.isfinite(best) else 1.0)

    for best in (-0.3, np.inf):
        index, _ = expected_improvement(objective, constraints, jnp.asarray(best))
        assert int(index) == max(range(30), key=lambda i: gain(i, best))


def bowl(x):
    return (x[0] - 0.2) ** 2 + (x[1] - 0.3) ** 2 - 0.5, 0.45 - x[0]


def test_a_search_finds_the_constrained_minimum_and_its_compiled_twin_the_same_points():
    found = constrained_search(bowl, GRID, budget=25, kernel=KERNEL)
    table = np.array([bowl(x) for x in GRID]).T
    feasible = table[1] <= 0
    assert found.value == table[0][feasible].min()
    assert bowl(found.x) == tuple(found.values[np.flatnonzero((found.points == found.x).all(1))[0]])
    assert not found.infeasible
    gram = KERNEL(jnp.asarray(GRID), jnp.asarray(GRID))
    chosen, possible = search_table(gram, jnp.asarray(table), 25, optimistic)
    np.testing.assert_array_equal(GRID[np.asarray(chosen)], found.points)
    assert bool(possible.all())


def test_an_infeasible_problem_is_declared():
    found = constrained_search(lambda x: (x[0], 2.0 + x[1]), GRID, budget=60, kernel=KERNEL)
    assert found.infeasible
    assert (found.x, found.value) == (None, np.inf)
    assert 1 <= len(found.points) < 60


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"budget": 0}, "budget"),
        ({"noise": -1.0}, "noise"),
        ({"candidates": [1.0, 2.0]}, r"candidates: expected a table \(n, d\)"),
        ({"f": lambda x: [1.0]}, "f: expected the objective and its constraints"),
        ({"f": lambda x: [1.0, np.nan]}, "f: expected"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(wrong, words):
    with pytest.raises(ValueError, match=words):
        constrained_search(**{"f": bowl, "candidates": GRID, "budget": 5, **wrong})
