"""Kernels on trees of patches and learning curves against loops and dense solves."""

import jax.random as jr
import numpy as np
import pytest

from attractor.landscape import hierarchical_kernels, infinite_ntk, learning_curve, patch_cosines, sphere_patches

RNG = np.random.default_rng(0)


def patches(n, p, d):
    drawn = RNG.standard_normal((n, p, d))
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


def kappa(u):
    return (u * (np.pi - np.arccos(u)) + np.sqrt(1 - u * u)) / np.pi, (np.pi - np.arccos(u)) / np.pi


def test_the_tree_node_by_node():
    x, y = patches(3, 4, 3), patches(2, 4, 3)
    found = hierarchical_kernels(patch_cosines(x, y))
    for a in range(3):
        for b in range(2):
            nodes = []
            for i in range(4):
                u = x[a, i] @ y[b, i]
                k1, k0 = kappa(u)
                nodes.append((k1, k1 + u * k0))
            while len(nodes) > 1:
                merged = []
                for left, right in zip(nodes[::2], nodes[1::2], strict=True):
                    k, t = (left[0] + right[0]) / 2, (left[1] + right[1]) / 2
                    k1, k0 = kappa(k)
                    merged.append((k1, k1 + t * k0))
                nodes = merged
            np.testing.assert_allclose([found.covariance[a, b], found.tangent[a, b]], nodes[0], rtol=1e-7)


def test_trees_of_three_children_and_of_one_patch():
    x = patches(4, 3, 2)
    whole = hierarchical_kernels(patch_cosines(x, x), branching=3)
    mean = kappa(np.clip(patch_cosines(x, x), -1, 1))[0].mean(0)
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(whole.covariance[off], kappa(mean[off])[0], rtol=1e-7)
    np.testing.assert_allclose(np.diag(whole.tangent), 3, rtol=1e-6)
    one = hierarchical_kernels(patch_cosines(x[:, :1], x[:, :1]))
    flat = infinite_ntk(x[:, 0], weight_variance=2.0)  # with x . x = 1 in two dimensions, all is as here
    np.testing.assert_allclose(one.tangent, flat.tangent, rtol=1e-7)
    with pytest.raises(ValueError, match="cosines"):
        hierarchical_kernels(patch_cosines(x, x))
    with pytest.raises(ValueError, match="branching"):
        hierarchical_kernels(patch_cosines(x, x), branching=1)


def test_learning_curves_are_those_of_dense_solves():
    root = RNG.standard_normal((9, 12))
    kernel, targets = root @ root.T, RNG.standard_normal((9, 2))
    found = learning_curve(kernel, targets, [2, 5], ridge=0.3)
    for row, n in zip(found, (2, 5), strict=True):
        predicted = kernel[5:, :n] @ np.linalg.solve(kernel[:n, :n] + 0.3 * np.eye(n), targets[:n])
        np.testing.assert_allclose(row, ((predicted - targets[5:]) ** 2).mean(0), rtol=1e-9)
    for bad in ({"sizes": [9]}, {"ridge": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            learning_curve(kernel, targets, **({"sizes": [2]} | bad))


def test_patches_are_uniform_on_spheres():
    x = np.asarray(sphere_patches(jr.key(0), 2_000, 2, 3), float)
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(x.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(np.einsum("npd,npe->de", x, x) / 4_000, np.eye(3) / 3, atol=0.03)
    for bad in ({"examples": 0}, {"patches": 0}, {"dim": 1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            sphere_patches(jr.key(0), **({"examples": 2, "patches": 2} | bad))
