"""The shared problems: their minima and constants are what they say."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy.optimize import minimize, rosen
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge

from attractor import run
from attractor.problems import (
    least_absolute_deviations,
    least_squares,
    logistic_regression,
    matrix_factorization,
    matrix_sensing,
    ridge,
    rosenbrock,
    rosenbrock_on_sphere,
)


def standardized(x):
    return (x - x.mean(0)) / x.std(0)


def test_ridge_agrees_with_scikit_learn():
    x, y = load_diabetes(return_X_y=True)
    model = Ridge(alpha=0.1 * len(y), fit_intercept=False).fit(standardized(x), standardized(y))
    np.testing.assert_allclose(ridge(l2=0.1).solution, model.coef_, atol=1e-6)


def test_logistic_regression_agrees_with_scikit_learn():
    x, y = load_breast_cancer(return_X_y=True)
    x = np.column_stack([standardized(x), np.ones(len(x))])
    model = LogisticRegression(C=1 / (0.01 * len(y)), fit_intercept=False, tol=1e-10, max_iter=10_000).fit(x, y)
    np.testing.assert_allclose(logistic_regression(l2=0.01).solution, model.coef_[0], atol=1e-4)


@pytest.mark.parametrize("make", [ridge, logistic_regression])
def test_optimum_solution_and_constants_belong_together(make):
    with jax.enable_x64(True):
        problem = make()
        value, gradient = jax.value_and_grad(problem.loss)(problem.solution, problem.full)
        assert float(value) == pytest.approx(problem.optimum, abs=1e-10)
        assert float(jnp.linalg.norm(gradient)) < 1e-10
        for key in jr.split(jr.key(0), 3):
            w = problem.solution + 0.1 * jr.normal(key, problem.solution.shape)
            eigenvalues = jnp.linalg.eigvalsh(jax.hessian(problem.loss)(w, problem.full))
            assert float(eigenvalues[0]) >= problem.constants["mu"] * (1 - 1e-9)
            assert float(eigenvalues[-1]) <= problem.constants["L"] * (1 + 1e-9)


def test_minibatches_are_unbiased():
    problem = logistic_regression(batch_size=8)
    w = jnp.ones_like(problem.solution)
    losses = jax.vmap(lambda key: problem.loss(w, problem.sample(key)))(jr.split(jr.key(0), 20_000))
    assert float(losses.mean()) == pytest.approx(float(problem.loss(w, problem.full)), rel=0.05)


def test_the_valley_on_a_sphere_does_not_see_lengths():
    with jax.enable_x64(True):
        w = np.random.default_rng(5).standard_normal((2, 3))
        x = 6**0.5 * w.ravel() / np.linalg.norm(w)
        expected = np.mean([(x[i + 1] - x[i] ** 2) ** 2 + 0.1 * (1 - x[i]) ** 2 for i in range(5)])
        for length in (1.0, 3.7):
            assert rosenbrock_on_sphere(jnp.asarray(length * w)) == pytest.approx(expected, rel=1e-12)
        assert rosenbrock_on_sphere(jnp.full(4, 0.3)) == pytest.approx(0.0, abs=1e-20)


def test_rosenbrock_is_scipys():
    problem = rosenbrock(dim=5)
    for key in jr.split(jr.key(0), 4):
        x = jr.normal(key, (5,))
        assert float(problem.loss(x, None)) == pytest.approx(rosen(np.asarray(x)), rel=1e-5)
    assert float(problem.loss(problem.solution, None)) == 0
    found = minimize(lambda x: float(problem.loss(jnp.asarray(x), None)), np.full(5, 0.9), method="Nelder-Mead")
    assert found.fun < 1.0


def test_matrix_sensing_recovers_the_truth_without_outliers_only_with_the_right_loss():
    clean = run(matrix_sensing(), optax.adam(0.02), steps=1_000, every=1_000)
    assert float(clean.last("error").item()) < 1e-2
    squared = run(matrix_sensing(outliers=0.2), optax.adam(0.02), steps=500, every=500)
    assert float(squared.last("error").item()) > 0.1


def test_matrix_factorization_reaches_zero():
    trace = run(matrix_factorization(), optax.adam(0.02), steps=1_000, every=1_000)
    assert float(trace.last("loss").item()) < 1e-4


@pytest.mark.parametrize(
    ("make", "arguments", "name"),
    [
        (ridge, {"l2": -1.0}, "l2"),
        (logistic_regression, {"l2": 0.0}, "l2"),
        (rosenbrock, {"dim": 1}, "dim"),
        (matrix_sensing, {"rank": 30}, "rank"),
        (matrix_sensing, {"norm": "l3"}, "norm"),
        (matrix_factorization, {"search_rank": 1}, "search_rank"),
    ],
)
def test_bad_arguments_are_named(make, arguments, name):
    with pytest.raises(ValueError, match=name):
        make(**arguments)


def test_least_squares_knows_its_constants_where_examples_are_few():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((4, 6)), rng.standard_normal(4)
    with jax.enable_x64(True):
        problem = least_squares(x, y)
        np.testing.assert_allclose(problem.solution, np.linalg.pinv(x) @ y, atol=1e-10)
        assert problem.optimum == pytest.approx(0.0, abs=1e-15)
        assert problem.constants["noise"] == pytest.approx(0.0, abs=1e-15)
        w, shift = np.linalg.pinv(x) @ y + x.T @ rng.standard_normal(4), 0.3
        slope = np.asarray(jax.grad(problem.loss)(jnp.asarray(w), problem.full))
        gap = float(problem.loss(jnp.asarray(w), problem.full))
        assert 2 * problem.constants["mu"] * gap <= slope @ slope * (1 + 1e-12)  # PL …
        eigenvalues, vectors = np.linalg.eigh(x @ x.T / 4)
        worst = np.linalg.pinv(x) @ y + shift * x.T @ vectors[:, 0]
        slope = np.asarray(jax.grad(problem.loss)(jnp.asarray(worst), problem.full))
        gap = float(problem.loss(jnp.asarray(worst), problem.full))
        assert 2 * problem.constants["mu"] * gap == pytest.approx(slope @ slope, rel=1e-9)  # … and no larger constant
        assert problem.constants["L"] == pytest.approx(eigenvalues[-1])
        noisy = least_squares(x.repeat(2, 0), rng.standard_normal(8), 0.2)
        rows, targets = map(np.asarray, noisy.full)
        w = np.asarray(noisy.solution)
        each = [np.sum(((r @ w - t) * r + 0.2 * w) ** 2) for r, t in zip(rows, targets, strict=True)]
        assert noisy.constants["noise"] == pytest.approx(np.mean(each), rel=1e-10)
        assert noisy.constants["L_max"] == pytest.approx(max(r @ r for r in rows) + 0.2)
    with pytest.raises(ValueError, match="finite"):
        least_squares(x * np.nan, y)


def test_least_absolute_deviations_has_no_better_neighbor():
    with jax.enable_x64(True):
        problem = least_absolute_deviations()
        assert float(problem.loss(problem.solution, problem.full)) == pytest.approx(problem.optimum, abs=1e-12)
        for key in jr.split(jr.key(0), 20):
            near = problem.solution + 1e-3 * jr.normal(key, problem.solution.shape)
            assert float(problem.loss(near, problem.full)) > problem.optimum
        one = jax.jacfwd(lambda w: jnp.abs(problem.full[0] @ w - problem.full[1]))(problem.solution + 0.1)
        assert float(jnp.linalg.norm(one, axis=1).max()) == pytest.approx(problem.constants["G"])
