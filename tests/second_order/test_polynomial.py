"""Symmetric-polynomial preconditioners, and searches in Krylov spaces."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from attractor import Minimization, run
from attractor.problems import logistic_regression
from attractor.second_order.polynomial import KrylovGradient, symmetric_polynomial_preconditioner

RNG = np.random.default_rng(0)


def _with_eigenvalues(values):
    basis, _ = np.linalg.qr(RNG.standard_normal((len(values), len(values))))
    return (basis * values) @ basis.T, basis


def test_eigenvalues_are_elementary_symmetric_polynomials():
    values = np.array([5.0, 3.0, 2.0, 0.5, 0.1])
    matrix, basis = _with_eigenvalues(values)
    with jax.enable_x64(True):
        for degree in range(5):
            found = basis.T @ np.asarray(symmetric_polynomial_preconditioner(jnp.asarray(matrix), degree)) @ basis
            expected = [sum(np.prod(c) for c in itertools.combinations(np.delete(values, j), degree)) for j in range(5)]
            np.testing.assert_allclose(found, np.diag(expected), atol=1e-10)


def test_krylov_step_is_the_minimizer_in_its_space():
    with jax.enable_x64(True):
        problem = logistic_regression()
        x, y = (np.asarray(a) for a in problem.full)
        gram, start = x.T @ x / len(x), 0.1 * RNG.standard_normal(31)
        gradient = np.asarray(jax.grad(problem.loss)(jnp.asarray(start), problem.full))
        span, _ = np.linalg.qr(np.stack([gradient, gram @ gradient, gram @ gram @ gradient], 1))

        def value(c):
            w = start + span @ c
            return np.mean(np.logaddexp(0, -y * (x @ w))) + 5e-4 * w @ w

        best = minimize(value, np.zeros(3), tol=1e-13).fun
        moved = Minimization(problem.loss, jnp.asarray(start), problem.full)
        trace = run(moved, KrylovGradient(jnp.asarray(gram), 2, iterations=10), steps=1)
        assert float(trace.last("loss").item()) == pytest.approx(best, abs=1e-9)


def test_whole_spaces_of_a_nonconvex_loss_by_hand():
    """With as many directions as parameters, one iteration is Newton's step by absolute curvature, at its best size."""
    matrix, start = np.array([[1.0, 2.0, 0.3], [2.0, -3.0, 0.5], [0.3, 0.5, 0.2]]), np.array([0.4, 0.9, 0.2])

    def value(x, np=np):
        return x @ matrix @ x / 2 + np.sum(np.sqrt(1 + 9 * x**2) + x**4 / 4)

    x, sizes, negative = start, [], 0
    for _ in range(4):
        root = np.sqrt(1 + 9 * x**2)
        values, basis = np.linalg.eigh(matrix + np.diag(9 / root**3 + 3 * x**2))
        step = -basis @ (basis.T @ (matrix @ x + 9 * x / root + x**3) / np.abs(values))
        negative += values[0] < 0
        trials = [x + step / 2**k for k in range(12)]
        sizes.append(int(np.argmin([value(trial) for trial in trials])))
        x = trials[sizes[-1]]
    assert len(set(sizes)) == 3
    assert negative
    with jax.enable_x64(True):
        problem = Minimization(lambda x: value(x, jnp), jnp.asarray(start))
        found = run(problem, KrylovGradient(degree=2, iterations=1), steps=4).final[0, 0]
    np.testing.assert_allclose(found, x, rtol=1e-6)


def test_finite_termination_on_a_quadratic():
    matrix, _ = _with_eigenvalues(np.array([100.0, 3.0, 2.0, 1.0]))
    with jax.enable_x64(True):
        a = jnp.asarray(matrix)
        problem = Minimization(lambda x: 0.5 * x @ a @ x - x[0], jnp.ones(4))
        trace = run(problem, KrylovGradient(degree=3), steps=1)
        np.testing.assert_allclose(trace.final[0, 0], np.linalg.solve(matrix, np.eye(4)[0]), atol=1e-10)


def test_directions_without_curvature_are_left_alone():
    """A Krylov space of more dimensions than the loss has: its Hessian is singular to rounding."""
    rows, target = RNG.standard_normal((2, 6)), np.array([1.0, -2.0])
    with jax.enable_x64(True):
        problem = Minimization(lambda x: jnp.sum((rows @ x - target) ** 2) / 2, jnp.ones(6))
        trace = run(problem, KrylovGradient(None, 5, iterations=1), steps=1)
    assert float(trace.last("loss").item()) < 1e-20


def test_a_slope_without_curvature_is_left_alone():
    """Curvature that is rounding (it differs between instances) divides no slope: a step there has no end."""

    def loss(x, directions):
        return (directions[0] @ x) ** 2 / 2 + directions[1] @ x

    for seed in range(8):
        v, w, start = np.random.default_rng(seed).standard_normal((3, 4))
        w -= (w @ v) / (v @ v) * v
        with jax.enable_x64(True):
            problem = Minimization(loss, jnp.asarray(start), jnp.stack([v, w]))
            found = run(problem, KrylovGradient(None, 2, iterations=1), steps=1).final[0, 0]
        np.testing.assert_allclose(found, start - (v @ start) / (v @ v) * v, atol=1e-8)


def test_refuses_bad_arguments():
    with pytest.raises(ValueError, match="degree"):
        symmetric_polynomial_preconditioner(jnp.eye(3), 3)
    with pytest.raises(ValueError, match="degree"):
        KrylovGradient(degree=-1)
