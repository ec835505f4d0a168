"""Drawn problems against NumPy: their laws, their truths, and their minima."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems import synthetic


def test_noisy_logistic_regression_has_its_minimum():
    with jax.enable_x64(True):
        problem, optimum = synthetic.noisy_logistic([1.0, 0.3, 0.1], seed=3, samples=400)
        rows, labels = (np.asarray(a) for a in problem.full)
        x = np.array([0.4, -1.0, 2.0])
        expected = np.mean(np.log1p(np.exp(-labels * (rows @ x))))
        assert float(problem.loss(jnp.asarray(x), problem.full)) == pytest.approx(expected, rel=1e-12)
        y = jnp.zeros(3)
        for _ in range(20):  # Newton's method
            hessian, slope = jax.hessian(problem.loss)(y, problem.full), jax.grad(problem.loss)(y, problem.full)
            y = y - jnp.linalg.solve(hessian, slope)
        assert float(problem.loss(y, problem.full)) == pytest.approx(optimum, abs=1e-12)
    np.testing.assert_allclose(rows.std(0), [1.0, 0.3, 0.1], rtol=0.1)
    assert set(labels) == {1.0, -1.0}


def test_the_population_is_a_logistic_model_on_the_sphere():
    rows, chances, labels = map(np.asarray, synthetic.logistic_population(20_000, 4, seed=1))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(chances, 1 / (1 + np.exp(-1.5 * rows.sum(1))), rtol=1e-4)
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        some = (chances >= low) & (chances < high)
        assert np.mean(labels[some] == 1) == pytest.approx(chances[some].mean(), abs=0.03)


@pytest.mark.parametrize("hinge", [0.0, 0.3, 1.0])
def test_the_expected_loss_is_the_mean_over_labels(hinge):
    rng = np.random.default_rng(0)
    rows, x, chances = rng.standard_normal((5, 3)), rng.standard_normal(3), rng.random(5)
    losses = {}
    for sign in (1.0, -1.0):
        m = sign * rows @ x
        losses[sign] = (1 - hinge) * np.log1p(np.exp(-m)) + hinge * np.maximum(0, 1 - m) ** 1.5
        found = synthetic.mean_margin_loss(hinge, jnp.asarray(x), (jnp.asarray(rows), jnp.full(5, sign)))
        assert float(found) == pytest.approx(losses[sign].mean(), rel=1e-5)
    expected = np.mean(chances * losses[1.0] + (1 - chances) * losses[-1.0])
    found = synthetic.expected_margin_loss(*map(jnp.asarray, (x, hinge, rows, chances)))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_sparse_system_has_its_truth():
    rows, values, truth = synthetic.sparse_system(30, 100, 4, seed=2)
    assert rows.shape == (30, 100)
    np.testing.assert_allclose(rows @ truth, values, rtol=1e-12)
    entries = np.abs(truth[truth != 0])
    assert len(entries) == 4
    assert entries.min() >= 0.5
    assert entries.max() <= 1.5


def test_an_overparametrized_regression_can_be_solved_in_many_ways():
    with jax.enable_x64(True):
        problem = synthetic.overparametrized_regression(4, 9, seed=0)
        x = problem.init(jr.key(0))
        jacobian = jax.jacobian(jax.grad(lambda x: problem.loss(x, None)))(x)
        assert np.linalg.matrix_rank(jacobian) == 4
        step = jnp.linalg.lstsq(jacobian, jax.grad(lambda x: problem.loss(x, None))(x))[0]
        assert float(problem.loss(x - step, None)) == pytest.approx(0, abs=1e-12)
        assert float(problem.loss(x, None)) > 1


def test_the_quadratic_from_zero():
    with jax.enable_x64(True):
        problem = synthetic.quadratic_from_zero(6, 40.0, seed=1)
        values, hessian = problem.init(jr.key(0)), jax.hessian(lambda x: problem.loss(x, None))(jnp.zeros(6))
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), np.geomspace(1 / 40, 1, 6), rtol=1e-9)
    gradient = jax.grad(lambda x: problem.loss(x, None))(jnp.zeros(6))
    solution = np.linalg.solve(hessian, -np.asarray(gradient))
    assert float(problem.loss(jnp.asarray(solution), None)) == pytest.approx(0, abs=1e-6)
    assert np.linalg.norm(solution) > 0.5


@pytest.mark.parametrize(
    ("make", "bad"),
    [
        (lambda samples: synthetic.noisy_logistic([1.0], samples=samples), {"samples": 0}),
        (synthetic.logistic_population, {"n": 0}),
        (lambda dim: synthetic.logistic_population(3, dim), {"dim": 0}),
        (lambda unknowns: synthetic.sparse_system(3, unknowns, 4), {"unknowns": 3}),
        (lambda nonzero: synthetic.sparse_system(3, 9, nonzero), {"nonzero": 0}),
        (lambda unknowns: synthetic.overparametrized_regression(5, unknowns), {"unknowns": 5}),
        (synthetic.quadratic_from_zero, {"dim": 1}),
        (synthetic.quadratic_from_zero, {"condition": 0.5}),
    ],
)
def test_errors_name_the_argument(make, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        make(**bad)
