"""Networks of large depth: residual ones towards differential equations, and the kernels of those driven by paths."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.landscape.wide_limits import Activation, dual_activation


def scaled_resnet(
    inner: Float[Array, "depth q d"],
    outer: Float[Array, "layers d q"],
    inputs: Float[Array, "n d"],
    scale: Scalar | None = None,
    activation: Callable[[Array], Array] = jnp.tanh,
) -> Float[Array, "n d"]:
    r"""A residual network, $h_{k+1} = h_k + s\, V_k \sigma(W_k h_k / \sqrt d)$; with $s = 1/L$ it is an Euler scheme.

    Training keeps a limit of large depth if the weights' learning rate is times L, for gradients shrink like s.

    Arguments:
        inner: W, layers first.
        outer: V, layers first; a layer of zeros does nothing.
        inputs: $h_0$, one a row.
        scale: s; default: 1 over the number of layers.
        activation: Elementwise.

    Raises:
        ValueError: if ``inner`` and ``outer`` have different numbers of layers.

    Paper: Implicit regularization of deep residual networks towards neural ODEs.
    """
    if len(inner) != len(outer):
        raise ValueError(f"outer: expected as many layers as inner has, {len(inner)}, got {len(outer)}")
    factor, width = 1 / len(inner) if scale is None else scale, inputs.shape[-1]

    def layer(h: Array, weights: tuple[Array, Array]) -> tuple[Array, None]:
        w, v = weights
        return h + factor * activation(h @ w.T / width**0.5) @ v.T, None

    return jax.lax.scan(layer, inputs, (inner, outer))[0]


def layer_differences(weights: PyTree) -> Float[Array, " gaps"]:
    r"""How far neighboring layers are apart, $\lVert \theta_{k+1} - \theta_k \rVert$ over all leaves.

    Arguments:
        weights: Arrays with layers first, at least two.

    Raises:
        ValueError: if there are fewer than two layers.

    Paper: Implicit regularization of deep residual networks towards neural ODEs.
    """
    leaves = jax.tree.leaves(weights)
    if not leaves or any(len(leaf) < 2 for leaf in leaves):
        raise ValueError("weights: expected arrays with at least two layers")
    return jnp.sqrt(sum(jnp.sum(jnp.diff(leaf, axis=0).reshape(len(leaf) - 1, -1) ** 2, 1) for leaf in leaves))


def refine_layers(weights: PyTree, factor: int) -> PyTree:
    """Weights of a network so many times as deep: linear between layers, constant after the last.

    With `scaled_resnet` it is the Euler scheme of the same differential equation, with smaller steps.

    Arguments:
        weights: Arrays with layers first; layer k of L is at depth k / L.
        factor: At least 1.

    Raises:
        ValueError: if ``factor < 1``.

    Paper: Implicit regularization of deep residual networks towards neural ODEs.
    """
    in_range("factor", factor, 1)

    def refine(leaf: Array) -> Array:
        at = jnp.arange(len(leaf) * factor) / factor
        below = jnp.floor(at).astype(int)
        above = jnp.minimum(below + 1, len(leaf) - 1)
        share = (at - below).reshape(-1, *[1] * (leaf.ndim - 1))
        return (1 - share) * leaf[below] + share * leaf[above]

    return jax.tree.map(refine, weights)


def controlled_resnet(
    key: PRNGKeyArray,
    paths: Float[Array, "p points d"],
    width: int,
    activation: Activation = lambda z: z,
    *,
    shared: bool = True,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
) -> Float[Array, "p n"]:
    r"""The last state of a random network driven by paths.

    $S_{i+1} = S_i + \sum_k (A_k \sigma(S_i) + b_k)\, \Delta x^k_i$ with $S_0 \sim N(0, I)$, $A_k \sim N(0, C_w / n)$
    and $b_k \sim N(0, C_b)$. Weights that are drawn anew at every step come with $\Delta x / \sqrt{\Delta t}$, time
    from 0 to 1, so that they add up to a Brownian motion.

    Arguments:
        key: Of all draws.
        paths: All see the same weights.
        width: n, at least 1.
        activation: Default: the identity.
        shared: Whether all steps have the same weights.
        weight_variance: $C_w$, at least 0.
        bias_variance: $C_b$, at least 0.

    Raises:
        ValueError: if a number is out of its range, or paths have fewer than two points.

    Paper: Neural signature kernels as infinite-width-depth-limits of controlled ResNets.
    """
    in_range("width", width, 1)
    in_range("weight_variance", weight_variance, 0.0)
    in_range("bias_variance", bias_variance, 0.0)
    steps, dim = paths.shape[1] - 1, paths.shape[2]
    if steps < 1:
        raise ValueError(f"paths: expected at least two points, got {steps + 1}")
    first, rest = jr.split(key)
    increments = jnp.diff(paths, axis=1).swapaxes(0, 1) * (1.0 if shared else steps**0.5)

    def drawn(key: PRNGKeyArray) -> Array:
        """Weights and, in the last column, biases."""
        size = jnp.full(width + 1, (weight_variance / width) ** 0.5).at[-1].set(bias_variance**0.5)
        return size * jr.normal(key, (dim, width, width + 1))

    common = drawn(rest) if shared else None

    def step(state: Array, at: tuple[Array, PRNGKeyArray | None]) -> tuple[Array, None]:
        dx, key = at
        field = drawn(key) if common is None and key is not None else common
        felt = jnp.concatenate([activation(state), jnp.ones((len(state), 1), state.dtype)], 1)
        return state + jnp.einsum("kij,pj,pk->pi", field, felt, dx), None

    start = jnp.broadcast_to(jr.normal(first, (width,)), (len(paths), width))
    return jax.lax.scan(step, start, (increments, None if shared else jr.split(rest, steps)))[0]


def signature_kernel(x: Float[ArrayLike, "m d"], y: Float[ArrayLike, "n d"]) -> Float[np.ndarray, "m n"]:
    r"""The inner products of two paths' signatures: $\partial_s \partial_t K = \langle \dot x_s, \dot y_t \rangle K$.

    K is 1 where either path begins. A cell with $p = \langle \Delta x, \Delta y \rangle$ takes the second-order step
    $K_{11} = (K_{10} + K_{01}) (1 + p/2 + p^2/12) - K_{00} (1 - p^2/12)$.

    Arguments:
        x: Points of a path, linear in between.
        y: Of another.

    Returns:
        For all beginnings of both: ``[-1, -1]`` belongs to the whole paths.

    Paper: Neural signature kernels as infinite-width-depth-limits of controlled ResNets.
    """
    products = np.diff(np.asarray(x, float), axis=0) @ np.diff(np.asarray(y, float), axis=0).T
    kernel = np.ones((products.shape[0] + 1, products.shape[1] + 1))
    for (i, j), p in np.ndenumerate(products):
        sides = kernel[i + 1, j] + kernel[i, j + 1]
        kernel[i + 1, j + 1] = sides * (1 + p / 2 + p**2 / 12) - kernel[i, j] * (1 - p**2 / 12)
    return kernel


def neural_signature_kernel(
    x: Float[ArrayLike, "m d"],
    y: Float[ArrayLike, "n d"],
    activation: Activation,
    *,
    shared: bool = True,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
) -> float:
    r"""The covariance $E[S_x S_y]$ at the end of two paths in a `controlled_resnet` of infinite width.

    With shared weights $\partial_s \partial_t K_{xy} = (C_w E[\sigma(u) \sigma(v)] + C_b) \langle \dot x_s, \dot y_t
    \rangle$, (u, v) Gaussian with variances $K_{xx}(s, s)$, $K_{yy}(t, t)$ and covariance $K_{xy}(s, t)$; with weights
    drawn at every step $\partial_t K_{xy}$ is the same at s = t. Both are advanced as the network is, by Euler steps.

    Arguments:
        x: Points of a path, at equal times.
        y: Of another, as many.
        activation: See `attractor.landscape.dual_activation`.
        shared: As in `controlled_resnet`.
        weight_variance: $C_w$, at least 0.
        bias_variance: $C_b$, at least 0.

    Raises:
        ValueError: if the paths differ in their number of points, or a number is out of its range.

    Paper: Neural signature kernels as infinite-width-depth-limits of controlled ResNets.
    """
    in_range("weight_variance", weight_variance, 0.0)
    in_range("bias_variance", bias_variance, 0.0)
    left, right = (np.diff(np.asarray(a, float), axis=0) for a in (x, y))
    if len(left) != len(right):
        raise ValueError(f"y: expected as many points as x has, {len(left) + 1}, got {len(right) + 1}")

    def source(kxx: Any, kxy: Any, kyy: Any) -> Any:
        return weight_variance * dual_activation(activation, kxx, kxy, kyy).value + bias_variance

    steps = len(left)
    if not shared:
        kxx = kxy = kyy = 1.0
        for dx, dy in zip(left, right, strict=True):
            grown = source(kxx, kxy, kyy) * (dx @ dy) * steps
            kxx, kyy = (k + source(k, k, k) * (d @ d) * steps for k, d in ((kxx, dx), (kyy, dy)))
            kxy = kxy + grown
        return float(kxy)

    def on_itself(increments: np.ndarray) -> np.ndarray:
        """K_xx on the diagonal, from the triangle below it."""
        gram, kernel = increments @ increments.T, np.ones((steps + 1, steps + 1))
        for i in range(steps):
            diagonal = np.diag(kernel)[: i + 1]
            fresh = source(kernel[i, i], kernel[i, : i + 1], diagonal) * gram[i, : i + 1]
            kernel[i + 1, 1 : i + 1] = 1 + np.cumsum(np.diff(kernel[i, : i + 1]) + fresh[:i])
            kernel[: i + 1, i + 1] = kernel[i + 1, : i + 1]
            kernel[i + 1, i + 1] = 2 * kernel[i + 1, i] - kernel[i, i] + fresh[i]
        return np.diag(kernel)

    kxx, kyy, row = on_itself(left), on_itself(right), np.ones(steps + 1)
    for i in range(steps):
        fresh = source(kxx[i], row[:-1], kyy[:-1]) * (left[i] @ right.T)
        row = np.concatenate([[1.0], 1 + np.cumsum(np.diff(row) + fresh)])
    return float(row[-1])
