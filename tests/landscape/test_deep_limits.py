"""Limits of large depth against loops in NumPy, closed forms, and random networks layer by layer."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.special import i0

from attractor.landscape import (
    PiecewiseLinear,
    controlled_resnet,
    dual_activation,
    layer_differences,
    neural_signature_kernel,
    refine_layers,
    scaled_resnet,
    signature_kernel,
)

RNG = np.random.default_rng(0)
INNER, OUTER, INPUTS = (RNG.standard_normal(shape) for shape in ((3, 5, 2), (3, 2, 5), (4, 2)))
X, Y = (np.cumsum(RNG.standard_normal((5, 2)), 0) / 3 for _ in range(2))
LEAKY = PiecewiseLinear(1.2, -0.3)


def test_residual_layers_and_what_is_between_them():
    with jax.enable_x64(True):
        weights = jnp.asarray(INNER), jnp.asarray(OUTER)
        call = jax.jit(lambda w, x: (scaled_resnet(*w, x), layer_differences(w), refine_layers(w, 2)))
        outputs, gaps, fine = jax.tree.map(np.asarray, call(weights, jnp.asarray(INPUTS)))
        scaled = np.asarray(jax.jit(scaled_resnet)(*weights, jnp.asarray(INPUTS), 0.7))
    for found, scale in ((outputs, 1 / 3), (scaled, 0.7)):
        h = INPUTS
        for w, v in zip(INNER, OUTER, strict=True):
            h = h + scale * np.tanh(h @ w.T / np.sqrt(2)) @ v.T
        np.testing.assert_allclose(found, h, rtol=1e-9)
    squares = [np.sum((INNER[k + 1] - INNER[k]) ** 2) + np.sum((OUTER[k + 1] - OUTER[k]) ** 2) for k in range(2)]
    np.testing.assert_allclose(gaps, np.sqrt(squares), rtol=1e-9)
    between = np.stack([INNER[0], (INNER[0] + INNER[1]) / 2, INNER[1], (INNER[1] + INNER[2]) / 2, INNER[2], INNER[2]])
    np.testing.assert_allclose(fine[0], between, rtol=1e-9)
    with pytest.raises(ValueError, match="outer"):
        scaled_resnet(weights[0], weights[1][:2], jnp.asarray(INPUTS))
    with pytest.raises(ValueError, match="weights"):
        layer_differences(weights[0][:1])
    with pytest.raises(ValueError, match="factor"):
        refine_layers(weights, 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_signature_kernel_of_lines_is_a_bessel_function(sign):
    t = np.linspace(0, 1, 41)[:, None]
    x, y = t * np.array([1.0, 0.5]), sign * t[::2] * np.array([0.8, -0.2])
    found = signature_kernel(x, y)
    assert found.shape == (41, 21)
    p = sign * 0.7
    series = sum(p**k / float(np.prod(np.arange(1, k + 1))) ** 2 for k in range(20))
    assert found[-1, -1] == pytest.approx(series, abs=2e-5)
    assert signature_kernel(x[[0, -1]], y[[0, -1]])[-1, -1] == pytest.approx(1 + p + p**2 / 4, rel=1e-12)
    if sign > 0:
        assert series == pytest.approx(i0(2 * np.sqrt(p)), rel=1e-9)
        quarter = p * (20 / 40) * (5 / 20)
        assert found[20, 5] == pytest.approx(i0(2 * np.sqrt(quarter)), abs=2e-5)


def naive(x, y, activation, c_w, c_b):
    """The scheme cell by cell, for all pairs of beginnings."""
    paths = np.stack([x, y])
    increments, steps = np.diff(paths, axis=1), len(x) - 1
    kernel = np.ones((2, 2, steps + 1, steps + 1))
    for _ in range(2 * steps):  # until nothing changes
        before = kernel.copy()
        for a, b, i, j in np.ndindex(2, 2, steps, steps):
            dual = dual_activation(activation, before[a, a, i, i], before[a, b, i, j], before[b, b, j, j]).value
            source = (c_w * dual + c_b) * (increments[a, i] @ increments[b, j])
            kernel[a, b, i + 1, j + 1] = kernel[a, b, i + 1, j] + kernel[a, b, i, j + 1] - kernel[a, b, i, j] + source
        if np.array_equal(before, kernel):
            break
    return kernel[0, 1, -1, -1]


def test_neural_signature_kernels_cell_by_cell():
    found = neural_signature_kernel(X, Y, LEAKY, weight_variance=0.9, bias_variance=0.2)
    assert found == pytest.approx(naive(X, Y, LEAKY, 0.9, 0.2), rel=1e-9)
    kxx, kxy, kyy = 1.0, 1.0, 1.0
    for dx, dy in zip(np.diff(X, axis=0), np.diff(Y, axis=0), strict=True):
        values = [0.9 * dual_activation(LEAKY, *k).value + 0.2 for k in ((kxx, kxx, kxx), (kxx, kxy, kyy), (kyy,) * 3)]
        kxx, kxy, kyy = kxx + 4 * values[0] * dx @ dx, kxy + 4 * values[1] * dx @ dy, kyy + 4 * values[2] * dy @ dy
    found = neural_signature_kernel(X, Y, LEAKY, shared=False, weight_variance=0.9, bias_variance=0.2)
    assert found == pytest.approx(kxy, rel=1e-9)
    for bad in ({"weight_variance": -1.0}, {"bias_variance": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            neural_signature_kernel(X, Y, LEAKY, **bad)
    with pytest.raises(ValueError, match="y: expected"):
        neural_signature_kernel(X, Y[1:], LEAKY)


@pytest.mark.parametrize("shared", [True, False])
def test_random_networks_have_these_covariances(shared):
    how = {"activation": LEAKY, "shared": shared, "weight_variance": 0.9, "bias_variance": 0.5}
    x, y = X, X + Y / 5
    call = jax.jit(jax.vmap(partial(controlled_resnet, width=40, **how), (0, None)))
    states = np.asarray(call(jr.split(jr.key(0), 400), jnp.asarray(np.stack([x, y]), jnp.float32)), float)
    products = (states[:, 0] * states[:, 1]).mean(1)
    wanted, error = neural_signature_kernel(x, y, **how), products.std() / 400**0.5
    assert abs(products.mean() - wanted) < 4 * error
    for other in ({"weight_variance": 1.8}, {"bias_variance": 1.0}, {"shared": not shared}):
        assert abs(neural_signature_kernel(x, y, **(how | other)) - wanted) > 6 * error, "a test that sees nothing"
    with pytest.raises(ValueError, match="width"):
        controlled_resnet(jr.key(0), jnp.asarray(X)[None], 0)
    with pytest.raises(ValueError, match="paths"):
        controlled_resnet(jr.key(0), jnp.asarray(X)[None, :1], 3)
