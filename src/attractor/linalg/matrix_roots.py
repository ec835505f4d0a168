"""Differentiable square roots of symmetric positive definite matrices, without an eigendecomposition."""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attractor.checks import in_range
from attractor.linalg.matrices import require_square
from attractor.registry import part

Series = Literal["pade", "taylor"]
_ROUNDING = 1e-6  # of the norm: a matrix that is singular up to it has a square root, too


def sqrtm(
    A: Float[Array, "*batch n n"],
    degree: int = 5,
    *,
    series: Series = "pade",
    inverse: bool = False,
    iterations: int = 8,
) -> Float[Array, "*batch n n"]:
    r"""$A^{1/2}$ or $A^{-1/2}$ by a Padé approximant or a Taylor polynomial, with a gradient that needs no eigenvalues.

    With $X = A / \lVert A \rVert_F$ and $Z = I - X$, the Taylor polynomial of degree K is
    $I - \sum_{k=1}^K \lvert \binom{1/2}{k} \rvert Z^k$. The diagonal Padé approximant of degree m at $X = I$ is
    $Q^{-1} P$ with $P = \sum_j \binom{2m+1}{2j} X^j$ and $Q = \sum_j \binom{2m+1}{2j+1} X^j$, $0 \le j \le m$:
    powers of X with positive coefficients, so that Q is never singular. The root is scaled back by
    $\lVert A \rVert_F^{1/2}$.
    The relative error of the approximant at an eigenvalue x of X is about
    $2 ((1 - \sqrt x) / (1 + \sqrt x))^{2m+1}$, so that matrices of condition above 100 need a larger degree.

    The gradient is the solution of a Lyapunov equation, by `lyapunov_sign`: $B V + V B = G$ with $B = A^{1/2}$, and for
    the inverse $B = A^{-1/2}$ with $-A^{-1} G A^{-1}$ on the right.

    Arguments:
        A: Symmetric positive definite matrices; a positive semidefinite one has no gradient.
        degree: Of the approximant's numerator and denominator, or of the polynomial; at least 1. The paper's are 5
            and 10, which have the same cost in products.
        series: ``"pade"`` or ``"taylor"``.
        inverse: Whether $A^{-1/2}$ is wanted.
        iterations: Of the gradient's Lyapunov solve, at least 1.

    Raises:
        ValueError: for matrices that are not square, finite, symmetric and positive definite (where they are not
            traced), an unknown series, or numbers out of range.

    Paper: Fast Differentiable Matrix Square Root (Song, Sebe, Wang, 2022).
    """
    in_range("degree", degree, 1)
    in_range("iterations", iterations, 1)
    if series not in ("pade", "taylor"):
        raise ValueError(f"series: expected 'pade' or 'taylor', got {series!r}")
    require_square("A", A, positive=True if inverse else _ROUNDING)
    return _root(A, degree, series, inverse, iterations)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _root(
    A: Float[Array, "*batch n n"], degree: int, series: str, inverse: bool, iterations: int
) -> Float[Array, "*batch n n"]:
    norm = _norm(A)
    X, eye = A / norm, jnp.eye(A.shape[-1], dtype=A.dtype)
    if series == "pade":
        order = 2 * degree + 1
        binomials = [math.comb(order, j) / 2.0**order for j in range(order + 1)]
        powers = _powers(X, degree)
        above, below = (sum(c * p for c, p in zip(binomials[s::2], powers, strict=True)) for s in (0, 1))
        root = jnp.linalg.solve(above, below) if inverse else jnp.linalg.solve(below, above)
    else:
        coefficients = [1.0]
        exponent = -0.5 if inverse else 0.5
        for k in range(degree):  # of (1 - z)^exponent
            coefficients.append(coefficients[-1] * (k - exponent) / (k + 1))
        root = sum(c * p for c, p in zip(coefficients, _powers(eye - X, degree), strict=True))
    return root / jnp.sqrt(norm) if inverse else root * jnp.sqrt(norm)


def _root_forward(A, degree, series, inverse, iterations):
    root = _root(A, degree, series, inverse, iterations)
    return root, root


def _root_backward(degree, series, inverse, iterations, root, G):
    if inverse:
        G = -root @ root @ G @ root @ root
    return (lyapunov_sign(root, G, iterations),)


_root.defvjp(_root_forward, _root_backward)


def lyapunov_sign(
    B: Float[Array, "*batch n n"], C: Float[Array, "*batch n n"], iterations: int = 8
) -> Float[Array, "*batch n n"]:
    r"""X with $B X + X B = C$ by Newton-Schulz steps for a matrix sign, products only.

    From $B_0 = B / \lVert B \rVert_F$ and $C_0 = C / \lVert B \rVert_F$,
    $C_{k+1} = \tfrac12 (B_k C_k B_k - B_k^2 C_k + C_k (3I - B_k^2))$ and $B_{k+1} = \tfrac12 B_k (3I - B_k^2)$; then
    $X = C_k / 2$. It converges quadratically once the smallest eigenvalue of $B_k$ is near 1, and grows it by
    half a step before: a condition number c of B takes about $\log(c \sqrt n) / \log 1.5$ steps to begin with.

    Arguments:
        B: Symmetric positive definite.
        C: Any matrix.
        iterations: Steps, at least 1.

    Raises:
        ValueError: for matrices that are not square or finite, a B that is not symmetric, or ``iterations`` below 1.

    Paper: Fast Differentiable Matrix Square Root (Song, Sebe, Wang, 2022).
    """
    in_range("iterations", iterations, 1)
    require_square("B", B, symmetric=True)
    require_square("C", C)
    norm = _norm(B)

    def step(_, pair):
        B, C = pair
        rest = 3 * jnp.eye(B.shape[-1], dtype=B.dtype) - B @ B
        BC = B @ C
        return B @ rest / 2, (BC @ B - B @ BC + C @ rest) / 2

    return jax.lax.fori_loop(0, iterations, step, (B / norm, C / norm))[1] / 2


def sqrtm_newton_schulz(A: Float[Array, "*batch n n"], iterations: int = 5) -> Float[Array, "*batch n n"]:
    r"""$A^{1/2}$ by the coupled Newton-Schulz iteration, differentiated step by step: the usual way on accelerators.

    From $Y = A / \lVert A \rVert_F$ and $Z = I$, $T = (3I - Z Y) / 2$, $Y \leftarrow Y T$, $Z \leftarrow T Z$; the
    result is $\lVert A \rVert_F^{1/2} Y$.

    Arguments:
        A: Symmetric positive definite matrices.
        iterations: Steps, at least 1; 5 is usual in networks.

    Raises:
        ValueError: for matrices that are not square, finite, symmetric and positive, or ``iterations`` below 1.
    """
    in_range("iterations", iterations, 1)
    require_square("A", A, positive=_ROUNDING)
    norm, eye = _norm(A), jnp.eye(A.shape[-1], dtype=A.dtype)
    Y, Z = A / norm, jnp.broadcast_to(eye, A.shape)
    for _ in range(iterations):
        T = (3 * eye - Z @ Y) / 2
        Y, Z = Y @ T, T @ Z
    return Y * jnp.sqrt(norm)


def sqrtm_eigh(A: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    """$A^{1/2}$ from eigenvalues and eigenvectors: exact, and without a gradient where two eigenvalues coincide.

    Arguments:
        A: Symmetric positive definite matrices.

    Raises:
        ValueError: for matrices that are not square, finite, symmetric and positive.
    """
    require_square("A", A, positive=_ROUNDING)
    values, vectors = jnp.linalg.eigh(A)
    return (vectors * jnp.sqrt(values)[..., None, :]) @ jnp.swapaxes(vectors, -1, -2)


def _norm(A: Float[Array, "*batch n n"]) -> Float[Array, "*batch 1 1"]:
    return jnp.sqrt(jnp.sum(A**2, (-2, -1), keepdims=True))


def _powers(X: Float[Array, "*batch n n"], degree: int) -> list[Float[Array, "*batch n n"]]:
    powers = [jnp.broadcast_to(jnp.eye(X.shape[-1], dtype=X.dtype), X.shape), X]
    while len(powers) <= degree:
        powers.append(powers[-1] @ X)
    return powers


def _example() -> tuple[float, float]:
    A = jnp.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    root = sqrtm(A)
    return float(jnp.abs(root @ root - A).max()), 1e-4


part("solver", "matrix-square-root", example=lambda: _example)(sqrtm)
