"""Newton's method on Lagrangians, and the divergence of its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor import run
from attractor.objectives import Constrained
from attractor.second_order.lagrange_newton import LagrangeNewton, newton_divergence, newton_step


def _bent(z):
    return jnp.sum(z**4) / 4 + z[0] * z[1] ** 2 - z[2] * z[0] + jnp.exp(0.3 * z[1])


def test_divergence_is_the_trace_of_the_jacobian():
    with jax.enable_x64(True):

        @jax.jit
        @jax.vmap
        def both(z):
            field = lambda z: -jnp.linalg.solve(jax.hessian(_bent)(z), jax.grad(_bent)(z))  # noqa: E731
            found = newton_step(_bent, z), newton_divergence(_bent, z)
            return found, (field(z), jnp.trace(jax.jacfwd(field)(z)))

        found, expected = both(jnp.asarray(np.random.default_rng(0).standard_normal((10, 3))))
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-8)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-8)


def _on_the_circle(start):
    return Constrained(lambda x: x[0] + 2 * x[1], lambda x: jnp.array([x @ x - 1]), jnp.asarray(start))


def test_plain_steps_by_hand():
    start = np.array([0.5, -1.3])
    x, multiplier = start, -np.array([1, 2]) @ start / (2 * start @ start)
    for _ in range(5):
        gradient = np.array([*(np.array([1, 2]) + 2 * multiplier * x), x @ x - 1])
        hessian = np.block([[2 * multiplier * np.eye(2), 2 * x[:, None]], [2 * x[None], np.zeros((1, 1))]])
        step = -np.linalg.solve(hessian, gradient)
        x, multiplier = x + step[:2], multiplier + step[2]
    with jax.enable_x64(True):
        found = run(_on_the_circle(start), LagrangeNewton(search=False), steps=5).final
    np.testing.assert_allclose(found[0, 0], x, rtol=1e-8)


def test_search_by_hand_finds_the_stationary_point():
    def oracles(z):  # the Hessian is linear in z, so that its derivative along d is its value at d
        gradient = np.array([1 + 2 * z[2] * z[0], 2 + 2 * z[2] * z[1], z[0] ** 2 + z[1] ** 2 - 1])
        return gradient, np.array([[2 * z[2], 0, 2 * z[0]], [0, 2 * z[2], 2 * z[1]], [2 * z[0], 2 * z[1], 0]])

    def direction(z):
        gradient, hessian = oracles(z)
        return -np.linalg.solve(hessian, gradient)

    start, chosen = np.array([0.5, -1.3]), []
    z = np.append(start, -np.array([1, 2]) @ start / (2 * start @ start))
    path = [z[:2]]
    for t in range(6):
        size, d = 1.0, direction(z)
        if t % 2 == 0:
            trials = [z + 0.5**k * d for k in range(6)]
            criterion = [abs(np.trace(np.linalg.solve(oracles(w)[1], oracles(direction(w))[1]))) for w in trials]
            size = 0.5 ** np.argmin(criterion)
            chosen.append(size)
        z = z + size * d
        path.append(z[:2])
    assert 0.5**5 < chosen[0] < 1

    with jax.enable_x64(True):
        problem = _on_the_circle(start)
        probes = {"x": lambda problem, x, key: x, **problem.probes}
        trace = run(problem, LagrangeNewton(), steps=30, every=1, probes=probes)
    np.testing.assert_allclose(trace["x"].values[0, 0, :7], path, rtol=1e-8)
    assert float(trace.last("kkt").item()) < 1e-10


def test_singular_hessians_do_no_harm():
    problem = Constrained(lambda x: 0.0 * jnp.sum(x), lambda x: jnp.zeros(1) * x[0], jnp.ones(2))
    np.testing.assert_array_equal(run(problem, LagrangeNewton(), steps=3).final[0, 0], np.ones(2))


def test_refuses_bad_hyperparameters():
    with pytest.raises(ValueError, match="trials"):
        LagrangeNewton(trials=0)
