"""Primal-dual hybrid gradient against NumPy, closed forms and other solvers."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.linalg import soft_threshold
from attractor.optim import (
    image_gradient,
    operator_norm,
    primal_dual_hybrid_gradient,
    total_variation,
    tv_objective,
    tv_reconstruction,
)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_the_norm_is_the_largest_singular_value():
    matrix = jr.normal(jr.key(0), (5, 8))
    found = operator_norm(lambda x: matrix @ x, jnp.ones(8), steps=500)
    np.testing.assert_allclose(found, np.linalg.norm(matrix, 2), rtol=1e-8)


def test_the_norm_of_the_image_gradient_is_below_the_root_of_eight():
    size = operator_norm(image_gradient, jr.normal(jr.key(0), (20, 20)), steps=200)
    assert 0.95 * 8**0.5 < float(size) < 8**0.5


def test_ten_steps_are_those_of_numpy():
    matrix, data = np.asarray(jr.normal(jr.key(0), (4, 3))), np.arange(4.0)
    step = 0.5 / float(np.linalg.norm(matrix, 2))
    x, ahead, y = np.zeros(3), np.zeros(3), np.zeros(4)
    for _ in range(10):
        y = (y + step * (matrix @ ahead - data)) / (1 + step)
        new = x - step * matrix.T @ y
        new = np.sign(new) * np.maximum(np.abs(new) - 0.3 * step, 0)
        x, ahead = new, 2 * new - x
    found, measured = primal_dual_hybrid_gradient(
        lambda x: jnp.asarray(matrix) @ x, lambda v, t: soft_threshold(v, 0.3 * t),
        lambda v, t: (v - t * data) / (1 + t), jnp.zeros(3), step, 10, measure=jnp.sum,
    )  # fmt: skip
    np.testing.assert_allclose(found, x, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(measured[-1], x.sum(), rtol=1e-10)


def test_total_variation_of_a_step_is_its_height_times_its_length():
    image = jnp.zeros((5, 6)).at[:, 3:].set(2.0)
    np.testing.assert_allclose(total_variation(image), 10.0)
    np.testing.assert_allclose(total_variation(jnp.eye(2)), 1 + 1 + 2**0.5)


def test_denoising_a_step_shrinks_it():
    """With A = 1 a two-level image keeps its edge, and each side moves by lambda times edge over area."""
    image, strength = jnp.ones((4, 6)).at[:, 3:].set(3.0), 0.5
    found = tv_reconstruction(jnp.eye(24), image.ravel(), strength, jnp.zeros((4, 6)), 5_000)
    shift = strength * 4 / 12
    np.testing.assert_allclose(found, image + jnp.where(image == 1, shift, -shift), atol=1e-6)


def test_a_few_steps_of_a_reconstruction_by_hand():
    matrix, data, shape = np.asarray(jr.normal(jr.key(0), (5, 12))), np.arange(5.0), (3, 4)
    norm, strength = np.linalg.norm(matrix, 2), 0.7
    c, step = norm / np.sqrt(8), 0.99 / (np.sqrt(2) * norm)

    def gradient(x):
        return c * np.stack([np.diff(x, axis=a, append=x[-1:] if a == 0 else x[:, -1:]) for a in (0, 1)])

    units = np.eye(12).reshape(12, *shape)
    dense = np.stack([gradient(e).ravel() for e in units], 1)  # so that its transpose is a transpose
    x = ahead = np.ones(shape)
    misfit, flow = np.zeros(5), np.zeros((2, *shape))
    for _ in range(7):
        misfit = (misfit + step * (matrix @ ahead.ravel() - data)) / (1 + step)
        flow = flow + step * gradient(ahead)
        flow = flow / np.maximum(1, np.linalg.norm(flow, axis=0) / (strength / c))
        new = np.maximum(x - step * (matrix.T @ misfit + dense.T @ flow.ravel()).reshape(shape), 0)
        x, ahead = new, 2 * new - x
    found = tv_reconstruction(jnp.asarray(matrix), jnp.asarray(data), strength, jnp.ones(shape), 7, size=float(norm))
    np.testing.assert_allclose(found, x, rtol=1e-9, atol=1e-12)


def test_the_objective_is_minimal_and_the_image_nonnegative():
    matrix = jr.uniform(jr.key(0), (10, 16))
    data = matrix @ jnp.maximum(jr.normal(jr.key(1), (16,)), 0) - 0.5
    image = tv_reconstruction(matrix, data, 0.1, jnp.zeros((4, 4)), 5_000)
    assert float(image.min()) >= 0
    best = tv_objective(matrix, data, 0.1, image)
    others = jnp.maximum(image + 0.02 * jr.normal(jr.key(2), (500, 4, 4)), 0)
    assert float(jax.vmap(lambda x: tv_objective(matrix, data, 0.1, x))(others).min()) > float(best)
    np.testing.assert_allclose(
        best, jnp.sum((matrix @ image.ravel() - data) ** 2) / 2 + 0.1 * total_variation(image), rtol=1e-12
    )


@pytest.mark.parametrize(("name", "call"), [
    ("steps", lambda: operator_norm(lambda x: x, jnp.ones(2), steps=0)),
    ("step", lambda: primal_dual_hybrid_gradient(lambda x: x, lambda v, t: v, lambda v, t: v, jnp.ones(2), 0.0, 1)),
    ("steps", lambda: primal_dual_hybrid_gradient(lambda x: x, lambda v, t: v, lambda v, t: v, jnp.ones(2), 1.0, 0)),
    ("strength", lambda: tv_reconstruction(jnp.eye(4), jnp.ones(4), -1.0, jnp.ones((2, 2)), 1)),
    ("matrix", lambda: tv_reconstruction(jnp.eye(4), jnp.ones(4), 1.0, jnp.ones((2, 3)), 1)),
])  # fmt: skip
def test_errors_name_the_argument(name, call):
    with pytest.raises(ValueError, match=name):
        call()
