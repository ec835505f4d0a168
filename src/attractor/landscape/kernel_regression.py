"""Regression with kernels of wide networks: hierarchical convolutional kernels, ridgeless fits, learning curves."""

from collections.abc import Sequence

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from scipy.linalg import cholesky, solve_triangular

from attractor.checks import in_range
from attractor.landscape.wide_limits import PiecewiseLinear, WideKernels, dual_activation

UNIT = PiecewiseLinear(2**0.5, 0.0)  # ReLU, scaled to keep a variance of one


def sphere_patches(key: PRNGKeyArray, examples: int, patches: int, dim: int = 2) -> Float[Array, "n p d"]:
    """Inputs made of patches, each uniform on its own unit sphere.

    Arguments:
        key: Of the draw.
        examples: n, at least 1.
        patches: p, at least 1.
        dim: d, at least 2: of the space, so that the sphere has one dimension less.

    Raises:
        ValueError: if a number is too small.

    Paper: What Can Be Learnt With Wide Convolutional Neural Networks?
    """
    in_range("examples", examples, 1)
    in_range("patches", patches, 1)
    in_range("dim", dim, 2)
    drawn = jr.normal(key, (examples, patches, dim))
    return drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True)


def hierarchical_kernels(cosines: Float[np.ndarray, "p ..."], branching: int = 2) -> WideKernels:
    r"""Kernels of an infinitely wide convolutional ReLU network on a tree of patches that do not overlap.

    With $\kappa_1(u) = (u (\pi - \arccos u) + \sqrt{1 - u^2}) / \pi$ and $\kappa_0(u) = (\pi - \arccos u) / \pi$ every
    patch has $K = \kappa_1(u)$, $\Theta = \kappa_1(u) + u\, \kappa_0(u)$; a node takes the means $\bar K, \bar\Theta$
    of its children and has $K = \kappa_1(\bar K)$, $\Theta = \kappa_1(\bar K) + \bar\Theta\, \kappa_0(\bar K)$. The
    output reads the root.

    Arguments:
        cosines: u, the inner products of the two inputs' patches, of unit length, patches first: ``(p, n, m)`` for a
            matrix.
        branching: Children of a node, at least 2; p is a power of it.

    Returns:
        K as ``covariance`` and $\Theta$ as ``tangent``, both 1 and depth + 1 at equal inputs.

    Raises:
        ValueError: if p is no power of ``branching``.

    Paper: What Can Be Learnt With Wide Convolutional Neural Networks?
    """
    in_range("branching", branching, 2)
    levels, width = 0, cosines.shape[0]
    while width > 1 and width % branching == 0:
        levels, width = levels + 1, width // branching
    if width != 1:
        raise ValueError(f"cosines: expected a number of patches that is a power of {branching}, got {len(cosines)}")
    mean = below = np.asarray(cosines, float)
    for level in range(levels + 1):
        if level:
            mean, below = (k.reshape(-1, branching, *k.shape[1:]).mean(1) for k in (mean, below))
        dual = dual_activation(UNIT, 1.0, mean, 1.0)
        mean, below = dual.value, dual.value + dual.slope * below
    return WideKernels(mean[0], below[0])


def patch_cosines(x: Float[ArrayLike, "n p d"], y: Float[ArrayLike, "m p d"]) -> Float[np.ndarray, "p n m"]:
    """The cosines between the patches of all pairs of inputs: what `hierarchical_kernels` takes.

    Arguments:
        x: Inputs; patches are brought to unit length in double precision, for near 1 kernels have a kink.
        y: Others.

    Paper: What Can Be Learnt With Wide Convolutional Neural Networks?
    """
    left, right = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (np.asarray(x, float), np.asarray(y, float)))
    return np.einsum("npd,mpd->pnm", left, right, optimize=True)


def learning_curve(
    kernel: Float[np.ndarray, "n n"],
    targets: Float[np.ndarray, "n k"],
    sizes: Sequence[int],
    ridge: float = 0.0,
) -> Float[np.ndarray, "sizes k"]:
    r"""Test errors of kernel regression on the first so many examples, $f = K_{test} (K + \lambda I)^{-1} y$.

    The examples after the largest size are the test set. One Cholesky factor serves all sizes.

    Arguments:
        kernel: Of all examples, symmetric and positive definite.
        targets: k functions at the examples.
        sizes: Numbers of training examples, each smaller than n.
        ridge: $\lambda$, at least 0.

    Returns:
        Mean squared errors over the test set.

    Raises:
        ValueError: if a size leaves nothing to train or test on, or ``ridge`` is negative.

    Paper: What Can Be Learnt With Wide Convolutional Neural Networks?
    """
    in_range("sizes", sizes, 1, len(kernel) - 1)
    in_range("ridge", ridge, 0.0)
    last = max(sizes)
    factor = cholesky(kernel[:last, :last] + ridge * np.eye(last), lower=True)
    # Leading blocks of the factor are the factors of leading blocks.
    left = solve_triangular(factor, kernel[:last, last:], lower=True)
    right = solve_triangular(factor, targets[:last], lower=True)
    return np.stack([np.mean((left[:n].T @ right[:n] - targets[last:]) ** 2, 0) for n in sizes])
