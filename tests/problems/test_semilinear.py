"""The equation with a kink against SciPy, its derivative against differences, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import root

from attractor.problems import (
    banded_newton,
    losses_without_kink,
    negative_laplacian,
    residual_estimate,
    semilinear_control,
    semismooth_newton,
    snapshot_modes,
)

ELEMENTS = 12


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def _right():
    return 40.0 * np.sin(2 * np.pi * np.arange(1, ELEMENTS) / ELEMENTS) + 3.0


def test_the_state_solves_the_equation():
    matrix = np.asarray(negative_laplacian(ELEMENTS))
    expected = root(lambda y: matrix @ y + np.maximum(y, 0) - _right(), np.zeros(ELEMENTS - 1), tol=1e-12).x
    found = semismooth_newton(jnp.asarray(matrix), jnp.eye(ELEMENTS - 1), jnp.asarray(_right()))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert 0 < (expected > 0).sum() < ELEMENTS - 1  # both sides of the kink


def test_without_a_kink_it_is_the_laplacian():
    s = np.arange(1, ELEMENTS) / ELEMENTS
    found = semismooth_newton(negative_laplacian(ELEMENTS), jnp.eye(ELEMENTS - 1), -2 * jnp.ones(ELEMENTS - 1))
    np.testing.assert_allclose(found, -s * (1 - s), rtol=1e-9)


@pytest.mark.parametrize("modes", [None, 4])
def test_gradients_are_those_of_differences(modes):
    basis = None if modes is None else jnp.linalg.qr(jax.random.normal(jax.random.key(0), (ELEMENTS - 1, modes)))[0]
    model = semilinear_control(ELEMENTS, basis)
    losses = jax.jit(lambda x: jnp.asarray(model.losses(x, None)))
    x = jnp.asarray(_right() / ELEMENTS**0.5)
    nudges = 1e-6 * np.eye(ELEMENTS - 1)
    differences = np.stack([losses(x + n) - losses(x - n) for n in nudges], axis=1) / 2e-6
    np.testing.assert_allclose(jax.jacrev(losses)(x), differences, rtol=1e-6, atol=1e-8)


def test_a_basis_of_all_states_changes_nothing():
    x = jnp.asarray(_right())
    whole, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (ELEMENTS - 1, ELEMENTS - 1)))
    ours, reduced = (semilinear_control(ELEMENTS, basis).losses(x, None) for basis in (None, whole))
    np.testing.assert_allclose(ours, reduced, rtol=1e-9)


@pytest.mark.parametrize(("name", "call"), [
    ("elements", lambda: semilinear_control(1)),
    ("basis", lambda: semilinear_control(10, jnp.eye(10))),
])  # fmt: skip
def test_errors_name_the_argument(name, call):
    with pytest.raises(ValueError, match=name):
        call()


def test_the_band_gives_the_states_and_gradients_of_the_dense_matrix():
    matrix = negative_laplacian(ELEMENTS)
    dense = semismooth_newton(matrix, jnp.eye(ELEMENTS - 1), jnp.asarray(_right()))
    np.testing.assert_allclose(banded_newton(jnp.asarray(_right())), dense, rtol=1e-9)
    x = jnp.asarray(np.random.default_rng(1).standard_normal(ELEMENTS - 1) * 8)
    jacobians = [jax.jacrev(lambda x, m=m: jnp.asarray(m.losses(x, None)))(x)
                 for m in (semilinear_control(ELEMENTS), semilinear_control(ELEMENTS, banded=True))]  # fmt: skip
    np.testing.assert_allclose(*jacobians, rtol=1e-9)
    with pytest.raises(ValueError, match="banded"):
        semilinear_control(ELEMENTS, jnp.eye(ELEMENTS - 1), banded=True)


def test_the_residual_is_measured_in_the_dual_norm():
    matrix, state = np.asarray(negative_laplacian(ELEMENTS)), np.random.default_rng(0).standard_normal(ELEMENTS - 1)
    residual = _right() - matrix @ state - np.maximum(state, 0)
    expected = np.sqrt(residual @ np.linalg.solve(matrix, residual))
    assert float(residual_estimate(jnp.asarray(state), jnp.asarray(_right()))) == pytest.approx(expected, rel=1e-9)


def test_the_losses_without_a_kink_are_right_and_their_gradient_is_not():
    x = np.random.default_rng(0).standard_normal(ELEMENTS - 1) * 3
    losses = semilinear_control(ELEMENTS).losses
    both = (lambda x: jnp.stack(losses(x, None))), losses_without_kink
    right, wrong = (np.asarray(jax.jacobian(f)(jnp.asarray(x))) for f in both)
    np.testing.assert_allclose(losses_without_kink(jnp.asarray(x)), losses(jnp.asarray(x), None), rtol=1e-9)
    np.testing.assert_allclose(wrong[1], right[1], rtol=1e-9)
    state = np.linalg.inv(negative_laplacian(ELEMENTS)) * ELEMENTS**0.5  # of the linear equation
    y = np.asarray(banded_newton(jnp.asarray(x * ELEMENTS**0.5)))
    off = y - np.sin(2 * np.pi * np.arange(1, ELEMENTS) / ELEMENTS)
    np.testing.assert_allclose(wrong[0], 2 * off @ state / ELEMENTS, rtol=1e-8)
    assert np.abs(wrong[0] - right[0]).max() > 1e-5


def test_the_modes_of_snapshots_span_them():
    controls = np.random.default_rng(1).standard_normal((3, ELEMENTS - 1))
    modes = snapshot_modes(controls)
    states = np.stack([banded_newton(jnp.asarray(u * ELEMENTS**0.5)) for u in controls])
    assert modes.shape == (ELEMENTS - 1, 6)
    np.testing.assert_allclose(modes.T @ modes, np.eye(6), atol=1e-10)
    for u in (*controls, *states):
        np.testing.assert_allclose(modes @ (modes.T @ u), u, atol=1e-8)
    # the first mode explains more of the normed snapshots than any one of these does
    normed = np.concatenate([controls, states]) / np.linalg.norm(np.concatenate([controls, states]), axis=1)[:, None]
    assert np.sum((normed @ modes[:, 0]) ** 2) >= np.sum((normed @ normed.T) ** 2, 0).max() - 1e-9
