"""Matrix sensing against loops in NumPy, finite differences and sums written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.landscape import (
    kronecker_power,
    normal_operator,
    perturbed_completion,
    sensing_descent,
    spurious_completion,
    unbalanced_factors,
    weighted_factor_hessian,
    weighted_factor_loss,
)

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def _gradient(value, at, step=1e-6):
    moves = step * np.eye(at.size).reshape(at.size, *at.shape)
    return np.reshape([(value(at + m) - value(at - m)) / (2 * step) for m in moves], at.shape)


def test_descent_on_one_factor_is_that_on_the_measured_loss():
    sensors, x, truth = RNG.standard_normal((7, 4, 4)), RNG.standard_normal((4, 2)), RNG.standard_normal((4, 4))
    truth = truth @ truth.T

    def loss(x):
        return np.sum(np.einsum("kij,ij->k", sensors, x @ x.T - truth) ** 2) / (4 * 7)

    normal = normal_operator(jnp.asarray(sensors))
    (found,), errors = sensing_descent((jnp.asarray(x),), jnp.asarray(truth), 0.01, 2, 1, normal)
    expected = []
    for _ in range(2):
        x = x - 0.01 * _gradient(loss, x)
        expected.append(np.sum((x @ x.T - truth) ** 2))
    np.testing.assert_allclose(found, x, rtol=1e-6)
    np.testing.assert_allclose(errors, expected, rtol=1e-6)


@pytest.mark.parametrize("full", [True, False])
def test_descent_on_two_factors_is_that_of_a_loop(full):
    sensors, truth = RNG.standard_normal((9, 4, 3)), RNG.standard_normal((4, 3))
    f, g = RNG.standard_normal((4, 2)), RNG.standard_normal((3, 2))
    normal = None if full else normal_operator(jnp.asarray(sensors))
    start = jnp.asarray(f), jnp.asarray(g)
    (found_f, found_g), errors = sensing_descent(start, jnp.asarray(truth), 0.05, 4, 2, normal)
    expected = []
    for step in range(1, 5):
        miss = f @ g.T - truth
        seen = miss if full else sum(np.sum(a * miss) * a for a in sensors) / 9
        f, g = f - 0.05 * seen @ g, g - 0.05 * seen.T @ f
        expected += [np.sum((f @ g.T - truth) ** 2)] if step % 2 == 0 else []
    np.testing.assert_allclose(found_f, f, rtol=1e-10)
    np.testing.assert_allclose(found_g, g, rtol=1e-10)
    np.testing.assert_allclose(errors, expected, rtol=1e-10)


def test_unbalanced_factors_have_the_same_product():
    f, g = jnp.asarray(RNG.standard_normal((5, 3))), jnp.asarray(RNG.standard_normal((4, 3)))
    a, b = unbalanced_factors(f, g, 0.7)
    np.testing.assert_allclose(a @ b.T, f @ g.T, atol=1e-12)
    np.testing.assert_allclose(a.T @ a, 0.49 * np.eye(3), atol=1e-12)


def test_a_lifted_completion_problem_and_its_curvature():
    weights, target = perturbed_completion(4, 0.3)
    assert weights.tolist() == [[1, 1, 0.09, 1], [1, 1, 1, 1], [0.09, 1, 1, 1], [1, 1, 1, 1]]
    assert target.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    w, m = kronecker_power(weights, 2), kronecker_power(target, 2) + 0.1
    x = RNG.standard_normal(16)
    loss = sum(w[i, j] * (x[i] * x[j] - m[i, j]) ** 2 for i in range(16) for j in range(16)) / 4
    np.testing.assert_allclose(weighted_factor_loss(jnp.asarray(x), w, m), loss, rtol=1e-10)
    dense = jax.hessian(weighted_factor_loss)(jnp.asarray(x), w, m)
    np.testing.assert_allclose(weighted_factor_hessian(jnp.asarray(x), w, m), dense, rtol=1e-8, atol=1e-10)
    a = RNG.standard_normal((2, 3))
    np.testing.assert_allclose(kronecker_power(jnp.asarray(a), 3), np.kron(np.kron(a, a), a))
    assert kronecker_power(jnp.asarray(a), 1).tolist() == a.tolist()


EYE = jnp.eye(3)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("rate", lambda: sensing_descent((EYE,), EYE, -1.0, 1)),
        ("steps", lambda: sensing_descent((EYE,), EYE, 0.1, 1, every=2)),
        ("beta", lambda: unbalanced_factors(EYE, EYE, 0.0)),
        ("f", lambda: unbalanced_factors(EYE[:2], EYE, 1.0)),
        ("n", lambda: perturbed_completion(2, 0.1)),
        ("eps", lambda: perturbed_completion(3, 1.1)),
        ("order", lambda: kronecker_power(EYE, 0)),
    ],
)
def test_refuses(name, call):
    with pytest.raises(ValueError, match=f"^{name}:"):
        call()


def test_the_spurious_completion_is_a_minimum_of_a_loss_above_zero():
    x, weights, target = spurious_completion(5, 0.3)
    assert float(weighted_factor_loss(x, weights, target)) > 0.3
    np.testing.assert_allclose(jax.grad(weighted_factor_loss)(x, weights, target), 0, atol=1e-9)
    assert np.linalg.eigvalsh(weighted_factor_hessian(x, weights, target)).min() > 0.1
    for a, b in zip((weights, target), perturbed_completion(5, 0.3), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="steps"):
        spurious_completion(5, 0.3, steps=0)
