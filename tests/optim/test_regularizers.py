"""Cauchy-Schwarz penalties: the formulas, their zero sets, their scale."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.optim import regularizers as reg

X = np.random.default_rng(0).standard_normal(12)
C = np.random.default_rng(1).standard_normal((12, 12))
M = np.random.default_rng(2).standard_normal((6, 3))
_, V = np.linalg.eigh(C + C.T)
SIGNS = np.where(np.arange(12) % 3 == 0, 1.0, -1.0)
Q, _ = np.linalg.qr(M)

FORMULAS = {
    reg.binary_penalty: (X, 12 * (X**4).sum() - (X**2).sum() ** 2),
    reg.one_sided_penalty: (X, (X**2).sum() * (X**4).sum() - (X**3).sum() ** 2),
    reg.ternary_penalty: (X, (X**2).sum() * (X**6).sum() - (X**4).sum() ** 2),
    reg.orthogonal_penalty: (M, 3 * ((M.T @ M) ** 2).sum() - np.trace(M.T @ M) ** 2),
}


@pytest.mark.parametrize("penalty", FORMULAS, ids=lambda p: p.__name__)
def test_agrees_with_the_expanded_formula(penalty):
    with jax.enable_x64(True):
        x, expected = FORMULAS[penalty]
        assert float(penalty(jnp.asarray(x))) == pytest.approx(expected, rel=1e-10)


def test_eigenvector_formula():
    with jax.enable_x64(True):
        expected = (X @ X) * ((C @ X) @ (C @ X)) - (X @ C @ X) ** 2
        assert float(reg.eigenvector_penalty(jnp.asarray(X), jnp.asarray(C))) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize(
    ("penalty", "member"),
    [
        (reg.binary_penalty, SIGNS),
        (reg.one_sided_penalty, np.maximum(SIGNS, 0)),
        (reg.ternary_penalty, SIGNS * (np.arange(12) % 2)),
        (reg.orthogonal_penalty, Q),
        (lambda x: reg.eigenvector_penalty(x, jnp.asarray(C + C.T)), V[:, 3]),
        (reg.ternary_penalty, np.zeros(12)),
    ],
)
def test_zero_with_zero_gradient_on_its_set_at_any_scale(penalty, member, scale):
    with jax.enable_x64(True):
        x = jnp.asarray(scale * member)
        size = max(float(jnp.sum(x**2)), 1e-12)
        assert float(penalty(x)) <= 1e-12 * max(size**4, size**2)
        gradient = jax.grad(penalty)(x)
        assert bool(jnp.isfinite(gradient).all())
        assert float(jnp.abs(gradient).max()) <= 1e-8 * max(size**3, size)


@pytest.mark.parametrize("penalty", FORMULAS, ids=lambda p: p.__name__)
def test_positive_off_its_set(penalty):
    assert float(penalty(jnp.asarray(FORMULAS[penalty][0]))) > 0.1


def test_the_affine_set_is_kept_to():
    matrix, values = jr.normal(jr.key(0), (4, 12)), jr.normal(jr.key(1), (4,))
    value, solution = reg.on_affine_set(reg.binary_penalty, matrix, values)
    z = jr.normal(jr.key(2), (8,))
    np.testing.assert_allclose(matrix @ solution(z), values, atol=1e-4)
    np.testing.assert_allclose(value(z), reg.binary_penalty(solution(z)), rtol=1e-6)
    with pytest.raises(ValueError, match="matrix: expected fewer rows"):
        reg.on_affine_set(reg.binary_penalty, jnp.eye(3), jnp.ones(3))


def test_add_penalty_touches_matrices_only_and_any_scale():
    x = {"w": jnp.asarray(M, jnp.float32), "b": jnp.ones(3)}
    transformation = reg.add_penalty(reg.binary_penalty, 2.0)
    updates, _ = transformation.update(jax.tree.map(jnp.zeros_like, x), transformation.init(x), x)
    expected = 2 * jax.grad(reg.binary_penalty)(x["w"]) / (18 * jnp.sum(x["w"] ** 2))
    np.testing.assert_allclose(updates["w"], expected, rtol=1e-5)
    assert not updates["b"].any()
    zero = jax.tree.map(jnp.zeros_like, x)
    assert not any(leaf.any() for leaf in jax.tree.leaves(transformation.update(zero, None, zero)[0]))
    with pytest.raises(ValueError, match="weight"):
        reg.add_penalty(reg.binary_penalty, -1.0)
    with pytest.raises(ValueError, match="params"):
        transformation.update(x, None)
