"""Models at the edge of stability against gradient descent, numerical integration and dense Hessians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy.integrate import solve_ivp

from attractor.landscape import (
    CentralFlow,
    QuadraticRegression,
    oscillation_covariance,
    scalar_network_flow_sharpness,
    scalar_network_flow_solution,
    scalar_network_loss,
    squared_regression_flow_sharpness,
)

RNG = np.random.default_rng(0)


def test_quadratic_regression_in_its_outputs():
    offset, linear, curvature = RNG.standard_normal(3), RNG.standard_normal((3, 5)), RNG.standard_normal((3, 5, 5))
    theta = RNG.standard_normal(5)
    symmetric = (curvature + curvature.transpose(0, 2, 1)) / 2

    def residuals(x):
        return offset + linear @ x + np.einsum("npq,p,q->n", symmetric, x, x) / 2

    def jacobian(x):
        return linear + np.einsum("npq,q->np", symmetric, x)

    with jax.enable_x64(True):
        model = QuadraticRegression(*(jnp.asarray(a) for a in (offset, linear, curvature)))
        state = model.residuals(jnp.asarray(theta)), model.jacobian(jnp.asarray(theta))
        np.testing.assert_allclose(state[0], residuals(theta), rtol=1e-12)
        np.testing.assert_allclose(state[1], jacobian(theta), rtol=1e-12)
        for _ in range(3):
            theta = theta - 0.03 * residuals(theta) @ jacobian(theta)
            state = model.step(*state, 0.03)
        np.testing.assert_allclose(state[0], residuals(theta), rtol=1e-9)
        np.testing.assert_allclose(state[1], jacobian(theta), rtol=1e-9)


def test_quadratic_regression_refuses():
    with pytest.raises((ValueError, TypeCheckError), match="curvature"):  # the annotations refuse it here
        QuadraticRegression(jnp.zeros(2), jnp.zeros((2, 3)), jnp.zeros((3, 2, 3)))
    with pytest.raises(ValueError, match=r"^learning_rate"):
        QuadraticRegression(jnp.zeros(1), jnp.zeros((1, 2)), jnp.zeros((1, 2, 2))).step(
            jnp.ones(1), jnp.ones((1, 2)), 0.0
        )


def test_where_gradient_flow_of_a_scalar_network_ends():
    starts = np.array([[1.7, -0.4, -0.9], [2.5, 1.9, 1.1], [0.3, 0.7, 0.2], [-3.0, -0.1, 2.0]])
    targets = np.array([1.0, 0.6, 2.5, 1.0])

    def flow(_, w, target):
        return -(np.prod(w) - target) * np.array([w[1] * w[2], w[0] * w[2], w[0] * w[1]])

    with jax.enable_x64(True):
        arrays = jnp.asarray(starts), jnp.asarray(targets)
        ends, sharp = jax.jit(
            jax.vmap(lambda w, y: (scalar_network_flow_solution(w, y), scalar_network_flow_sharpness(w, y)))
        )(*arrays)
        hessians = jax.jit(jax.vmap(jax.hessian(scalar_network_loss)))(ends, arrays[1])
    for start, target, end in zip(starts, targets, ends, strict=True):
        last = solve_ivp(flow, (0, 100), start, args=(target,), rtol=1e-10, atol=1e-13, method="LSODA").y[:, -1]
        np.testing.assert_allclose(end, last, rtol=1e-7)
    np.testing.assert_allclose(sharp, np.linalg.eigvalsh(hessians)[:, -1], rtol=1e-9)


def test_scalar_networks_refuse():
    assert np.isnan(scalar_network_flow_solution(jnp.array([1.0, -2.0, 1.0]))).all()
    with pytest.raises(ValueError, match=r"^target"):
        scalar_network_flow_sharpness(jnp.array([1.0, 2.0]), -1.0)


def test_where_gradient_flow_of_squared_regression_ends():
    inputs, labels = RNG.standard_normal((2, 4)), np.array([1.5, -2.0])
    u, v = RNG.standard_normal((2, 4))

    def flow(_, w):
        slope = inputs.T @ (inputs @ (w[:4] ** 2 - w[4:] ** 2) - labels)
        return np.concatenate([-slope * w[:4], slope * w[4:]])

    end = solve_ivp(flow, (0, 200), np.concatenate([u, v]), rtol=1e-10, atol=1e-13, method="LSODA").y[:, -1]
    jacobian = 2 * np.hstack([inputs * end[:4], -inputs * end[4:]])
    with jax.enable_x64(True):
        arrays = (jnp.asarray(a) for a in (u, v, inputs, labels))
        found = jax.jit(squared_regression_flow_sharpness)(*arrays)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(jacobian.T @ jacobian / 2)[-1], rtol=1e-7)
    with pytest.raises(ValueError, match=r"^inputs: expected at most d = 1"):
        squared_regression_flow_sharpness(jnp.ones(1), jnp.ones(1), jnp.ones((2, 1)), jnp.ones(2))


def test_oscillations_solve_their_complementarity_problem():
    assert float(oscillation_covariance(jnp.array([[-0.6]]), jnp.full((1, 1, 1, 1), 1.5), jnp.zeros((1, 1)))[0, 0]) == (
        pytest.approx(0.4)
    )
    root = RNG.standard_normal((9, 12))
    swapped = root.reshape(3, 3, 12) + root.reshape(3, 3, 12).transpose(1, 0, 2)
    response, half = np.einsum("abi,cdi->abcd", swapped, swapped), RNG.standard_normal((3, 3))
    slack = half + half.T - 2 * np.eye(3)
    with jax.enable_x64(True):
        start = jnp.zeros((3, 3))
        x = np.asarray(oscillation_covariance(jnp.asarray(slack), jnp.asarray(response), start, 5_000))
    left = slack + np.einsum("abcd,cd->ab", response, x)
    assert np.linalg.eigvalsh(x).min() > -1e-9
    assert np.linalg.eigvalsh(left).min() > -1e-6
    assert np.linalg.norm(x) > 0.01
    assert abs(np.sum(x * left)) < 1e-6
    with pytest.raises(ValueError, match=r"^iterations"):
        oscillation_covariance(jnp.eye(2), jnp.ones((2, 2, 2, 2)), jnp.eye(2), 0)


@pytest.mark.parametrize(("decay", "k"), [(None, 1), (0.9, 2)])
def test_a_step_of_the_central_flow(decay, k):
    rng = np.random.default_rng(1)
    half, cubic = rng.standard_normal((4, 4)), rng.standard_normal((4, 4, 4))
    hessian0, slope = half @ half.T + np.diag([0.0, 1.0, 3.0, 9.0]), 3 * rng.standard_normal(4)
    cubic = sum(cubic.transpose(o) for o in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]) / 6
    moment = rng.uniform(20.0, 60.0, 4)
    root = np.ones(4) if decay is None else np.sqrt(moment)
    sharpness = np.linalg.eigvalsh(hessian0 / np.sqrt(np.outer(root, root)))[-1]
    rate, time = 2 / sharpness, 1e-3  # it is at the edge
    p = root / rate

    @jax.jit
    def step(slope, active):
        def loss(w):
            return slope @ w + w @ hessian0 @ w / 2 + w @ cubic @ w @ w / 6

        flow = CentralFlow(loss, rate, decay, directions=k, active=active)
        return flow.step(flow.init(jnp.zeros(4), jnp.asarray(moment)), time)

    with jax.enable_x64(True):
        if not step(jnp.asarray(slope), 1.0).covariance[0, 0] > 0:
            slope = -slope  # then the sharpness grows this way
        after, plain = (step(jnp.asarray(slope), active) for active in (1.0, 0.0))
    values, vectors = np.linalg.eigh(hessian0 / np.sqrt(np.outer(p, p)))
    np.testing.assert_allclose(after.values, values[::-1][:k], rtol=1e-9)
    u = np.asarray(after.basis) / np.sqrt(p)[:, None]
    np.testing.assert_allclose(np.abs(u[:, 0]), np.abs(vectors[:, -1] / np.sqrt(p)), rtol=1e-7)
    covariance = u @ np.asarray(after.covariance) @ u.T
    push = np.einsum("ab,abc->c", covariance, cubic) / 2
    np.testing.assert_allclose(after.params, -time * (slope + push) / p, rtol=1e-8)
    np.testing.assert_allclose(plain.params, -time * slope / p, rtol=1e-8)
    np.testing.assert_allclose(after.excess, np.sum(covariance * hessian0) / 2, rtol=1e-8)
    spread = slope**2 + np.diag(hessian0 @ covariance @ hessian0) - moment
    expected = moment if decay is None else moment + time * (1 - decay) / decay * spread
    np.testing.assert_allclose(after.moment, expected, rtol=1e-8)

    def top(state):  # the eigenvalue of the preconditioned Hessian there
        scale = (np.ones(4) if decay is None else np.sqrt(np.asarray(state.moment))) / rate
        there = hessian0 + cubic @ np.asarray(state.params)
        return np.linalg.eigvalsh(there / np.sqrt(np.outer(scale, scale)))[-1]

    assert top(plain) - 2 > 1e-5
    assert abs(top(after) - 2) < 1e-2 * (top(plain) - 2)


@pytest.mark.parametrize("bad", [{"learning_rate": 0.0}, {"decay": 1.0}, {"directions": 0}, {"iterations": 0}])
def test_central_flows_refuse(bad):
    with pytest.raises(ValueError, match=f"^{next(iter(bad))}"):
        CentralFlow(**({"loss": jnp.sum, "learning_rate": 0.1} | bad))
