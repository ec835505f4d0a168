"""Krylov spaces of a symmetric operator: orthonormal bases, and the top of its spectrum by Lanczos' method."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.linalg.curvature import MatVec
from attractor.registry import part


def krylov_basis(matvec: MatVec, start: Float[Array, " n"], size: int) -> Float[Array, "n size"]:
    r"""Orthonormal basis of $\operatorname{span}\{v, Hv, \dots, H^{k-1} v\}$, reorthogonalized twice at every step.

    Where the space is exhausted earlier, the remaining columns are zero.

    Arguments:
        matvec: ``v -> Hv``.
        start: v.
        size: k, at least 1.
    """

    def unit(v: Array, reference: Array) -> Array:
        length = jnp.linalg.norm(v)
        gone = length <= 10 * jnp.finfo(v.dtype).eps * reference
        return jnp.where(gone, 0, v / jnp.where(gone, 1, length))

    def grow(basis: Array, i: Array) -> tuple[Array, None]:
        v = matvec(basis[:, i - 1])
        rest = v - basis @ (basis.T @ v)
        rest = rest - basis @ (basis.T @ rest)
        return basis.at[:, i].set(unit(rest, jnp.linalg.norm(v))), None

    first = jnp.zeros((start.size, size), start.dtype).at[:, 0].set(unit(start, jnp.zeros((), start.dtype)))
    return lax.scan(grow, first, jnp.arange(1, size))[0]


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
    block: int = 1,
    dtype: jnp.dtype | None = None,
) -> Eigenpairs:
    r"""The k (algebraically) largest eigenpairs of a symmetric operator, by Lanczos with full reorthogonalization.

    $A Q_m = Q_m T_m + R_m$ with $R_m^\top Q_m = 0$ but for rounding; the Ritz pairs are those of the banded $T_m$. The
    basis $Q_m$ is kept, m vectors of length p. It can be compiled, vmapped and used as a probe of a run.

    The Krylov space of one vector holds one eigenvector of each eigenvalue: of further copies of a multiple eigenvalue
    it learns from rounding alone, so that with ``block=1`` it may report 4 of 5, and the next smaller eigenvalue in
    place of the fifth. A block of b vectors finds b copies; the price is fewer powers of A, m / b of them.

    Arguments:
        matvec: ``v -> A v`` with A symmetric, p x p.
        dim: p.
        k: How many pairs, 1 … p.
        key: Draws the starting vector.
        iterations: m, the number of products with A, k … p; default: ``min(p, 4 k + 40)``. Where m = p the
            result is exact up to rounding.
        block: b, how many vectors the space starts from, 1 … ``iterations``.
        dtype: Of the basis; default: JAX's default float.

    Raises:
        ValueError: if ``k``, ``iterations`` or ``block`` is out of range.
    """
    m = min(dim, 4 * k + 40) if iterations is None else iterations
    if not 1 <= k <= dim:
        raise ValueError(f"k: expected a whole number in 1 … {dim} (the dimension), got {k}")
    if not k <= m <= dim:
        raise ValueError(f"iterations: expected a whole number in {k} … {dim}, got {m}")
    if not 1 <= block <= m:
        raise ValueError(f"block: expected a whole number in 1 … {m} (the iterations), got {block}")
    dtype = jnp.zeros(()).dtype if dtype is None else dtype
    basis, banded = tridiagonalize(matvec, jr.normal(key, (m, dim), dtype), block)
    values, coordinates = jnp.linalg.eigh(banded)
    top = slice(None, -k - 1, -1)
    return Eigenpairs(values[top], basis.T @ coordinates[:, top])


def tridiagonalize(
    matvec: Callable[[Float[Array, " p"]], Float[Array, " p"]], starts: Float[Array, "m p"], block: int = 1
) -> tuple[Float[Array, "m p"], Float[Array, "m m"]]:
    r"""Lanczos' process with full reorthogonalization: $Q_m$ with orthonormal rows, and $T_m = Q_m A Q_m^\top$.

    Arguments:
        matvec: ``v -> A v`` with A symmetric, p x p.
        starts: The last ``block`` rows span the first vectors; the others replace what is lost where the Krylov space
            is exhausted.
        block: How many vectors the space starts from; $T_m$ has so many diagonals below the main one.
    """
    dtype, m = starts.dtype, len(starts)

    def orthogonal(basis: Array, v: Array) -> Array:
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            v = v - basis.T @ (basis @ v)
        return v

    def extend(basis: Array, j: Array) -> tuple[Array, Array]:
        image = matvec(basis[j])
        rest = orthogonal(basis, image)
        beta = jnp.linalg.norm(rest)
        # An invariant subspace is found when nothing is left: go on from a fresh direction.
        lost = beta <= 10 * jnp.finfo(dtype).eps * jnp.linalg.norm(image)
        fresh = orthogonal(basis, starts[j])
        following = jnp.where(lost, fresh / jnp.linalg.norm(fresh), rest / jnp.where(lost, 1, beta))
        return basis.at[j + block].set(following, mode="drop"), basis @ image

    first = jnp.zeros(starts.shape, dtype).at[:block].set(jnp.linalg.qr(starts[-block:].T)[0].T)
    basis, products = lax.scan(extend, first, jnp.arange(m))
    below = jnp.tril(products)  # those of row j with vectors up to the j-th, all of which were there
    return basis, below + jnp.tril(below, -1).T


def _generic() -> Float[Array, "8 8"]:
    matrix = jr.normal(jr.key(0), (8, 8))
    return matrix + matrix.T


def _lanczos_error() -> tuple[Array, float]:
    values, vectors = top_eigenpairs(lambda v: _generic() @ v, 8, 3, jr.key(1))
    expected = jnp.linalg.eigvalsh(_generic())[:-4:-1]
    return jnp.abs(values - expected).max() + jnp.abs(_generic() @ vectors - vectors * values).max(), 1e-4


def _krylov_error() -> tuple[Array, float]:
    """The space holds H v and its basis is orthonormal."""
    start = jnp.arange(8.0) - 2
    basis = krylov_basis(lambda v: _generic() @ v, start, 3)
    image = _generic() @ start
    return jnp.abs(basis.T @ basis - jnp.eye(3)).max() + jnp.abs(basis @ (basis.T @ image) - image).max(), 1e-4


part("solver", "lanczos", example=lambda: _lanczos_error)(top_eigenpairs)
part("solver", "krylov-basis", example=lambda: _krylov_error)(krylov_basis)
