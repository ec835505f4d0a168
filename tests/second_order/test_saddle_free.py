"""Saddle-free Newton: the absolute Hessian, its Krylov version, saddles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import sqrtm

from attractor import Minimization, run
from attractor.second_order.saddle_free import SaddleFreeNewton, abs_hessian_solve

RNG = np.random.default_rng(0)
H = RNG.standard_normal((8, 8))
H = H + H.T
G = RNG.standard_normal(8)


def test_the_absolute_value_is_the_root_of_the_square():
    with jax.enable_x64(True):
        expected = np.linalg.solve(np.real(sqrtm(H @ H)) + 0.1 * np.eye(8), G)
        np.testing.assert_allclose(abs_hessian_solve(jnp.asarray(H), jnp.asarray(G), 0.1), expected, rtol=1e-9)


def test_ten_steps_by_hand():
    def loss(x):
        return 0.5 * x @ jnp.asarray(H) @ x + 0.25 * jnp.sum(x**4)

    with jax.enable_x64(True):
        trace = run(Minimization(loss, jnp.asarray(G)), SaddleFreeNewton(0.5, 0.1), steps=10)
        x = G.copy()
        for _ in range(10):
            values, basis = np.linalg.eigh(H + 3 * np.diag(x**2))
            x -= 0.5 * basis @ ((basis.T @ (H @ x + x**3)) / (np.abs(values) + 0.1))
        np.testing.assert_allclose(np.asarray(trace.final)[0, 0], x, rtol=1e-6)


def test_a_whole_krylov_space_gives_the_dense_step():
    problem = Minimization(lambda x: 0.5 * x @ jnp.asarray(H) @ x, jnp.asarray(G))
    with jax.enable_x64(True):
        problem = Minimization(lambda x: 0.5 * x @ jnp.asarray(H) @ x, jnp.asarray(G))
        dense, krylov = (run(problem, SaddleFreeNewton(1.0, 0.1, k), steps=1) for k in (None, 8))
        np.testing.assert_allclose(krylov.final, dense.final, rtol=1e-6)


def test_refuses_bad_hyperparameters():
    for name, bad in (("learning_rate", 0.0), ("damping", 0.0), ("krylov_dim", 0)):
        with pytest.raises(ValueError, match=name):
            SaddleFreeNewton(**{name: bad})
