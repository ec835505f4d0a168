"""Proximal steps on a proxy against the linear system that they solve, and errors."""

import functools

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import Composite, Minimization, run
from attractor.optim import ProxyProximal, TargetSurrogate, target_surrogate

RNG = np.random.default_rng(0)
ROOT = RNG.standard_normal((6, 4))
MATRIX, CENTER = ROOT.T @ ROOT / 6, RNG.standard_normal(4)


def quadratic(matrix, center, x):
    return (x - center) @ matrix @ (x - center) / 2


def proxy(matrix, center):
    return functools.partial(quadratic, jnp.asarray(matrix, float), jnp.asarray(center, float))


def test_ten_steps_solve_their_linear_systems():
    other, shift = MATRIX + 0.1 * np.diag([1.0, -0.5, 0.3, 1.0]), RNG.standard_normal(4)
    problem = Minimization(proxy(MATRIX, CENTER), jnp.zeros(4))
    method = ProxyProximal(proxy(other, shift), learning_rate=5.0, inner_rate=0.2, inner_steps=1_000)
    x = np.zeros(4)
    for _ in range(10):
        x = x - np.linalg.solve(other + np.eye(4) / 5.0, MATRIX @ (x - CENTER))
    np.testing.assert_allclose(np.asarray(run(problem, method, steps=10).final)[0, 0], x, atol=1e-5)


def test_a_proxy_of_zero_and_one_step_is_gradient_descent():
    problem = Minimization(proxy(MATRIX, CENTER), jnp.zeros(4))
    method = ProxyProximal(proxy(0 * MATRIX, CENTER), learning_rate=5.0, inner_rate=0.1, inner_steps=1)
    np.testing.assert_allclose(np.asarray(run(problem, method, steps=1).final)[0, 0], 0.1 * MATRIX @ CENTER, rtol=1e-5)


@pytest.mark.parametrize("name", ["learning_rate", "inner_rate", "inner_steps"])
def test_rejects(name):
    with pytest.raises(ValueError, match=name):
        ProxyProximal(proxy(MATRIX, CENTER), **{name: 0})


def regression():
    rows = jnp.asarray(ROOT, float)
    return Composite(lambda x: rows @ x["w"] + x["b"], lambda z: jnp.mean(jnp.cosh(z - 1)), {"w": CENTER, "b": 0.5})


def test_one_inner_step_is_gradient_descent():
    ours, theirs = (run(regression(), m, steps=10).final for m in (TargetSurrogate(3.0, 0.05, 1), optax.sgd(0.05)))
    np.testing.assert_allclose(ours["w"], theirs["w"], rtol=1e-5)
    np.testing.assert_allclose(ours["b"], theirs["b"], rtol=1e-5)


def test_many_inner_steps_project_the_target_step():
    rows, y, x = ROOT, RNG.standard_normal(6), np.zeros(4)
    problem = Composite(lambda x: jnp.asarray(rows, float) @ x, lambda z: jnp.sum(jnp.cosh(z - y)), jnp.zeros(4))
    for _ in range(10):
        x = np.linalg.lstsq(rows, rows @ x - 0.2 * np.sinh(rows @ x - y))[0]
    found = run(problem, TargetSurrogate(0.2, float(0.2 / np.linalg.norm(rows, 2) ** 2), 500), steps=10).final
    np.testing.assert_allclose(np.asarray(found)[0, 0], x, atol=1e-5)


def test_decaying_steps_on_minibatches_agree_with_numpy():
    rows, y, x = ROOT, RNG.standard_normal(6), RNG.standard_normal(4)
    problem = Composite(
        lambda x, batch: batch[0] @ x, lambda z, batch: jnp.mean(jnp.cosh(z - batch[1])), x,
        (rows, y), batch_size=3,
    )  # fmt: skip
    method = TargetSurrogate(0.6, 0.05, inner_steps=4, power=0.5)
    w, state = jnp.asarray(x, float), method.init(problem, x, jr.key(0))
    for t in range(10):
        a, b = (np.asarray(leaf, float) for leaf in problem.sample(jr.key(t)))
        shrink, slope, start = (t + 1) ** -0.5, np.sinh(a @ x - b) / 3, x
        for _ in range(4):
            x = x - 0.05 * shrink * a.T @ (slope + a @ (x - start) / (0.6 * shrink))
        w, state = method.step(problem, w, state, jr.key(t))
        np.testing.assert_allclose(w, x, rtol=1e-4, atol=1e-5)


def test_surrogate_rejects():
    with pytest.raises(ValueError, match="eta"):
        target_surrogate(regression(), {"w": jnp.zeros(4), "b": jnp.zeros(())}, None, 0.0)
    with pytest.raises(ValueError, match="inner_steps"):
        TargetSurrogate(inner_steps=0)
