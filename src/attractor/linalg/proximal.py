"""Proximal maps, and a penalty that is defined by its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from attractor.checks import Scalar, in_range

Prox = Callable[[PyTree, Scalar], PyTree]
Groups = Float[Array, "m ..."]
BISECTIONS = 80


def soft_threshold(x: Float[Array, "..."], threshold: Scalar | Float[Array, "..."]) -> Float[Array, "..."]:
    r"""Proximal map of $t \lVert x \rVert_1$: every entry moves by t towards zero, and stays there if it gets there.

    Arguments:
        x: Any shape.
        threshold: t, at least 0, one for all entries or one for each.

    Raises:
        ValueError: for a negative ``threshold``.
    """
    in_range("threshold", threshold, 0.0)
    return (jnp.sign(x) * jnp.maximum(jnp.abs(x) - threshold, 0)).astype(x.dtype)


def onto_balanced_box(v: Float[Array, " n"], signs: Float[Array, " n"], upper: Scalar) -> Float[Array, " n"]:
    r"""The point nearest to v in the box from 0 to C where the two signs balance, $s^\top x = 0$.

    It is $x_i = \min(\max(v_i - \mu s_i, 0), C)$, μ by bisection, and then exactly from the entries inside the box.

    Arguments:
        v: (n,).
        signs: s, (n,), 1 and -1, both present.
        upper: C > 0.

    Raises:
        ValueError: if ``upper`` is not positive.
    """
    in_range("upper", upper, 0.0, open_low=True)
    far = jnp.max(jnp.abs(v)) + upper

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        above = signs @ jnp.clip(v - middle * signs, 0.0, upper) > 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = lax.fori_loop(0, 40, halve, (-far, far))
    moved = v - (low + high) / 2 * signs
    inside = (moved > 0) & (moved < upper)
    rest = jnp.sum(signs * jnp.where(inside, v, jnp.clip(moved, 0.0, upper)))
    exact = jnp.where(inside.any(), rest / jnp.maximum(inside.sum(), 1), (low + high) / 2)
    return jnp.clip(v - exact * signs, 0.0, upper).astype(v.dtype)


def group_soft_threshold(x: Float[Array, "..."], threshold: Scalar, axis: int = -1) -> Float[Array, "..."]:
    r"""Proximal map of $t \sum_g \lVert x_g \rVert_2$: every group is shortened by t, or zero if it is not longer.

    Arguments:
        x: Any shape with at least one axis.
        threshold: t, at least 0.
        axis: The axis along which a group's entries lie.

    Raises:
        ValueError: for a negative ``threshold``.
    """
    in_range("threshold", threshold, 0.0)
    size = jnp.linalg.norm(x, axis=axis, keepdims=True)
    kept = jnp.where(size > threshold, 1 - threshold / jnp.where(size > 0, size, 1), 0)
    return (x * kept).astype(x.dtype)


def prox_group_lasso(x: Groups, strength: Scalar) -> Groups:
    r"""Proximal map of $\lambda \sum_j \lVert x_j \rVert$: `group_soft_threshold` with a group per row.

    Arguments:
        x: ``(m, …)``, a group per entry of the first axis.
        strength: lambda, in [0, inf).

    Raises:
        ValueError: for a ``strength`` out of range.
    """
    in_range("strength", strength, 0.0)
    return group_soft_threshold(x.reshape(len(x), -1), strength).reshape(x.shape)


def lasso(strength: Scalar) -> Prox:
    r"""The proximal map of $\lambda \lVert x \rVert_1$ over a whole pytree, for `proximal_sgd`.

    Arguments:
        strength: $\lambda$, at least 0.
    """
    return lambda x, step: jax.tree.map(lambda leaf: soft_threshold(leaf, strength * step), x)


def group_envelope(x: Groups, k: Scalar, weights: Float[Array, " m"] | None = None) -> Float[Array, ""]:
    r"""The convex envelope of half the squared norm on points with at most k nonzero groups.

    $$ S_k(x) = \min_u \Bigl\{ \tfrac12 \sum_j \lVert x_j \rVert^2 / u_j :\; 0 \le u \le 1,\;
       \textstyle\sum_j d_j u_j \le k \Bigr\} $$

    It is half the squared norm wherever that many groups suffice, and larger elsewhere. That the weights d enter
    through the budget, as costs of groups, was chosen here.

    Arguments:
        x: ``(m, …)``, a group per entry of the first axis.
        k: The budget of groups, in (0, inf).
        weights: Cost d of each group, ``(m,)``, positive; `None`: all 1, so that k counts groups.

    Raises:
        ValueError: for an argument out of range.

    Paper: Learning k-Level Structured Sparse Neural Networks Using Group Envelope Regularization.
    """
    norms = _norms(x)
    shares = _shares(norms, k, 0.0, weights)
    return jnp.sum(jnp.where(norms > 0, norms**2 / jnp.where(shares > 0, shares, 1), 0)) / 2


def prox_group_envelope(x: Groups, k: Scalar, strength: Scalar, weights: Float[Array, " m"] | None = None) -> Groups:
    r"""Proximal map of $\lambda S_k$, with $S_k$ the `group_envelope`.

    $$ z_j = \frac{u_j}{u_j + \lambda} x_j, \qquad
       u_j = \operatorname{clip}\bigl(c \lVert x_j \rVert / \sqrt{d_j} - \lambda,\; 0,\; 1\bigr) $$

    with the c for which $\sum_j d_j u_j = k$, found by bisection and then in closed form on the active groups: time
    linear in the number of groups. The large groups share the budget; those left without a share become zero.

    Arguments:
        x: ``(m, …)``, a group per entry of the first axis.
        k: The budget of groups, in (0, inf).
        strength: lambda, in (0, inf): that of the penalty times the step size.
        weights: As in `group_envelope`.

    Raises:
        ValueError: for an argument out of range.

    Paper: Learning k-Level Structured Sparse Neural Networks Using Group Envelope Regularization.
    """
    in_range("strength", strength, 0.0, open_low=True)
    shares = _shares(_norms(x), k, strength, weights)
    factors = shares / (shares + strength)
    return x * factors.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)


def _norms(x: Groups) -> Float[Array, " m"]:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32)).reshape(len(x), -1)
    return jnp.linalg.norm(wide, axis=1)


def _shares(norms: Float[Array, " m"], k: Scalar, strength: Any, weights: Array | None) -> Float[Array, " m"]:
    """The u of `prox_group_envelope`; for strength 0 that of `group_envelope`."""
    in_range("k", k, 0.0, open_low=True)
    if weights is not None:
        in_range("weights", weights, 0.0, open_low=True)
    cost = jnp.ones_like(norms) if weights is None else jnp.asarray(weights, norms.dtype)
    size = norms / jnp.sqrt(cost)

    def raw(s: Array) -> Array:  # s is 1 / c
        return size / jnp.maximum(s, jnp.finfo(norms.dtype).tiny) - strength

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        above = cost @ jnp.clip(raw(middle), 0, 1) > k
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    s = lax.fori_loop(0, BISECTIONS, halve, (jnp.zeros_like(norms[0]), (cost @ size) / k))[1]
    full, part = raw(s) >= 1, (raw(s) > 0) & (raw(s) < 1)
    left = k - cost @ full + strength * (cost @ part)
    s = jnp.where(part.any() & (left > 0), (cost * size) @ part / jnp.where(left > 0, left, 1), s)
    suffices = cost @ (norms > 0) <= k
    return jnp.where(suffices, 1.0 * (norms > 0), jnp.clip(raw(s), 0, 1))


def group_envelope_gap(x: Groups, z: Groups, k: Scalar, strength: Scalar) -> Float[Array, ""]:
    """The duality gap of `prox_group_envelope`'s problem at ``z``: 0 at its solution, and above it elsewhere.

    The conjugate of the envelope is half the sum of the k largest squared norms of groups.

    Arguments:
        x: The point ``(m, d)``, one group per row.
        z: What is taken for its proximal map.
        k: As of `group_envelope`.
        strength: In (0, inf).

    Raises:
        ValueError: if ``strength`` is out of range.
    """
    in_range("strength", strength, 0.0, open_low=True)
    dual = (x - z) / strength
    largest = jnp.sort(jnp.sum(dual**2, 1))[::-1]
    conjugate = jnp.where(jnp.arange(len(x)) < k, largest, 0).sum() / 2
    return group_envelope(z, k) + conjugate - jnp.sum(z * dual)
