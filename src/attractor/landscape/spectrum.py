"""The top of the Hessian's spectrum, and how much of the gradient lies there."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.linalg.lanczos import Eigenpairs, top_eigenpairs


def top_hessian_eigs(
    loss: Callable[[PyTree], Float[Array, ""]],
    params: PyTree,
    k: int,
    *,
    key: PRNGKeyArray | None = None,
    iterations: int | None = None,
) -> Eigenpairs:
    r"""The k largest eigenvalues of a loss's Hessian and their eigenvectors, from Hessian-vector products.

    Each product is $v \mapsto \partial_\epsilon \nabla f(\theta + \epsilon v)$, about the cost
    of two gradients; the Hessian is never formed.

    Arguments:
        loss: Scalar function of the parameters (on all the data one cares about).
        params: A pytree of floating-point arrays with p numbers in all.
        k: How many, 1 … p.
        key: Draws the Lanczos starting vector; default: a fixed one.
        iterations: Hessian-vector products, k … p; default: ``min(p, 4 k + 40)``. More separate close eigenvalues.

    Returns:
        Eigenvalues, and eigenvectors ``(p, k)`` in the order of `jax.flatten_util.ravel_pytree`.

    Raises:
        ValueError: if ``k`` or ``iterations`` is out of range.

    Paper: Gradient Descent Happens in a Tiny Subspace.
    """
    flat, unravel = ravel_pytree(params)
    wide = jnp.promote_types(flat.dtype, jnp.float32)  # Lanczos in half precision finds nothing

    def matvec(v: Array) -> Array:
        tangent = unravel(v.astype(flat.dtype))
        return ravel_pytree(jax.jvp(jax.grad(loss), (params,), (tangent,))[1])[0].astype(wide)

    key = jr.key(0) if key is None else key
    return top_eigenpairs(matvec, flat.size, k, key, iterations=iterations, dtype=wide)


def gradient_subspace_fraction(gradient: PyTree, vectors: Float[Array, "p k"]) -> Float[Array, ""]:
    r"""The share of a gradient's squared norm inside a subspace, $\|V^\top g\|^2 / \|g\|^2$, in [0, 1].

    A random k-dimensional subspace of p dimensions holds k/p on average. The zero gradient gives 0.

    Arguments:
        gradient: A pytree with p numbers in all.
        vectors: Orthonormal columns, as from `top_hessian_eigs`.
    """
    g = ravel_pytree(gradient)[0].astype(vectors.dtype)
    total = g @ g
    inside = vectors.T @ g
    return jnp.where(total > 0, inside @ inside / jnp.where(total > 0, total, 1), 0)


def subspace_overlap(a: Float[Array, "p k"], b: Float[Array, "p k"]) -> Float[Array, ""]:
    r"""How much two k-dimensional subspaces share, $\mathrm{tr}(P_a P_b)/k = \|A^\top B\|_F^2 / k$, in [0, 1].

    1 for equal spans, 0 for orthogonal ones, k/p on average for random ones.

    Arguments:
        a: Orthonormal columns.
        b: Orthonormal columns.
    """
    return jnp.sum((a.T @ b) ** 2) / a.shape[1]
