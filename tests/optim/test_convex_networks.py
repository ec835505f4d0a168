"""Convex programs of ReLU networks: against SciPy's SLSQP, recovery, arrangements, the sampled lasso, and errors."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from sklearn.linear_model import Lasso

from attractor.optim import (
    ReluNetwork,
    convex_adversarial_relu,
    convex_relu_admm,
    recover_relu_network,
    relu_dual_bound,
    relu_training_loss,
    robust_arrangements,
    sample_relu_arrangements,
    sampled_convex_program,
)

RNG = np.random.default_rng(0)
X, Y = np.column_stack([RNG.standard_normal(8), np.ones(8)]), RNG.standard_normal(8)


def test_all_arrangements_of_a_line():
    patterns = np.asarray(sample_relu_arrangements(jr.key(0), jnp.asarray(X), 2_000))
    assert len(patterns) == 16
    assert len(np.unique(patterns, axis=0)) == 16


def test_arrangements_of_perturbed_data_are_more():
    x = jnp.asarray(X)
    assert len(sample_relu_arrangements(jr.key(0), x, 500, 0.3)) > len(sample_relu_arrangements(jr.key(0), x, 500))


def test_admm_against_slsqp():
    with jax.enable_x64(True):
        x, y, beta = jnp.asarray(X), jnp.asarray(Y), 0.2
        patterns = sample_relu_arrangements(jr.key(1), x, 6)
        solution = jax.jit(lambda: convex_relu_admm(x, y, patterns, beta, 1.0, 2_000))()
        network = recover_relu_network(solution.z[0])
        ours = float(relu_training_loss(network, x, y, beta))
        d = np.asarray(patterns, float)

        def value(w):
            w = w.reshape(2, len(d), 2)
            return np.sum((np.einsum("pn,nd,pd->n", d, X, w[0] - w[1]) - Y) ** 2) / 2 + beta * np.sum(
                np.sqrt(np.sum(w**2, -1) + 1e-14)
            )

        cone = {"type": "ineq", "fun": lambda w: np.einsum("pn,nd,spd->spn", 2 * d - 1, X, w.reshape(2, -1, 2)).ravel()}
        start = RNG.standard_normal(4 * len(d)) / 100
        found = minimize(value, start, constraints=[cone], method="SLSQP", options={"maxiter": 500, "ftol": 1e-12})
        assert ours == pytest.approx(found.fun, rel=1e-5)
        assert relu_dual_bound(solution.z[0], x, y, patterns, beta) == pytest.approx(found.fun, rel=1e-5)
        for factor in (0.0, 0.8, 1.3):  # of other weights it is below, and still a bound
            assert relu_dual_bound(factor * solution.z[0], x, y, patterns, beta) < (1 - 1e-4) * found.fun
    with pytest.raises(ValueError, match="beta"):
        relu_dual_bound(solution.z[0], x, y, patterns, 0.0)


def test_two_iterations_of_admm_are_those_of_dense_algebra():
    with jax.enable_x64(True):
        x, y, beta, rho = jnp.asarray(X), jnp.asarray(Y), 0.2, 0.7
        patterns = sample_relu_arrangements(jr.key(1), x, 4)
        found = convex_relu_admm(x, y, patterns, beta, rho, 2)
    d = np.asarray(patterns, float)
    (p, n), dim = d.shape, X.shape[1]
    features = np.concatenate([[np.diag(row) @ X for row in d], [-np.diag(row) @ X for row in d]])  # of u, of v
    cones = np.concatenate([[np.diag(2 * row - 1) @ X for row in d]] * 2)
    wide = np.concatenate(list(features), 1)
    gram = wide.T @ wide + rho * np.eye(2 * p * dim)
    for i, cone in enumerate(cones):
        gram[i * dim : (i + 1) * dim, i * dim : (i + 1) * dim] += rho * cone.T @ cone
    z, s = np.zeros((2 * p, dim)), np.zeros((2 * p, n))
    dual_z, dual_s = np.zeros_like(z), np.zeros_like(s)
    for _ in range(2):
        right = wide.T @ Y + rho * (z - dual_z + np.einsum("pnd,pn->pd", cones, s - dual_s)).ravel()
        w = np.linalg.solve(gram, right).reshape(2 * p, dim)
        image = np.einsum("pnd,pd->pn", cones, w)
        moved = w + dual_z
        z = moved * np.maximum(0, 1 - beta / rho / np.linalg.norm(moved, axis=1, keepdims=True))
        s = np.maximum(image + dual_s, 0)
        dual_z, dual_s = dual_z + w - z, dual_s + image - s
    np.testing.assert_allclose(found.z[0].reshape(2 * p, dim), z, atol=1e-10)
    np.testing.assert_allclose(found.z[1].reshape(2 * p, n), s, atol=1e-10)


def test_recovery_keeps_the_function():
    v = jnp.asarray(RNG.standard_normal((2, 3, 2)), dtype=jnp.float32).at[0, 1].set(0)
    x = jnp.asarray(X, dtype=jnp.float32)
    expected = jax.nn.relu(x @ v[0].T).sum(1) - jax.nn.relu(x @ v[1].T).sum(1)
    network = recover_relu_network(v)
    np.testing.assert_allclose(network(x), expected, atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(network.hidden, axis=1), jnp.abs(network.output), atol=1e-5)
    size = float(jnp.linalg.norm(v, axis=-1).sum())
    assert float(relu_training_loss(network, x, expected, 1.0)) == pytest.approx(size, rel=1e-5)


def test_sampled_program_is_a_lasso():
    with jax.enable_x64(True):
        x, y = jnp.asarray(X), jnp.asarray(Y)
        network = sampled_convex_program(jr.key(0), x, y, 5, 0.1, 20_000)
        sphere = jr.normal(jr.key(0), (5, 2))
        features = np.maximum(X @ np.asarray(sphere / jnp.linalg.norm(sphere, axis=1, keepdims=True)).T, 0)
        lasso = Lasso(alpha=0.1 / 8, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(features, Y)
        np.testing.assert_allclose(network(x), features @ lasso.coef_, atol=1e-6)
        value = np.sum((features @ lasso.coef_ - Y) ** 2) / 2 + 0.1 * np.abs(lasso.coef_).sum()
        assert float(relu_training_loss(network, x, y, 0.1)) == pytest.approx(value, rel=1e-6)


def test_errors():
    x, y = jnp.asarray(X), jnp.asarray(Y)
    patterns = jnp.ones((1, 8), bool)
    for call, name in (
        (lambda: sample_relu_arrangements(jr.key(0), x, 0), "count"),
        (lambda: sample_relu_arrangements(jr.key(0), x, 1, -1.0), "radius"),
        (lambda: convex_relu_admm(x, y, patterns, beta=0.0), "beta"),
        (lambda: convex_relu_admm(x, y, patterns, rho=-1.0), "rho"),
        (lambda: sampled_convex_program(jr.key(0), x, y, 0), "count"),
        (lambda: sampled_convex_program(jr.key(0), x, y, 3, -0.1), "beta"),
    ):
        with pytest.raises(ValueError, match=name):
            call()


def test_a_network_without_neurons_at_work():
    network = ReluNetwork(jnp.zeros((2, 2)), jnp.zeros(2))
    np.testing.assert_array_equal(network(jnp.ones((3, 2))), jnp.zeros(3))


def test_adversarial_program_against_slsqp():
    x, y, radius, beta = X, np.sign(Y), np.array([0.2, 0.0]), 0.05
    with jax.enable_x64(True):
        patterns = sample_relu_arrangements(jr.key(1), jnp.asarray(x), 4, 0.2)
        args = jnp.asarray(x), jnp.asarray(y), patterns, jnp.asarray(radius), beta
        weights, hinge = (np.asarray(part) for part in jax.jit(convex_adversarial_relu)(*args))
    d, m = np.asarray(patterns, float), 4 * len(patterns)
    signs = 2 * d - 1

    def parts(z):  # weights, bounds on their first coordinate, bounds on the slopes' first coordinate, hinge losses
        return z[:m].reshape(2, -1, 2), z[m : m + m // 2].reshape(2, -1), z[-16:-8], z[-8:]

    def value(z):
        w, _, _, hinge = parts(z)
        return hinge.mean() + beta * np.sqrt((w**2).sum(-1) + 1e-14).sum()

    def slacks(z):
        w, bound, slope, hinge = parts(z)
        local = np.einsum("pn,pd->nd", d, w[0] - w[1])
        cones = signs * (w @ x.T) - 0.2 * bound[..., None]
        return np.concatenate([
            cones.ravel(), (bound - w[..., 0]).ravel(), (bound + w[..., 0]).ravel(), slope - local[:, 0],
            slope + local[:, 0], hinge, hinge - 1 + y * (x * local).sum(1) - 0.2 * slope,
        ])  # fmt: skip

    start = np.concatenate([RNG.standard_normal(m) / 100, np.ones(m // 2 + 16)])
    found = minimize(
        value,
        start,
        constraints=[{"type": "ineq", "fun": slacks}],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert hinge.mean() + beta * np.linalg.norm(weights, axis=-1).sum() == pytest.approx(found.fun, abs=1e-4)


def test_a_pattern_that_tells_overlapping_boxes_apart_admits_no_weights():
    rng = np.random.default_rng(5)
    x = np.column_stack([rng.uniform(-1, 1, (7, 2)), np.ones(7)])
    radius = np.array([0.4, 0.3, 0.0])
    patterns = np.asarray(sample_relu_arrangements(jr.key(2), jnp.asarray(x, jnp.float32), 400))
    found = np.asarray(robust_arrangements(jnp.asarray(patterns), jnp.asarray(x, jnp.float32), jnp.asarray(radius)))
    assert 0 < found.sum() < len(found)
    overlap = np.array([[(np.abs(a - b) < 2 * radius)[:2].all() for a in x] for b in x])
    np.testing.assert_array_equal(found, [not (overlap & (p[:, None] != p)).any() for p in patterns])
    for pattern in patterns[~found][:4]:  # weights plus - minus that keep their signs throughout the boxes: zero only
        signed = (2 * pattern - 1)[:, None] * x
        limits = {"A_ub": np.concatenate([radius - signed, radius + signed], 1), "b_ub": np.zeros(7)}
        for direction in (*np.eye(3), *-np.eye(3)):
            best = linprog(-np.concatenate([direction, -direction]), **limits, bounds=[(0, 1)] * 6)
            assert best.fun == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="radius"):
        robust_arrangements(jnp.asarray(patterns), jnp.asarray(x), -0.1)
