"""Conjugate directions for positive definite systems: proposals of any kind, made conjugate to recent ones."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.sparse as sparse
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.linalg.curvature import MatVec
from attractor.linalg.lanczos import tridiagonalize
from attractor.linalg.matrices import require_finite
from attractor.registry import part

Vector = Float[np.ndarray, " n"]
Product = Callable[[Vector], Vector]
Symmetric = Float[np.ndarray, "n n"] | sparse.csr_array | Product


class Conjugated(NamedTuple):
    """A solution, and how it was approached."""

    x: Vector
    iterations: int  # each of one proposal and one product with A
    residuals: Float[np.ndarray, " iterations+1"]  # norms relative to b's, from the start on
    converged: bool


def conjugate_directions(
    A: Symmetric,
    b: Vector,
    direction: Product | None = None,
    *,
    kept: int | None = 2,
    tol: float = 1e-8,
    max_iterations: int = 10_000,
) -> Conjugated:
    r"""Solve $A x = b$ along proposed directions, each made A-conjugate to the last ones.

    From $x = 0$, $r = b$: $d = f(r / \lVert r \rVert)$; $d \leftarrow d - \frac{d^\top A d_j}{d_j^\top A d_j} d_j$ for
    the kept $d_j$; $\alpha = r^\top d / d^\top A d$, $x \leftarrow x + \alpha d$, $r \leftarrow r - \alpha A d$.

    f may be anything, such as a trained network: the error in A's norm never grows. Without f it is the method of
    conjugate gradients; where f is linear, symmetric and positive definite, it is the preconditioned one, and one
    kept direction is enough. Where all are kept it ends after n steps at most, whatever f proposes, but for rounding.

    Arguments:
        A: Symmetric positive definite: dense, sparse, or ``v -> A v``, which is not checked.
        b: The right-hand side.
        direction: f; `None`: the residual itself.
        kept: How many directions a new one is conjugate to, at least 0; `None`: all.
        tol: Stop once the residual's norm is at most this times b's; positive.
        max_iterations: Stop after so many in any case, at least 1. It also stops, without having converged, at a
            proposal that is a combination of the kept directions.

    Raises:
        ValueError: for shapes that do not fit, entries that are not finite, numbers out of range, or an A that is
            seen not to be symmetric positive definite.

    Paper: A Deep Conjugate Direction Method for Iteratively Solving Linear Systems (Kaneda et al., 2022).
    """
    if kept is not None:
        in_range("kept", kept, 0)
    in_range("tol", tol, 0.0, open_low=True)
    in_range("max_iterations", max_iterations, 1)
    require_finite("b", b, 1)
    product = A if callable(A) else _product(A, b.size)
    x, r = np.zeros(b.size), np.array(b, float)
    size = np.linalg.norm(r)
    goal, norms = tol * size, [size]
    recent: deque[tuple[Vector, Vector, float]] = deque(maxlen=kept)
    while norms[-1] > goal and len(norms) <= max_iterations:
        unit = r / norms[-1]
        d = unit if direction is None else np.asarray(direction(unit), float)
        if d.shape != b.shape or not np.isfinite(d).all():
            raise ValueError(f"direction: expected {b.size} finite entries, got shape {d.shape}: {d}")
        proposed = np.linalg.norm(d)
        for _ in range(2):  # once more for rounding
            for other, image, curvature in recent:
                d = d - (d @ image) / curvature * other
        if np.linalg.norm(d) <= 1e-14 * proposed:
            break
        image = product(d)
        curvature = float(d @ image)
        if not curvature > 0:
            raise ValueError(f"A: expected a symmetric positive definite matrix, got d'Ad = {curvature:.3g} along a d")
        alpha = (r @ d) / curvature
        x, r = x + alpha * d, r - alpha * image
        recent.append((d, image, curvature))
        norms.append(np.linalg.norm(r))
    return Conjugated(x, len(norms) - 1, np.array(norms) / (size or 1.0), bool(norms[-1] <= goal))


def _product(A: Float[np.ndarray, "n n"] | sparse.csr_array, n: int) -> Product:
    if A.shape != (n, n):
        raise ValueError(f"A: expected shape {(n, n)} for a right-hand side of {n} entries, got {A.shape}")
    require_finite("A", A.data if sparse.issparse(A) else A)
    if abs(A - A.T).max() > 1e-8 * abs(A).max():
        raise ValueError("A: expected a symmetric matrix; symmetrize it, or see `gcro_dr`")
    return lambda v: A @ v


def direction_loss(matvec: MatVec, b: Float[Array, " n"], d: Float[Array, " n"]) -> Float[Array, ""]:
    r"""What the best step along d leaves: $\lVert b - \alpha A d \rVert^2$, $\alpha = b^\top d / d^\top A d$.

    The length of d and its sign do not matter, and no solution is needed: with $d = f(b)$ it trains f to propose
    directions.

    Arguments:
        matvec: ``v -> A v``, A symmetric positive definite.
        b: A right-hand side.
        d: The direction proposed for it, not zero.

    Paper: A Deep Conjugate Direction Method for Iteratively Solving Linear Systems (Kaneda et al., 2022).
    """
    image = matvec(d)
    return jnp.sum((b - (b @ d) / (d @ image) * image) ** 2)


def ritz_right_sides(
    matvec: MatVec,
    n: int,
    count: int,
    key: PRNGKeyArray,
    *,
    vectors: int,
    share: float = 0.55,
    weight: float = 9.0,
) -> Float[Array, "count n"]:
    r"""Right-hand sides to train on: unit combinations of Ritz vectors, of which the smooth ones weigh more.

    m Ritz vectors $q_i$ of A come from Lanczos' process on a random image of A; $b \propto \sum_i c_i q_i$ with normal
    $c_i$, of deviation ``weight`` for the ``share`` with the smallest Ritz values and 1 for the others.

    Arguments:
        matvec: ``v -> A v``, A symmetric positive definite.
        n: A's size.
        count: How many.
        key: Draws the start and the coefficients.
        vectors: m, in 1 … n.
        share: Of the Ritz vectors that weigh more, in [0, 1].
        weight: Their deviation; positive.

    Raises:
        ValueError: for a number out of range.

    Paper: A Deep Conjugate Direction Method for Iteratively Solving Linear Systems (Kaneda et al., 2022); the defaults
    are those of the authors' program.
    """
    in_range("vectors", vectors, 1, n)
    in_range("share", share, 0.0, 1.0)
    in_range("weight", weight, 0.0, open_low=True)
    of_start, of_coefficients = jr.split(key)
    starts = jr.normal(of_start, (vectors, n))
    basis, tridiagonal = tridiagonalize(matvec, starts.at[-1].set(matvec(starts[-1])))
    ritz = basis.T @ jnp.linalg.eigh(tridiagonal)[1]  # by ascending Ritz values
    deviation = jnp.where(jnp.arange(vectors) < round(share * vectors), weight, 1.0)
    sides = (jr.normal(of_coefficients, (count, vectors)) * deviation) @ ritz.T
    return sides / jnp.linalg.norm(sides, axis=1, keepdims=True)


def _example() -> tuple[float, float]:
    A = np.diag(np.arange(1.0, 9.0)) + 0.5 * (np.eye(8, k=1) + np.eye(8, k=-1))
    b = np.arange(8.0)
    return float(np.abs(A @ conjugate_directions(A, b, np.tanh, tol=1e-10).x - b).max()), 1e-8


part("solver", "conjugate-directions", example=lambda: _example)(conjugate_directions)
