"""Newton with a line search: one step on a quadratic, the halving rule, no loss ever above the last."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor import Minimization, run
from attractor.linalg import hvp
from attractor.problems import rosenbrock
from attractor.second_order import line_search_newton, scale_by_newton


def test_direction_solves_the_absolute_hessian():
    with jax.enable_x64(True):
        matrix = jnp.asarray([[1.0, 2.0], [2.0, 1.0]])  # eigenvalues 3 and -1
        x = (jnp.asarray(1.0), jnp.asarray([0.5]))

        def loss(x):
            z = jnp.append(x[0], x[1])
            return 0.5 * z @ matrix @ z

        found, _ = scale_by_newton(0.1).update(jax.grad(loss)(x), optax.EmptyState(), x, hvp=hvp(loss, x))
        absolute = np.array([[2.0, 1.0], [1.0, 2.0]]) + 0.1 * np.eye(2)
        np.testing.assert_allclose(jnp.hstack(jax.tree.leaves(found)), np.linalg.solve(absolute, [2.0, 2.5]))


def test_agrees_with_numpy_on_rosenbrock():
    with jax.enable_x64(True):

        def f(x):
            return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

        z, halved = np.array([-1.2, 1.0]), 0
        for _ in range(10):
            g = np.array([-400 * z[0] * (z[1] - z[0] ** 2) - 2 * (1 - z[0]), 200 * (z[1] - z[0] ** 2)])
            h = np.array([[1200 * z[0] ** 2 - 400 * z[1] + 2, -400 * z[0]], [-400 * z[0], 200.0]])
            values, basis = np.linalg.eigh(h)
            u, t = basis @ ((basis.T @ g) / (abs(values) + 1e-3)), 1.0
            while f(z - t * u) > f(z) - 1e-4 * t * g @ u:
                t, halved = t / 2, halved + 1
            z = z - t * u
        found = run(Minimization(f, jnp.asarray([-1.2, 1.0])), line_search_newton(1e-3), steps=10).final[0, 0]
        assert halved > 0
        np.testing.assert_allclose(found, z, atol=1e-6)


def test_the_loss_never_rises():
    losses = run(rosenbrock(4), line_search_newton(), steps=30, every=1)["loss"].values[0, 0]
    assert (np.diff(losses) <= 1e-6).all()
    assert losses[-1] < 1e-8
