"""Proximal maps against SciPy and conjugates, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from attractor.linalg import (
    group_envelope,
    group_envelope_gap,
    onto_balanced_box,
    prox_group_envelope,
    prox_group_lasso,
    soft_threshold,
)

RNG = np.random.default_rng(0)


def test_soft_threshold():
    np.testing.assert_allclose(soft_threshold(jnp.array([-2.0, 0.3, 1.5]), 0.5), [-1.5, 0.0, 1.0])


def test_balanced_box_is_scipys_projection():
    v, signs = 2 * RNG.standard_normal(7), np.array([1.0, -1, -1, 1, 1, 1, -1])
    with jax.enable_x64(True):
        found = np.asarray(onto_balanced_box(jnp.asarray(v), jnp.asarray(signs), 0.9))
        corner = np.asarray(onto_balanced_box(jnp.array([9.0, 9.0]), jnp.array([1.0, -1.0]), 0.9))
    rule = {"type": "eq", "fun": lambda x: signs @ x, "jac": lambda x: signs}
    ours = minimize(
        lambda x: (np.sum((x - v) ** 2) / 2, x - v),
        np.full(7, 0.4),
        jac=True,
        bounds=[(0, 0.9)] * 7,
        constraints=rule,
        tol=1e-14,
    )
    assert len(set(np.clip(found, 0, 0.9).round(6))) == 4  # at both ends, and two inside
    np.testing.assert_allclose(found, ours.x, atol=1e-7)
    np.testing.assert_allclose((signs @ found, *corner), (0.0, 0.9, 0.9), atol=1e-12)


def test_group_lasso_shortens_groups():
    x = jnp.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    np.testing.assert_allclose(prox_group_lasso(x, 1.0), [[2.4, 3.2], [0.0, 0.0], [0.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize("strength", [0.1, 3.0])
@pytest.mark.parametrize("weights", [None, np.array([1.0, 2.0, 0.5, 1.0, 3.0])])
def test_envelope_prox_against_scipy(weights, strength):
    x, k, costs = RNG.standard_normal((5, 2)), 2.0, np.ones(5) if weights is None else weights
    square = np.sum(x**2, 1)

    def value(u):  # the best z for given shares u has been put in
        return np.sum(square * strength / (u + strength)) / 2

    room = {"type": "ineq", "fun": lambda u: k - costs @ u}
    found = minimize(
        value, np.full(5, 0.2), bounds=[(0, 1)] * 5, constraints=[room], tol=1e-12, options={"maxiter": 500}
    )
    with jax.enable_x64(True):
        weights = None if weights is None else jnp.asarray(weights)
        z = np.asarray(prox_group_envelope(jnp.asarray(x), k, strength, weights))
        ours = np.sum((z - x) ** 2) / 2 + strength * float(group_envelope(jnp.asarray(z), k, weights))
    assert ours == pytest.approx(found.fun, abs=1e-6)
    np.testing.assert_allclose(z, x * (found.x / (found.x + strength))[:, None], atol=1e-3)


def test_envelope_is_half_the_square_of_a_sparse_point():
    x = jnp.zeros((6, 3)).at[1].set(2.0).at[4].set(-1.0)
    assert float(group_envelope(x, 2)) == pytest.approx(7.5)
    np.testing.assert_allclose(prox_group_envelope(x, 2, 0.5), x / 1.5, rtol=1e-6)


def test_envelope_for_one_group_is_half_the_square_of_the_sum_of_norms():
    x = jnp.asarray(RNG.standard_normal((6, 3)), float)
    assert float(group_envelope(x, 1)) == pytest.approx(0.5 * float(jnp.linalg.norm(x, axis=1).sum()) ** 2, rel=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_zero_groups_stay(dtype):
    x = jnp.zeros((4, 2), dtype)
    np.testing.assert_array_equal(prox_group_envelope(x, 2, 1.0), x)
    assert float(group_envelope(x, 2)) == 0.0
    assert prox_group_envelope(x + 1, 2, 1.0).dtype == dtype


def test_errors_name_the_argument():
    for name, call in {
        "threshold": lambda: soft_threshold(jnp.ones(2), -1.0),
        "k": lambda: group_envelope(jnp.ones((2, 2)), 0),
        "weights": lambda: group_envelope(jnp.ones((2, 2)), 1, jnp.array([1.0, 0.0])),
        "strength": lambda: prox_group_envelope(jnp.ones((2, 2)), 1, 0.0),
    }.items():
        with pytest.raises(ValueError, match=name):
            call()


def test_the_gap_of_the_envelope_is_zero_at_the_solution_only():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(5).standard_normal((6, 3)))
        for k, strength in ((1, 0.5), (3, 2.0), (5, 0.1)):
            z = prox_group_envelope(x, k, strength)
            assert float(group_envelope_gap(x, z, k, strength)) == pytest.approx(0, abs=1e-9)
            for moved in (1.02 * z, z.at[0].add(0.05), 0.0 * z):
                assert float(group_envelope_gap(x, moved, k, strength)) > 1e-6
    with pytest.raises(ValueError, match="strength"):
        group_envelope_gap(x, x, 2, 0.0)
