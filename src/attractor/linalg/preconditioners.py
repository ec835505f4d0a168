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
    if A.shape[0] != A.shape[1]:  # pyright: ignore
        raise ValueError(f"A: expected a square matrix, got shape {A.shape}")
    rows: list[dict[int, float]] = []
    for i in range(A.shape[0]):  # pyright: ignore
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
    if L.shape[0] != L.shape[1] or sparse.triu(L, 1).nnz or not np.all(L.diagonal()):  # pyright: ignore
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


EdgeNetwork = Callable[
    [Float[Array, "n 1"], Float[Array, "directed 1"], Int[Array, " directed"], Int[Array, " directed"]],
    Float[Array, " directed"],
]


def network_entries(
    network: EdgeNetwork,
    entries: Float[Array, " e"],
    b: Float[Array, " n"],
    rows: Int[Array, " e"],
    columns: Int[Array, " e"],
) -> Float[Array, " e"]:
    r"""A factor's entries below its diagonal by a network on the matrix's graph: the mean over an edge's directions.

    Arguments:
        network: ``network(nodes, edges, senders, receivers)``, such as an `attractor.nn.EdgeGraphNetwork`.
        entries: A's below its diagonal, where that is scaled to 1.
        b: The right-hand side, what nodes are given; it counts in units of its root mean square.
        rows: As in `factor_product`.
        columns: As in `factor_product`.

    Paper: Learning Preconditioner for Conjugate Gradient PDE Solvers (Li et al., 2023).
    """
    nodes, edges = b / jnp.sqrt(jnp.mean(b**2)), jnp.concatenate([entries, entries])
    ends = jnp.concatenate([rows, columns]), jnp.concatenate([columns, rows])
    return network(nodes[:, None], edges[:, None], *ends).reshape(2, -1).mean(0)


def network_factor(network: EdgeNetwork, A: sparse.csr_array, b: Vector) -> sparse.csr_array:
    r"""A network's lower triangular L with A's nonzeros and diagonal $\sqrt{a_{ii}}$, for `triangular_solves`.

    $L L^\top$ is positive definite whatever the network says.

    Arguments:
        network: As in `network_entries`.
        A: Sparse, symmetric, with a positive diagonal.
        b: The right-hand side, not zero.

    Raises:
        ValueError: for a diagonal that is not positive, shapes that do not fit, or a b that is zero or not finite.

    Paper: Learning Preconditioner for Conjugate Gradient PDE Solvers (Li et al., 2023).
    """
    diagonal = A.diagonal()
    if A.shape[0] != A.shape[1] or not (diagonal > 0).all():  # pyright: ignore
        raise ValueError(f"A: expected a square matrix with a positive diagonal, got shape {A.shape}")
    require_finite("b", b, 1)
    if b.shape != diagonal.shape or not b.any():
        raise ValueError(f"b: expected {diagonal.size} numbers that are not all zero, got shape {b.shape}")
    roots = np.sqrt(diagonal)
    below = sparse.coo_array(sparse.tril(A, -1))
    rows, columns = below.coords
    scaled = jnp.asarray(below.data / (roots[rows] * roots[columns]), jnp.float32)
    made = network_entries(
        network, scaled, jnp.asarray(b / roots, jnp.float32), jnp.asarray(rows), jnp.asarray(columns)
    )
    L = sparse.coo_array((np.asarray(made, float), (rows, columns)), A.shape) + sparse.eye_array(b.size)
    return sparse.csr_array(sparse.diags_array(roots) @ L)


def _example() -> tuple[float, float]:
    """Of a tridiagonal matrix it is the Cholesky factor."""
    A = sparse.csr_array(np.diag(np.arange(3.0, 9.0)) - np.eye(6, k=1) - np.eye(6, k=-1))
    return float(np.abs(incomplete_cholesky(A).toarray() - np.linalg.cholesky(A.toarray())).max()), 1e-12


part("solver", "incomplete-cholesky", example=lambda: _example)(incomplete_cholesky)
