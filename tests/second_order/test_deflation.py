"""Multiplicity structures, deflated systems and the alpha test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.second_order.deflation import ALPHA, DeflatedSystem, alpha_test, inverse_system, newton_iterates


@pytest.fixture(autouse=True)
def _double_precision():
    with jax.enable_x64(True):
        yield


def _cusp(x):
    """Root 0 of multiplicity 3: there y = x^2, and x^3 = 0."""
    return jnp.stack([x[1] - x[0] ** 2, x[0] * x[1]])


def _flat(x):
    """Root 0 of multiplicity 3 whose local ring has two directions: the squares and the product vanish."""
    return jnp.stack([x[0] ** 2, x[0] * x[1], x[1] ** 2])


def test_operators_of_a_curve_and_of_a_plane():
    operators, monomials = inverse_system(_cusp, jnp.zeros(2), 3, 1e-8)
    assert monomials[:4] == [(0, 0), (1, 0), (0, 1), (2, 0)]
    span = np.zeros((3, len(monomials)))  # 1, d/dx and d/dy + (d/dx)^2 / 2
    span[0, 0] = span[1, 1] = span[2, 2] = span[2, 3] = 1
    assert len(operators) == 3
    np.testing.assert_allclose(operators.T @ operators, np.linalg.pinv(span) @ span, atol=1e-12)
    assert len(inverse_system(_flat, jnp.zeros(2), 3, 1e-8)[0]) == 3
    assert len(inverse_system(lambda x: x - x**3, jnp.zeros(1), 3, 1e-8)[0]) == 1  # a simple root


@pytest.mark.parametrize(("f", "basis"), [(_cusp, ((0, 0), (1, 0), (2, 0))), (_flat, ((0, 0), (1, 0), (0, 1)))])
def test_matrices_satisfy_the_equations(f, basis):
    system = DeflatedSystem(f, jnp.zeros(2))
    assert system.basis == basis
    x, y = (np.asarray(m) for m in system.matrices(system.start))
    np.testing.assert_allclose(x @ y, y @ x, atol=1e-12)
    if f is _cusp:
        np.testing.assert_allclose(y, x @ x, atol=1e-12)
    np.testing.assert_allclose(x @ x @ x, 0, atol=1e-12)
    np.testing.assert_allclose(system.equations(system.start), 0, atol=1e-12)


def test_deformation_is_the_polynomial_of_the_matrices():
    system = DeflatedSystem(_cusp, jnp.zeros(2))
    v = system.start + 0.1 * jnp.asarray(np.random.default_rng(0).standard_normal(len(system.start)))
    x, y = (z * np.eye(3) + np.asarray(m) for z, m in zip(v[:2], system.matrices(v), strict=True))
    product = (x @ y + y @ x) / 2  # away from the solution they do not commute
    np.testing.assert_allclose(system.deformation(v), [(y - x @ x)[:, 0], product[:, 0]], atol=1e-12)


def test_the_deformed_system_has_the_multiple_root():
    def f(x):
        return _cusp(x) + 1e-3 * jnp.stack([jnp.sin(x[0] + 1), jnp.exp(x[1])])

    system = DeflatedSystem(f, jnp.array([0.02, -0.01]))
    v = newton_iterates(system.equations, system.start, 8)[-1]
    assert len(inverse_system(system.deformed(v), v[:2], 3, 1e-9)[0]) == 3
    assert 1e-5 < jnp.linalg.norm(system.deformation(v)) < 1e-2


def test_newton_by_hand():
    points = newton_iterates(lambda x: x**2 - 2, jnp.array([1.0]), 4)
    expected = [1.0]
    for _ in range(4):
        expected.append(expected[-1] / 2 + 1 / expected[-1])
    np.testing.assert_allclose(points[:, 0], expected, rtol=1e-12)


def test_alpha_of_a_cubic_by_hand():
    x = 1.1
    test = alpha_test(lambda x: x**3 - 1, jnp.array([x]), 3)
    slope = 3 * x**2
    np.testing.assert_allclose(test.beta, (x**3 - 1) / slope, rtol=1e-12)
    np.testing.assert_allclose(test.gamma, max(3 * x / slope, (1 / slope) ** 0.5), rtol=1e-12)
    np.testing.assert_allclose(test.alpha, test.beta * test.gamma, rtol=1e-12)
    np.testing.assert_allclose(ALPHA, 0.15767, atol=1e-5)
    assert alpha_test(lambda x: 2 * x - 1, jnp.array([7.0]), 1).alpha == 0


def test_alpha_of_two_equations_by_hand():
    a, b = 0.7, -0.4
    test = alpha_test(lambda x: jnp.stack([x[0] ** 2 + 2 * x[1] - 1, x[0] * x[1] + x[1] ** 3]), jnp.array([a, b]), 3)
    inverse = np.linalg.inv([[2 * a, 2], [b, a + 3 * b**2]])
    second, third = np.array([[2, 0, 0, 0], [0, 1, 1, 6 * b]]), np.array([np.zeros(8), [0] * 7 + [6]])
    gammas = np.linalg.norm(inverse @ second) / 2, np.sqrt(np.linalg.norm(inverse @ third) / 6)
    beta = np.linalg.norm(inverse @ [a**2 + 2 * b - 1, a * b + b**3])
    np.testing.assert_allclose(test, [beta * max(gammas), beta, max(gammas)], rtol=1e-12)


def test_refuses_bad_arguments():
    with pytest.raises(ValueError, match="order"):
        inverse_system(_cusp, jnp.zeros(2), 0, 0.1)
    with pytest.raises(ValueError, match="tol"):
        DeflatedSystem(_cusp, jnp.zeros(2), tol=1.0)
    with pytest.raises(ValueError, match="multiplicity structure"):
        DeflatedSystem(_cusp, jnp.array([5.0, 3.0]), tol=1e-6)
    with pytest.raises(ValueError, match="degree"):
        alpha_test(_cusp, jnp.zeros(2), 0)
