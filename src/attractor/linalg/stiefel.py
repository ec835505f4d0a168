"""The Stiefel manifold of orthonormal frames: the nearest frame, and the tangent part of a direction."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def nearest_frame(x: Float[Array, "*batch d r"]) -> Float[Array, "*batch d r"]:
    r"""The nearest matrix with orthonormal columns, $U V^\top$ of $x = U \Sigma V^\top$: the polar factor.

    Arguments:
        x: Matrices of full rank; of wider than tall ones the rows become orthonormal. One that is not finite gives NaN.
    """
    finite = jnp.isfinite(x).all((-2, -1), keepdims=True)
    u, _, vt = jnp.linalg.svd(jnp.where(finite, x, 0), full_matrices=False)  # LAPACK's may never end on what is not
    return jnp.where(finite, u @ vt, jnp.nan)


def tangent_part(x: Float[Array, "*batch d r"], v: Float[Array, "*batch d r"]) -> Float[Array, "*batch d r"]:
    r"""The part of v along the manifold at x, $v - x\,\mathrm{sym}(x^\top v)$, nearest to v; of a gradient, Riemann's.

    Arguments:
        x: Matrices with orthonormal columns, or rows where they are wider than tall.
        v: A direction each.
    """
    if x.shape[-2] < x.shape[-1]:
        return tangent_part(x.mT, v.mT).mT
    inner = x.mT @ v
    return v - x @ (inner + inner.mT) / 2
