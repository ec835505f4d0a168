"""Posteriors against scikit-learn's, rules against a loop, and searches whose answer is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from attractor.blackbox import (
    Posterior,
    constrained_improvement,
    constrained_search,
    expected_improvement,
    gp_posterior,
    optimistic,
)
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


@pytest.fixture
def botorch():
    """BoTorch, and a model of it for each row of values: the same kernel, noise and prior, nothing fitted."""
    reason = "a peer that is installed for tests only: make env, or see PEERS in the Makefile"
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")
    for module in ("gpytorch", "botorch"):
        pytest.importorskip(module, reason=reason)
    import botorch.acquisition.analytic as acquisition
    from botorch.models import ModelListGP, SingleTaskGP
    from gpytorch.kernels import RBFKernel
    from gpytorch.means import ZeroMean

    def modeled(points, rows, noise):
        x, models = torch.as_tensor(points), []
        for row in rows:
            kernel, y = RBFKernel().double(), torch.as_tensor(np.array(row))[:, None]
            kernel.lengthscale = 0.3
            given = torch.full_like(y, noise)
            models.append(
                SingleTaskGP(x, y, given, covar_module=kernel, mean_module=ZeroMean(), outcome_transform=None)
            )
        return ModelListGP(*models).eval()

    def at_all(function, points):
        with torch.no_grad():
            return function(torch.as_tensor(points)[:, None]).numpy()

    return acquisition, modeled, at_all


def test_posterior_and_rules_are_those_of_botorch(botorch):
    acquisition, modeled, at_all = botorch
    chosen, values = RNG.choice(len(GRID), 9, replace=False), RNG.normal(size=(3, 9))
    gram = KERNEL(jnp.asarray(GRID), jnp.asarray(GRID))
    ours = gp_posterior(gram, jnp.asarray(chosen), jnp.asarray(values), 0.02)
    model = modeled(GRID[chosen], values, 0.02)
    means, variances = (at_all(lambda x, n=n: getattr(model.posterior(x), n)[:, 0], GRID) for n in ("mean", "variance"))
    np.testing.assert_allclose(ours.mean, means.T, atol=1e-6)
    np.testing.assert_allclose(ours.std**2, variances.T, atol=1e-6)
    objective, constraints = Posterior(ours.mean[0], ours.std[0]), Posterior(ours.mean[1:], ours.std[1:])
    sides = {1: (None, 0.0), 2: (None, 0.0)}
    for best in (-0.7, 0.4):
        logs = at_all(acquisition.LogConstrainedExpectedImprovement(model, best, 0, sides, maximize=False), GRID)
        found = constrained_improvement(objective, constraints, jnp.asarray(best))
        np.testing.assert_allclose(found, np.exp(logs), atol=1e-6)
        np.testing.assert_allclose(np.log(found)[logs > -20], logs[logs > -20], rtol=1e-6)
        assert int(expected_improvement(objective, constraints, jnp.asarray(best))[0]) == logs.argmax()
    bounds = [at_all(acquisition.UpperConfidenceBound(m, 2.25, maximize=False), GRID) for m in model.models]
    allowed = np.maximum(-bounds[1], -bounds[2]) <= 0
    assert 0 < allowed.sum() < len(GRID)
    index, possible = optimistic(objective, constraints, jnp.asarray(0.4), width=1.5)
    assert (int(index), bool(possible)) == (int(np.where(allowed, bounds[0], -np.inf).argmax()), True)


def test_a_search_asks_what_botorch_would(botorch):
    acquisition, modeled, at_all = botorch
    found = constrained_search(bowl, GRID, budget=12, kernel=KERNEL, rule=expected_improvement, noise=1e-4)
    feasible = np.where((found.values[:, 1:] <= 0).all(1), found.values[:, 0], np.inf)
    first = int(np.isfinite(feasible).argmax()) + 1
    assert first <= 6
    for t in range(first, 12):
        model = modeled(found.points[:t], found.values[:t].T, 1e-4)
        best = feasible[:t].min()
        gain = acquisition.LogConstrainedExpectedImprovement(model, best, 0, {1: (None, 0.0)}, maximize=False)
        np.testing.assert_array_equal(found.points[t], GRID[at_all(gain, GRID).argmax()])


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
