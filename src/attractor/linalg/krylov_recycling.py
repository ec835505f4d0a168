"""Sequences of similar linear systems: Krylov spaces that are handed from one solve to the next."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sparse
from jaxtyping import ArrayLike, Float, Int

from attractor.checks import in_range
from attractor.linalg.matrices import require_finite
from attractor.registry import part

Vector = Float[np.ndarray, " n"]
Matrix = Float[np.ndarray, "n n"] | sparse.csr_array


class Recycled(NamedTuple):
    """A solution, and what the next system may use of it."""

    x: Vector
    products: int  # with A, those that prepare the recycled space included
    residual: float  # relative, computed anew at the end
    converged: bool
    space: Float[np.ndarray, "n k"]  # for `recycle`; its images under A are orthonormal


def gcro_dr(
    A: Matrix,
    b: Vector,
    *,
    m: int = 30,
    k: int = 10,
    recycle: Float[np.ndarray, "n k"] | None = None,
    precondition: Callable[[Vector], Vector] | None = None,
    tol: float = 1e-8,
    max_products: int = 10_000,
) -> Recycled:
    r"""GCRO-DR: restarted GMRES that keeps k approximate eigenvectors over restarts, and over systems.

    A space U with $C = A U$, $C^\top C = I$, takes its part of the residual first: $x \leftarrow x + U C^\top r$,
    $r \leftarrow r - C C^\top r$. Then $m - k$ Arnoldi steps with $(I - C C^\top) A$ from r, a least-squares problem in
    both, and a new U of the k harmonic Ritz vectors of smallest modulus. For a new matrix, $A U = C R$ is factored
    anew and $U \leftarrow U R^{-1}$, at the price of k products. ``k=0`` is restarted GMRES.

    Arguments:
        A: Nonsingular, dense or sparse.
        b: The right-hand side.
        m: Largest dimension of the space, at least 1.
        k: How many vectors are kept, at least 0 and less than m.
        recycle: The ``space`` of an earlier solve.
        precondition: $v \mapsto M^{-1} v$; the system solved is $A M^{-1} y = b$, $x = M^{-1} y$.
        tol: Stop once the residual's norm is at most this times b's; positive.
        max_products: Stop after so many products with A, give or take a cycle; at least 1.

    Raises:
        ValueError: for shapes that do not fit, entries that are not finite, or numbers out of range.

    Paper: Accelerating Data Generation for Neural Operators via Krylov Subspace Recycling (Wang et al., 2024), which
    takes it from Parks et al., 2006.
    """
    in_range("m", m, 1)
    in_range("k", k, 0, m - 1)
    in_range("tol", tol, 0.0, open_low=True)
    in_range("max_products", max_products, 1)
    require_finite("b", b, 1)
    require_finite("A", A.data if sparse.issparse(A) else A)
    n = b.size
    if A.shape != (n, n):
        raise ValueError(f"A: expected shape {(n, n)} for a right-hand side of {n} entries, got {A.shape}")
    if recycle is not None and recycle.shape[0] != n:
        raise ValueError(f"recycle: expected {n} rows, got shape {recycle.shape}")
    back = precondition or (lambda v: v)
    y, r, goal, products = np.zeros(n), b.astype(float), tol * np.linalg.norm(b), 0
    U = C = np.zeros((n, 0))
    if k and recycle is not None and recycle.shape[1]:
        C, R = np.linalg.qr(np.stack([A @ back(u) for u in recycle.T], 1))
        U = scipy.linalg.solve_triangular(R, recycle.T, trans="T").T  # pyright: ignore[reportArgumentType]
        products += U.shape[1]
        y, r = U @ (C.T @ r), r - C @ (C.T @ r)
    while np.linalg.norm(r) > goal and products < max_products:
        steps = m - U.shape[1]
        V, H, B = np.zeros((n, steps + 1)), np.zeros((steps + 1, steps)), np.zeros((U.shape[1], steps))
        size = np.linalg.norm(r)
        V[:, 0] = r / size
        left = np.ones(steps + 1)  # left' H = 0: the least residual is ||r|| / ||left||
        j = 0
        for j in range(steps):
            w = A @ back(V[:, j])
            products += 1
            B[:, j] = C.T @ w
            w = w - C @ B[:, j]
            for _ in range(2):  # once more for rounding
                h = V[:, : j + 1].T @ w
                w = w - V[:, : j + 1] @ h
                H[: j + 1, j] += h
            H[j + 1, j] = np.linalg.norm(w)
            if H[j + 1, j] <= 1e-14 * np.linalg.norm(H[: j + 2, j]):  # the space is invariant
                H[j + 1, j] = 0.0
                break
            V[:, j + 1] = w / H[j + 1, j]
            left[j + 1] = -(left[: j + 1] @ H[: j + 1, j]) / H[j + 1, j]
            if size <= goal * np.linalg.norm(left[: j + 2]) or products >= max_products:
                break
        s = j + 1
        lengths = np.linalg.norm(U, axis=0)
        G = np.block([[np.diag(1 / lengths), B[:, :s]], [np.zeros((s + 1, U.shape[1])), H[: s + 1, :s]]])
        first, second = np.concatenate([U / lengths, V[:, :s]], 1), np.concatenate([C, V[:, : s + 1]], 1)
        z = np.linalg.lstsq(G, second.T @ r, rcond=None)[0]
        y, r = y + first @ z, r - second @ (G @ z)
        if k:
            P = _harmonic(G, second.T @ first, k)
            Q, R = np.linalg.qr(G @ P)
            C, U = second @ Q, scipy.linalg.solve_triangular(R, (first @ P).T, trans="T").T  # pyright: ignore[reportArgumentType]
    x = back(y)
    residual = float(np.linalg.norm(b - A @ x) / max(np.linalg.norm(b), np.finfo(float).tiny))
    return Recycled(x, products, residual, bool(np.linalg.norm(r) <= goal), U)


def _harmonic(G: Float[np.ndarray, "p q"], W: Float[np.ndarray, "p q"], k: int) -> Float[np.ndarray, "q k"]:
    """A real basis of the harmonic Ritz vectors of smallest modulus: G'G z = theta G'W z; a pair is never split."""
    inverse, vectors = scipy.linalg.eig(G.T @ W, G.T @ G)  # 1 / theta, so that an infinite theta is none  # pyright: ignore
    order = np.argsort(-np.abs(inverse), kind="stable")
    columns: list[Float[np.ndarray, " q"]] = []
    for i in order:
        if inverse[i].imag == 0:  # pyright: ignore[reportAttributeAccessIssue]
            columns.append(vectors[:, i].real)  # pyright: ignore[reportAttributeAccessIssue]
        elif inverse[i].imag > 0:  # pyright: ignore[reportAttributeAccessIssue]
            columns += [vectors[:, i].real, vectors[:, i].imag]  # pyright: ignore[reportAttributeAccessIssue]
        if len(columns) >= k:
            break
    return np.linalg.qr(np.stack(columns[: k if len(columns) <= k else k - 1] or columns[:1], 1))[0]


def greedy_order(features: Float[ArrayLike, "systems ..."], first: int = 0) -> Int[np.ndarray, " systems"]:
    """An order in which neighbors are alike: from each system to the nearest one (Euclidean) that is left.

    Arguments:
        features: What tells systems apart, such as their coefficient fields.
        first: Where to begin, at least 0.

    Raises:
        ValueError: for features that are not finite, or a first system that is none.

    Paper: Accelerating Data Generation for Neural Operators via Krylov Subspace Recycling (Wang et al., 2024).
    """
    require_finite("features", features)
    points = np.asarray(features, float).reshape(len(np.asarray(features)), -1)
    in_range("first", first, 0, len(points) - 1)
    order, left = [first], np.ones(len(points), bool)
    left[first] = False
    while left.any():
        distances = np.where(left, np.linalg.norm(points - points[order[-1]], axis=1), np.inf)
        order.append(int(distances.argmin()))
        left[order[-1]] = False
    return np.array(order)


def solve_sequence(
    systems: Sequence[tuple[Matrix, Vector]],
    order: Int[ArrayLike, " systems"] | None = None,
    *,
    m: int = 30,
    k: int = 10,
    tol: float = 1e-8,
    preconditioner: Callable[[Matrix], Callable[[Vector], Vector]] | None = None,
) -> list[Recycled]:
    """Solve similar systems one after another, each with what the one before it left; results in the systems' order.

    Arguments:
        systems: Pairs ``(A, b)`` of one size.
        order: In which to solve them, such as `greedy_order`'s; `None`: as they come.
        m: As in `gcro_dr`.
        k: As in `gcro_dr`.
        tol: As in `gcro_dr`.
        preconditioner: Makes ``precondition`` of a matrix.

    Raises:
        ValueError: for an order that does not name each system once, and as in `gcro_dr`.
    """
    chosen = np.arange(len(systems)) if order is None else np.asarray(order)
    if sorted(chosen.tolist()) != list(range(len(systems))):
        raise ValueError(f"order: expected each of 0 … {len(systems) - 1} once, got {chosen}")
    found: dict[int, Recycled] = {}
    space = None
    for i in chosen.tolist():
        A, b = systems[i]
        precondition = preconditioner(A) if preconditioner else None
        found[i] = gcro_dr(A, b, m=m, k=k, recycle=space, precondition=precondition, tol=tol)
        space = found[i].space
    return [found[i] for i in range(len(systems))]


def _example() -> tuple[float, float]:
    A = np.diag(np.arange(1.0, 9.0)) + np.diag(np.full(7, 0.5), 1)
    b = np.arange(8.0)
    return float(np.abs(A @ gcro_dr(A, b, m=4, k=2, tol=1e-10).x - b).max()), 1e-8


part("solver", "gcro-dr", example=lambda: _example)(gcro_dr)
