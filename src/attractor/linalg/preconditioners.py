"""Preconditioners of sparse symmetric positive definite systems: triangular factors, and losses to learn them by."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sparse
from jaxtyping import Array, Float, Int
from scipy.sparse.linalg import splu

from attractor.linalg.matrices import require_finite
from attractor.registry import part

Vector = Float[np.ndarray, " n"]


def incomplete_cholesky(A: sparse.csr_array) -> sparse.csr_array:
    r"""IC(0): the lower triangular L on A's own nonzeros with $(L L^\top)_{ij} = a_{ij}$ on them.

    It exists for M-matrices, such as discrete Laplacians, and elsewhere by luck.

    Arguments:
        A: Sparse, symmetric positive definite.

    Raises:
        ValueError: for entries that are not finite, a matrix that is not square, or a pivot that is not positive.

    Paper: Learning Preconditioner for Conjugate Gradient PDE Solvers (Li et al., 2023), as a baseline.
    """
    lower = sparse.csr_array(sparse.tril(A, format="csr"))
    lower.sort_indices()
    require_finite("A", lower.data)
    if A.shape[0] != A.shape[1]:
        raise ValueError(f"A: expected a square matrix, got shape {A.shape}")
    rows: list[dict[int, float]] = []
    for i in range(A.shape[0]):
        given = slice(lower.indptr[i], lower.indptr[i + 1])
        row: dict[int, float] = {}
        for j, value in zip(lower.indices[given].tolist(), lower.data[given].tolist(), strict=True):
            other = row if j == i else rows[j]
            rest = value - sum(entry * other[k] for k, entry in row.items() if k in other)
            if j == i and not rest > 0:
                raise ValueError(f"A: the pivot of row {i} is {rest:.3g}, not positive; add to A's diagonal")
            row[j] = rest**0.5 if j == i else rest / other[j]
        if i not in row:
            raise ValueError(f"A: expected a positive diagonal, got 0 in row {i}")
        rows.append(row)
    return sparse.csr_array((np.concatenate([list(r.values()) for r in rows]), lower.indices, lower.indptr), A.shape)


def triangular_solves(L: sparse.csr_array) -> Callable[[Vector], Vector]:
    r"""$v \mapsto (L L^\top)^{-1} v$ by two triangular solves.

    Arguments:
        L: Sparse, lower triangular, with a diagonal that is not zero.

    Raises:
        ValueError: for an L that is not lower triangular, or is singular.
    """
    if L.shape[0] != L.shape[1] or sparse.triu(L, 1).nnz or not np.all(L.diagonal()):
        raise ValueError(f"L: expected a square lower triangular matrix without zeros on its diagonal, got {L.shape}")
    # In its own order and without pivots the factors of a triangular matrix are itself and its diagonal.
    factored = splu(L.tocsc(), permc_spec="NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return lambda v: factored.solve(factored.solve(v), trans="T")


def factor_product(
    below: Float[Array, " e"],
    diagonal: Float[Array, " n"],
    rows: Int[Array, " e"],
    columns: Int[Array, " e"],
    x: Float[Array, " n"],
) -> Float[Array, " n"]:
    r"""$L L^\top x$ for a sparse lower triangular L, compiled and differentiable.

    Arguments:
        below: L's entries below its diagonal.
        diagonal: L's diagonal.
        rows: Where the entries are.
        columns: Where the entries are; ``columns < rows``.
        x: What to multiply.
    """
    n = len(diagonal)
    y = diagonal * x + jax.ops.segment_sum(below * x[rows], columns, n)
    return diagonal * y + jax.ops.segment_sum(below * y[columns], rows, n)


def factor_loss(
    below: Float[Array, " e"],
    diagonal: Float[Array, " n"],
    rows: Int[Array, " e"],
    columns: Int[Array, " e"],
    xs: Float[Array, "k n"],
    bs: Float[Array, "k n"],
) -> Float[Array, ""]:
    r"""How far a factor is from a matrix on given solutions: the mean over i of $\lVert L L^\top x_i - b_i \rVert^2$.

    With $b_i = A x_i$ it is $\lVert L L^\top - A \rVert_F^2$ weighted by the second moments of the x; where these are
    white noise, it estimates the plain one. Solutions of the equation that is to be solved weigh the errors by how
    much they will matter.

    Arguments:
        below: As in `factor_product`.
        diagonal: As in `factor_product`; the paper fixes it at the roots of A's diagonal.
        rows: As in `factor_product`.
        columns: As in `factor_product`.
        xs: Solutions.
        bs: Their right-hand sides.

    Paper: Learning Preconditioner for Conjugate Gradient PDE Solvers (Li et al., 2023).
    """
    products = jax.vmap(lambda x: factor_product(below, diagonal, rows, columns, x))(xs)
    return jnp.sum((products - bs) ** 2, 1).mean()


def _example() -> tuple[float, float]:
    """Of a tridiagonal matrix it is the Cholesky factor."""
    A = sparse.csr_array(np.diag(np.arange(3.0, 9.0)) - np.eye(6, k=1) - np.eye(6, k=-1))
    return float(np.abs(incomplete_cholesky(A).toarray() - np.linalg.cholesky(A.toarray())).max()), 1e-12


part("solver", "incomplete-cholesky", example=lambda: _example)(incomplete_cholesky)
