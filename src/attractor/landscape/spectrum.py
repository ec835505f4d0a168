"""The top of the Hessian's spectrum, and how much of the gradient lies there."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


class Eigenpairs(NamedTuple):
    """The k largest eigenvalues of a symmetric operator, largest first, with orthonormal eigenvectors as columns."""

    values: Float[Array, " k"]
    vectors: Float[Array, "p k"]


def top_eigenpairs(
    matvec: Callable[[Float[Array, " p"]], Float[Array, " p"]],
    dim: int,
    k: int,
    key: PRNGKeyArray,
    *,
    iterations: int | None = None,
    dtype: jnp.dtype | None = None,
) -> Eigenpairs:
    r"""The k (algebraically) largest eigenpairs of a symmetric operator, by Lanczos with full reorthogonalization.

    $A Q_m = Q_m T_m + \beta_m q_{m+1} e_m^\top$; the Ritz pairs are those of the tridiagonal $T_m$. The
    basis $Q_m$ is kept, m vectors of length p. It can be compiled, vmapped and used as a probe of a run.

    Arguments:
        matvec: ``v -> A v`` with A symmetric, p x p.
        dim: p.
        k: How many pairs, 1 … p.
        key: Draws the starting vector.
        iterations: m, the number of products with A, k … p; default: ``min(p, 4 k + 40)``. Where m = p the
            result is exact up to rounding.
        dtype: Of the basis; default: JAX's default float.

    Raises:
        ValueError: if ``k`` or ``iterations`` is out of range.
    """
    m = min(dim, 4 * k + 40) if iterations is None else iterations
    if not 1 <= k <= dim:
        raise ValueError(f"k: expected a whole number in 1 … {dim} (the dimension), got {k}")
    if not k <= m <= dim:
        raise ValueError(f"iterations: expected a whole number in {k} … {dim}, got {m}")
    dtype = jnp.zeros(()).dtype if dtype is None else dtype
    starts = jr.normal(key, (m, dim), dtype)

    def orthogonal(basis: Array, v: Array) -> Array:
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            v = v - basis.T @ (basis @ v)
        return v

    def extend(basis: Array, j: Array) -> tuple[Array, tuple[Array, Array]]:
        image = matvec(basis[j])
        alpha = basis[j] @ image
        rest = orthogonal(basis, image)
        beta = jnp.linalg.norm(rest)
        # An invariant subspace is found when nothing is left: go on from a fresh direction, decoupled (beta = 0).
        lost = beta <= 10 * jnp.finfo(dtype).eps * jnp.linalg.norm(image)
        fresh = orthogonal(basis, starts[j])
        following = jnp.where(lost, fresh / jnp.linalg.norm(fresh), rest / jnp.where(lost, 1, beta))
        return basis.at[j + 1].set(following, mode="drop"), (alpha, jnp.where(lost, 0, beta))

    first = jnp.zeros((m, dim), dtype).at[0].set(starts[-1] / jnp.linalg.norm(starts[-1]))
    basis, (alpha, beta) = lax.scan(extend, first, jnp.arange(m))
    values, coordinates = jnp.linalg.eigh(jnp.diag(alpha) + jnp.diag(beta[:-1], 1) + jnp.diag(beta[:-1], -1))
    top = slice(None, -k - 1, -1)
    return Eigenpairs(values[top], basis.T @ coordinates[:, top])


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
