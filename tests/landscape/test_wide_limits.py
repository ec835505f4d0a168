"""Limits of large width against integrals, finite networks, and loops in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.special import erf, roots_hermitenorm

from attractor.landscape import (
    RELU,
    PiecewiseLinear,
    WideMLP,
    correlation_exponent,
    criticality,
    derivative_contractions,
    dual_activation,
    infinite_ntk,
    kernel_recursion,
    linearized_dynamics,
)
from attractor.landscape.wide_limits import recorded_descent
from attractor.linalg import rademacher_like

LEAKY = PiecewiseLinear(1.3, -0.4)
X = np.array([[0.3, -1.2, 0.5], [1.1, 0.4, -0.7], [0.2, 0.9, 1.4]])


def gelu(z):
    return z * (1 + erf(z / np.sqrt(2))) / 2


def test_dual_of_smooth_activations_is_the_integral():
    nodes, weights = roots_hermitenorm(80)
    weights = weights / weights.sum()
    root = np.linalg.cholesky([[1.3, -0.4], [-0.4, 0.7]])
    u = root[0, 0] * nodes[:, None]
    v = root[1, 0] * nodes[:, None] + root[1, 1] * nodes
    found = dual_activation(np.tanh, 1.3, [[-0.4]], 0.7)
    assert found.value.shape == (1, 1)
    assert found.value[0, 0] == pytest.approx(weights @ (np.tanh(u) * np.tanh(v)) @ weights, abs=1e-7)
    slopes = (1 - np.tanh(u) ** 2) * (1 - np.tanh(v) ** 2)
    assert found.slope[0, 0] == pytest.approx(weights @ slopes @ weights, abs=1e-7)
    with pytest.raises(ValueError, match="kyy"):
        dual_activation(np.tanh, 1.0, 0.0, 0.0)


@pytest.mark.parametrize("cosine", [-0.9, 0.1, 0.95, 1.0])
def test_dual_of_kinks_is_the_arc_cosine_kernel(cosine):
    k, l, angle = 1.7, 0.6, np.arccos(cosine)
    found = dual_activation(RELU, k, cosine * np.sqrt(k * l), l)
    assert found.value == pytest.approx(
        np.sqrt(k * l) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), abs=1e-9
    )
    assert found.slope == pytest.approx((np.pi - angle) / (2 * np.pi), abs=1e-7)
    leaky = dual_activation(LEAKY, k, cosine * np.sqrt(k * l), l)
    r = {c: dual_activation(RELU, k, c * cosine * np.sqrt(k * l), l) for c in (1, -1)}  # z = relu(z) - relu(-z)
    same, crossed = 1.3**2 + 0.4**2, 2 * 1.3 * 0.4
    assert leaky.value == pytest.approx(same * r[1].value + crossed * r[-1].value, abs=1e-9)
    assert leaky.slope == pytest.approx(same * r[1].slope - crossed * r[-1].slope, abs=1e-7)


def test_infinite_kernels_layer_by_layer():
    c_w, c_b = 1.3, 0.2
    first = c_w * X @ X.T / 3 + c_b
    scale = np.sqrt(np.outer(np.diag(first), np.diag(first)))
    angle = np.arccos(np.clip(first / scale, -1, 1))
    second = c_w * scale * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi) + c_b
    tangent = second + c_w * (np.pi - angle) / (2 * np.pi) * first
    found = infinite_ntk(X, hidden=1, weight_variance=c_w, bias_variance=c_b)
    np.testing.assert_allclose(found.covariance, second, atol=1e-7)
    np.testing.assert_allclose(found.tangent, tangent, atol=1e-7)
    deep = infinite_ntk(X, X[1:], hidden=2, weight_variance=c_w, bias_variance=c_b, activation=LEAKY)
    whole = infinite_ntk(X, hidden=2, weight_variance=c_w, bias_variance=c_b, activation=LEAKY)
    np.testing.assert_allclose(deep.tangent, whole.tangent[:, 1:], atol=1e-9)
    once = infinite_ntk(X, hidden=1, weight_variance=c_w, bias_variance=c_b, activation=LEAKY)
    diagonal = np.diag(once.covariance)
    dual = dual_activation(LEAKY, diagonal[:, None], once.covariance, diagonal[None])
    np.testing.assert_allclose(whole.covariance, c_w * dual.value + c_b, atol=1e-9)
    np.testing.assert_allclose(whole.tangent, whole.covariance + c_w * dual.slope * once.tangent, atol=1e-9)
    for bad in ({"hidden": -1}, {"weight_variance": 0.0}, {"bias_variance": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            infinite_ntk(X, **bad)


def test_the_network_is_its_formula():
    with jax.enable_x64(True):
        make = partial(WideMLP, [3, 4, 2], LEAKY, weight_variance=1.3, bias_variance=0.2)
        model, outputs = jax.jit(lambda key: (make(key=key), jax.vmap(make(key=key))(jnp.asarray(X))))(jr.key(1))
        (a, b), (c, d) = (map(np.asarray, part) for part in (model.weights, model.biases))
        outputs = np.asarray(outputs)
    before = np.sqrt(1.3 / 3) * X @ a.T + np.sqrt(0.2) * c
    hidden = np.where(before > 0, 1.3, -0.4) * before
    np.testing.assert_allclose(outputs, np.sqrt(1.3 / 4) * hidden @ b.T + np.sqrt(0.2) * d, 1e-6)
    for bad in ({"widths": [3]}, {"weight_variance": 0.0}, {"bias_variance": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            WideMLP(**({"widths": [3, 1], "key": jr.key(0)} | bad))


def test_linear_dynamics_are_the_matrix_exponential():
    kernel, start, targets = X @ X.T, np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.1, 2.0])
    found = linearized_dynamics(kernel, start, targets, [0.0, 0.7])
    np.testing.assert_allclose(found[0], start, atol=1e-12)
    np.testing.assert_allclose(found[1], targets + expm(-0.7 * kernel) @ (start - targets), atol=1e-9)
    with pytest.raises(ValueError, match="times"):
        linearized_dynamics(kernel, start, targets, [-1.0])


def test_recursion_of_scale_invariant_layers_in_closed_form():
    found = kernel_recursion(LEAKY, 4, weight_variance=0.9, start=0.8)
    second, fourth = (1.3**2 + 0.4**2) / 2, (1.3**4 + 0.4**4) / 2
    growth = 0.9 * second
    kernel = 0.8 * growth ** np.arange(4)
    np.testing.assert_allclose(found.kernel, kernel, rtol=1e-12)
    np.testing.assert_allclose(found.tangent, kernel * np.arange(1, 5), rtol=1e-12)
    np.testing.assert_allclose(found.vertex, np.arange(4) * (3 * fourth / second**2 - 1) * kernel**2, rtol=1e-12)
    np.testing.assert_allclose(found.parallel, growth, rtol=1e-12)


def test_recursion_of_smooth_layers_by_quadrature_and_differences():
    nodes, weights = roots_hermitenorm(80)
    weights = weights / weights.sum()
    c_w, c_b = 1.4, 0.3

    def forward(k):
        return c_b + c_w * weights @ np.tanh(np.sqrt(k) * nodes) ** 2

    found = kernel_recursion(np.tanh, 3, weight_variance=c_w, bias_variance=c_b, start=0.8)
    assert found.kernel == pytest.approx([0.8, forward(0.8), forward(forward(0.8))], abs=1e-7)
    for k, parallel, perpendicular in zip(found.kernel, found.parallel, found.perpendicular, strict=True):
        assert parallel == pytest.approx((forward(k + 1e-5) - forward(k - 1e-5)) / 2e-5, abs=1e-6)
        slope = c_w * weights @ (1 - np.tanh(np.sqrt(k) * nodes) ** 2) ** 2
        assert perpendicular == pytest.approx(slope, abs=1e-7)
    fresh = [
        c_w**2 * (weights @ np.tanh(np.sqrt(k) * nodes) ** 4 - ((forward(k) - c_b) / c_w) ** 2) for k in found.kernel
    ]
    assert found.vertex[1] == pytest.approx(fresh[0], abs=1e-7)
    assert found.vertex[2] == pytest.approx(fresh[1] + found.parallel[1] ** 2 * found.vertex[1], abs=1e-7)
    assert found.tangent[2] == pytest.approx(found.kernel[2] + found.perpendicular[1] * found.tangent[1], abs=1e-9)
    for bad in ({"depth": 0}, {"weight_variance": 0.0}, {"bias_variance": -1.0}, {"start": 0.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            kernel_recursion(np.tanh, **({"depth": 2, "weight_variance": 1.0} | bad))


def test_critical_points():
    assert criticality(PiecewiseLinear(2.0, -1.0))[:2] == pytest.approx((2 / 5, 0.0))
    assert criticality(lambda z: np.tanh(2 * z)) == pytest.approx((0.25, 0.0, 0.0), abs=1e-6)
    found = criticality(gelu)
    assert found.kernel == pytest.approx((3 + np.sqrt(17)) / 2, abs=1e-6)
    at = kernel_recursion(gelu, 2, weight_variance=found[0], bias_variance=found[1], start=found.kernel)
    for quantity in (at.kernel / found.kernel, at.parallel, at.perpendicular):
        assert quantity == pytest.approx([1, 1], abs=1e-6)
    with pytest.raises(ValueError, match="activation"):
        criticality(lambda z: 1 / (1 + np.exp(-z)))


@pytest.mark.parametrize(
    ("tensors", "contractions", "exponent"),
    [
        (2, [], 0.0),  # E f f
        (2, [(0, 1)], 0.0),  # the tangent kernel
        (4, [(1, 3), (2, 3)], -1.0),  # its drift
        (4, [(0, 1), (2, 3)], 0.0),  # its square
        (2, [(1, 1)], 0.0),
        (5, [(0, 1), (1, 2), (3, 3)], -1.0),
        (6, [(0, 1), (1, 2), (3, 4), (4, 5)], -2.0),
    ],
)
def test_exponents_count_clusters(tensors, contractions, exponent):
    assert correlation_exponent(tensors, contractions) == exponent


def test_exponents_refuse_tensors_that_are_not_there():
    with pytest.raises(ValueError, match="contractions"):
        correlation_exponent(2, [(0, 2)])
    with pytest.raises(ValueError, match="tensors"):
        correlation_exponent(0)


def test_contractions_are_those_of_dense_derivatives():
    def output(p):
        return p["a"][0] ** 2 * p["a"][1] + p["b"] ** 3 * p["a"][0]

    with jax.enable_x64(True):
        x, y, z = 0.7, -1.3, 0.4
        point = {"a": jnp.array([x, y]), "b": jnp.array(z)}
        signs = np.concatenate([np.atleast_1d(s) for s in jax.tree.leaves(rademacher_like(jr.key(3), point))])
        found = [float(c) for c in jax.jit(derivative_contractions, static_argnums=0)(output, point, jr.key(3))]
    value, slope = x**2 * y + z**3 * x, np.array([2 * x * y + z**3, x**2, 3 * z**2 * x])
    hessian = np.array([[2 * y, 2 * x, 3 * z**2], [2 * x, 0, 0], [3 * z**2, 0, 6 * z * x]])
    blocks = np.where(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]), hessian, 0)
    wanted = [value**2, slope @ slope, value * slope @ hessian @ slope, value * signs @ blocks @ signs]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_the_recorded_descent_takes_its_steps():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((5, 2)))
        y, model = jnp.sin(x[:, 0]), WideMLP([2, 6, 1], key=jr.key(1))
        values, end = recorded_descent(model, x, y, 0.02, 3, 4, scale=0.5)

        def loss(model):
            return jnp.sum((0.5 * jax.vmap(model)(x)[:, 0] - y) ** 2) / 2

        for record in values:
            np.testing.assert_allclose(record, 0.5 * jax.vmap(model)(x)[:, 0], rtol=1e-9)
            for _ in range(4):
                model = jax.tree.map(lambda p, g: p - 0.02 * g, model, jax.grad(loss)(model))
    for a, b in zip(jax.tree.leaves(end), jax.tree.leaves(model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    for bad in ((0, 4), (3, 0)):
        with pytest.raises(ValueError, match="records" if not bad[0] else "steps"):
            recorded_descent(model, x, y, 0.02, *bad)
