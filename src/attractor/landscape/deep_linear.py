"""Deep linear networks: how their modes are learned in time, and the same networks as generators of a covariance."""

from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import Scalar, in_range

Weights = Sequence[Float[Array, "... _ _"]]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(48)


def _elapsed(begin: Array, end: Array, depth: Scalar, strength: Array) -> Array:
    """Time from one logit of u / s to another, for tau = 1."""
    half = (end - begin) / 2
    z = begin[..., None] + half[..., None] * (1 + NODES)
    # With u = s sigmoid(z) the differential equation is dz/dt = D s^(2 - 2/D) sigmoid(z)^(1 - 2/D).
    integral = half * jnp.sum(WEIGHTS * jnp.exp(-(1 - 2 / depth) * jax.nn.log_sigmoid(z)), -1)
    return integral / (depth * strength ** (2 - 2 / depth))


def learning_time(
    strength: ArrayLike,
    start: ArrayLike,
    end: ArrayLike,
    depth: Scalar = 2,
    tau: float = 1.0,
) -> Float[Array, "..."]:
    r"""How long gradient flow takes to bring a mode of a deep linear network from one strength to another.

    $\tau \dot u = D u^{2 - 2/D} (s - u)$ for a mode that all D weight matrices share evenly, so that
    $t = \frac{\tau}{D} \int du / (u^{2 - 2/D} (s - u))$; for D = 2 that is
    $\frac{\tau}{2s} \ln \frac{u_1 (s - u_0)}{u_0 (s - u_1)}$. The integral is taken over $\ln u / (s - u)$ by Gauss'
    rule with 48 nodes.

    Arguments:
        strength: s, the singular value of the input-output correlation.
        start: $u_0$ in (0, s).
        end: $u_1$ in (0, s).
        depth: D, weight matrices between input and output, at least 1 (the paper counts layers of units, D + 1).
        tau: Time constant, in (0, inf): the inverse of the learning rate.

    Raises:
        ValueError: if ``depth < 1``, ``tau <= 0``, or a strength is out of range.

    Paper: Exact solutions to the nonlinear dynamics of learning in deep linear neural networks.
    """
    in_range("depth", depth, 1)
    in_range("tau", tau, 0.0, open_low=True)
    s, first, last = jnp.broadcast_arrays(jnp.asarray(strength, float), jnp.asarray(start), jnp.asarray(end))
    for name, u in (("start", first), ("end", last)):
        if not isinstance(u, Tracer):
            in_range(name, u / s, 0.0, 1.0, open_low=True, open_high=True)
    return tau * _elapsed(jnp.log(first / (s - first)), jnp.log(last / (s - last)), depth, s)


def mode_strength(
    time: ArrayLike,
    strength: ArrayLike,
    start: ArrayLike,
    depth: Scalar = 2,
    tau: float = 1.0,
) -> Float[Array, "..."]:
    r"""The strength of a mode after some time of gradient flow: the inverse function of `learning_time`.

    For D = 2 the sigmoid $u(t) = s e^{2st/\tau} / (e^{2st/\tau} - 1 + s / u_0)$; for other depths the time is inverted
    by 60 bisections.

    Arguments:
        time: t, at least 0.
        strength: s, the singular value of the input-output correlation.
        start: $u_0$ in (0, s).
        depth: D, weight matrices between input and output, at least 1.
        tau: Time constant, in (0, inf): the inverse of the learning rate.

    Raises:
        ValueError: if ``depth < 1``, ``tau <= 0``, or ``start`` is out of range.

    Paper: Exact solutions to the nonlinear dynamics of learning in deep linear neural networks.
    """
    in_range("depth", depth, 1)
    in_range("tau", tau, 0.0, open_low=True)
    t, s, first = jnp.broadcast_arrays(jnp.asarray(time, float), jnp.asarray(strength, float), jnp.asarray(start))
    if not isinstance(first, Tracer):
        in_range("start", first / s, 0.0, 1.0, open_low=True, open_high=True)
    begin = jnp.log(first / (s - first))
    # From a logit of 40 on, u is s in double precision.
    low, high = begin, jnp.maximum(begin, 40.0)

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        early = tau * _elapsed(begin, middle, depth, s) < t
        return jnp.where(early, middle, ends[0]), jnp.where(early, ends[1], middle)

    low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
    return s * jax.nn.sigmoid((low + high) / 2)


def deep_linear_map(weights: Weights) -> Float[Array, "out in"]:
    """The matrix that a deep linear network multiplies its input with, $W_D ⋯ W_1$.

    Arguments:
        weights: $W_1, …, W_D$, each outputs x inputs; several square ones may be stacked, ``(k, n, n)``, and are then
            multiplied in a compiled loop.
    """

    def after(w: Array) -> Array:
        return w if w.ndim == 2 else jax.lax.scan(lambda p, w: (w @ p, None), jnp.eye(w.shape[-1], dtype=w.dtype), w)[0]

    return reduce(lambda product, w: after(w) @ product, weights[1:], after(weights[0]))


def deep_linear_loss(weights: Weights, correlation: Float[Array, "out in"]) -> Float[Array, ""]:
    r"""The squared error of a deep linear network on whitened inputs, $\frac12 \|\Sigma - W_D \cdots W_1\|_F^2$.

    It is the mean over the data up to a constant that the weights do not change.

    Arguments:
        weights: $W_1, …, W_D$, as in `deep_linear_map`.
        correlation: $\Sigma$, the mean of output times input.

    Paper: Exact solutions to the nonlinear dynamics of learning in deep linear neural networks.
    """
    return jnp.sum((correlation - deep_linear_map(weights)) ** 2) / 2


def train_deep_linear(
    weights: Weights,
    correlation: Float[Array, "out in"],
    rate: Scalar,
    steps: int,
    every: int = 1,
) -> Float[Array, "records out in"]:
    """Gradient descent on `deep_linear_loss`: the network's map after every so many steps.

    Arguments:
        weights: Where to start.
        correlation: Outputs x inputs, the map to learn.
        rate: Step size; the time of the differential equation (tau = 1) is this times the steps. At least 0.
        steps: How many in all, at least 1.
        every: A record after so many, at least 1.

    Raises:
        ValueError: for an argument out of range.

    Paper: Exact solutions to the nonlinear dynamics of learning in deep linear neural networks.
    """
    in_range("rate", rate, 0.0)
    in_range("every", every, 1)
    in_range("steps", steps, every)

    def step(_: Any, weights: Any) -> Any:
        slopes = jax.grad(deep_linear_loss)(weights, correlation)
        return jax.tree.map(lambda w, g: w - rate * g, weights, slopes)

    def record(weights: Any, _: None) -> tuple[Any, Array]:
        weights = jax.lax.fori_loop(0, every, step, weights)
        return weights, deep_linear_map(weights)

    return jax.lax.scan(record, weights, length=steps // every)[1]


def decoupled_start(
    correlation: Float[Array, "out in"], depth: int, size: float, key: PRNGKeyArray, width: int | None = None
) -> list[Float[Array, "_ _"]]:
    r"""Balanced weights in which each singular mode of the data has a path of its own, $W_l = R_{l+1} A R_l^\top$.

    A holds ``size ** (1 / depth)`` on its diagonal. $R_1$ and $R_{D+1}$ are the singular vectors of the correlation and
    the R between are random and orthogonal, so that every mode starts at strength ``size`` and follows `mode_strength`.

    Arguments:
        correlation: $\Sigma$, outputs x inputs.
        depth: D, at least 1.
        size: Strength of every mode at the start, above 0.
        key: Of the hidden orthogonal matrices.
        width: Of the hidden layers, at least the smaller side of $\Sigma$; default: the larger side.

    Raises:
        ValueError: for an argument out of range.

    Paper: Exact solutions to the nonlinear dynamics of learning in deep linear neural networks.
    """
    outputs, inputs = correlation.shape
    hidden = max(outputs, inputs) if width is None else width
    in_range("depth", depth, 1)
    in_range("size", size, 0.0, open_low=True)
    in_range("width", hidden, min(outputs, inputs))
    left, _, right = jnp.linalg.svd(correlation, full_matrices=False)
    modes = right.shape[0]
    draws = jr.normal(key, (depth - 1, hidden, hidden), correlation.dtype)
    frames = [right.T, *jnp.linalg.qr(draws)[0][..., :modes], left]
    return [size ** (1 / depth) * frames[i + 1] @ frames[i].T for i in range(depth)]


def _root(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0))) @ vectors.T


def bures_wasserstein(a: Float[Array, "n n"], b: Float[Array, "n n"], smoothing: Scalar = 0.0) -> Float[Array, ""]:
    r"""The squared Bures-Wasserstein distance of two covariances.

    $$ \operatorname{tr} A + \operatorname{tr} B - 2 \operatorname{tr} (A^{1/2} B A^{1/2})^{1/2} $$

    It is the squared 2-Wasserstein distance of two centered Gaussians with these covariances. Its derivative does not
    exist where $A^{1/2} B A^{1/2}$ is singular: see `generator_loss` for a factor of B.

    Arguments:
        a: A, positive semidefinite.
        b: B, positive semidefinite.
        smoothing: $\tau$, in [0, inf); both matrices are replaced by themselves plus $\tau I$, which leaves the
            distance of equal ones at 0 and bounds the second derivative.

    Raises:
        ValueError: if ``smoothing`` is negative.

    Paper: Critical Points and Convergence Analysis of Generative Deep Linear Networks Trained with Bures-Wasserstein
    Loss.
    """
    in_range("smoothing", smoothing, 0.0)
    shift = smoothing * jnp.eye(a.shape[0], dtype=a.dtype)
    root = _root(a + shift)
    inner = root @ (b + shift) @ root
    values = jnp.linalg.eigvalsh((inner + inner.T) / 2)
    return jnp.trace(a + b + 2 * shift) - 2 * jnp.sum(jnp.sqrt(jnp.maximum(values, 0)))


def generator_loss(weights: Weights, target: Float[Array, "n n"], smoothing: Scalar | None = None) -> Float[Array, ""]:
    r"""The Bures-Wasserstein loss of a deep linear generator: its output covariance against the target.

    The covariance is $W W^\top$ with $W = W_D \cdots W_1$, and the loss

    $$ \operatorname{tr} \Sigma_0 + \|W\|_F^2 - 2 \|\Sigma_0^{1/2} W\|_* $$

    It can be differentiated wherever $\Sigma_0^{1/2} W$ has full rank in its smaller dimension.

    Arguments:
        weights: $W_1, …, W_D$, as in `deep_linear_map`; the inputs are white noise.
        target: $\Sigma_0$, positive semidefinite.
        smoothing: Default: none; otherwise as in `bures_wasserstein`.

    Paper: Critical Points and Convergence Analysis of Generative Deep Linear Networks Trained with Bures-Wasserstein
    Loss.
    """
    product = deep_linear_map(weights)
    if smoothing is not None:
        return bures_wasserstein(target, product @ product.T, smoothing)
    overlap = jnp.linalg.svd(_root(target) @ product, compute_uv=False)
    return jnp.trace(target) + jnp.sum(product**2) - 2 * jnp.sum(overlap)


def generator_critical_points(
    target: Float[Array, "n n"], rank: int
) -> tuple[Float[Array, "count n rank"], Float[Array, " count"]]:
    r"""All factors of full rank where the Bures-Wasserstein loss is stationary, up to rotations, and their losses.

    Each keeps ``rank`` eigenpairs of the target, $W = U_I \Lambda_I^{1/2}$, and loses the sum of the other eigenvalues;
    the first keeps the largest and is the minimizer. There are n choose ``rank``.

    Arguments:
        target: $\Sigma_0$, symmetric and positive definite, with distinct eigenvalues.
        rank: Columns of the factor, 1 … n.

    Raises:
        ValueError: if ``rank`` is out of range.

    Paper: Critical Points and Convergence Analysis of Generative Deep Linear Networks Trained with Bures-Wasserstein
    Loss.
    """
    in_range("rank", rank, 1, target.shape[0])
    values, vectors = (part[..., ::-1] for part in jnp.linalg.eigh(target))
    kept = jnp.asarray(list(combinations(range(target.shape[0]), rank)))
    factors = jnp.moveaxis((vectors * jnp.sqrt(values))[:, kept], 1, 0)
    return factors, jnp.sum(values) - jnp.sum(values[kept], -1)
