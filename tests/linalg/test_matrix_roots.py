"""Matrix roots against eigenvalues and SciPy's approximants, their gradients against SciPy's Lyapunov solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import pade
from scipy.linalg import solve_continuous_lyapunov
from scipy.special import binom

from attractor.linalg import lyapunov_sign, sqrtm, sqrtm_eigh, sqrtm_newton_schulz

RNG = np.random.default_rng(0)
ROOT = RNG.standard_normal((2, 4, 4))
A = ROOT @ ROOT.swapaxes(1, 2) + 2 * np.eye(4)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("series", "degree"), [("pade", 3), ("taylor", 4)])
def test_the_approximants_are_those_of_the_series(series, degree, inverse):
    with jax.enable_x64(True):
        found = sqrtm(jnp.asarray(A), degree, series=series, inverse=inverse)
    sign = -1 if inverse else 1
    coefficients = [(-1) ** k * binom(sign / 2, k) for k in range(2 * degree + 1)]
    for a, root in zip(A, found, strict=True):
        norm = np.linalg.norm(a)
        z, vectors = np.linalg.eigh(np.eye(4) - a / norm)
        if series == "pade":
            above, below = pade(coefficients, degree, degree)
            values = above(z) / below(z)
        else:
            values = np.polyval(coefficients[degree::-1], z)
        np.testing.assert_allclose(root, norm ** (sign / 2) * (vectors * values) @ vectors.T, rtol=1e-8)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_are_those_of_the_exact_root(inverse):
    G = RNG.standard_normal((2, 4, 4))
    with jax.enable_x64(True):
        found = jax.grad(lambda a: jnp.sum(G * sqrtm(a, 12, inverse=inverse, iterations=14)))(jnp.asarray(A))
        root = np.asarray(sqrtm_eigh(jnp.asarray(A)))
    for b, g, gradient in zip(root, G, found, strict=True):
        if inverse:  # d(B⁻¹) = -B⁻¹ dB B⁻¹
            g = -np.linalg.solve(b, np.linalg.solve(b, g.T).T)
        np.testing.assert_allclose(gradient, solve_continuous_lyapunov(b, g), atol=1e-8)
    if not inverse:
        np.testing.assert_allclose(root @ root, A, atol=1e-10)


def test_each_step_of_the_lyapunov_solve_is_that_of_the_paper():
    b, c = A[0], ROOT[0]
    with jax.enable_x64(True):
        found = lyapunov_sign(jnp.asarray(b), jnp.asarray(c), 3)
    c, b = c / np.linalg.norm(b), b / np.linalg.norm(b)
    for _ in range(3):
        c = (-b @ b @ c + b @ c @ b + c @ (3 * np.eye(4) - b @ b)) / 2
        b = b @ (3 * np.eye(4) - b @ b) / 2
    np.testing.assert_allclose(found, c / 2, atol=1e-12)


def test_newton_schulz_is_the_coupled_iteration():
    with jax.enable_x64(True):
        found = sqrtm_newton_schulz(jnp.asarray(A), 30)
        np.testing.assert_allclose(found, sqrtm_eigh(jnp.asarray(A)), atol=1e-9)
    y, z = A[0] / np.linalg.norm(A[0]), np.eye(4)
    for _ in range(2):
        t = (3 * np.eye(4) - z @ y) / 2
        y, z = y @ t, t @ z
    np.testing.assert_allclose(sqrtm_newton_schulz(jnp.asarray(A), 2)[0], y * np.linalg.norm(A[0]) ** 0.5, rtol=1e-4)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("A", lambda: sqrtm(jnp.ones((2, 2, 2)).at[0, 0, 0].set(jnp.nan))),
        ("A: expected a symmetric", lambda: sqrtm(jnp.array([[1.0, 0.5], [0.0, 1.0]]))),
        ("A: expected a positive", lambda: sqrtm(jnp.diag(jnp.array([1.0, -1.0])))),
        ("A: expected a positive", lambda: sqrtm(jnp.diag(jnp.array([1.0, 0.0])), inverse=True)),
        ("A: expected square", lambda: sqrtm(jnp.ones((0, 0)))),
        ("degree", lambda: sqrtm(jnp.eye(2), 0)),
        ("iterations", lambda: sqrtm(jnp.eye(2), iterations=0)),
        ("series", lambda: sqrtm(jnp.eye(2), series="chebyshev")),  # pyright: ignore[reportArgumentType]
        ("B", lambda: lyapunov_sign(jnp.array([[1.0, 0.5], [0.0, 1.0]]), jnp.eye(2))),
    ],
)
def test_bad_input_is_named(argument, call):
    with pytest.raises((ValueError, TypeError), match=argument):
        call()
    sqrtm(jnp.diag(jnp.array([1.0, 0.0])))  # singular up to rounding
