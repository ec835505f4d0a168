"""Smooth penalties that pull weights onto a structured set: signs, ternary values, orthogonal columns."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from attractor.checks import Scalar, in_range
from attractor.gradients import grad

Penalty = Callable[[Float[Array, "..."]], Float[Array, ""]]


def cauchy_schwarz_gap(g: Float[Array, "..."], h: Float[Array, "..."]) -> Float[Array, ""]:
    r"""The slack of the Cauchy-Schwarz inequality, zero exactly where ``g`` and ``h`` are parallel.

    $$ \lVert g \rVert^2 \lVert h \rVert^2 - \langle g, h \rangle^2 $$

    It is computed as $\lVert g \rVert^2 \lVert h - (\langle g, h \rangle / \lVert g \rVert^2)\, g \rVert^2$, the same
    number without the cancellation of two large ones.

    Arguments:
        g: Any shape.
        h: The same shape.

    Paper: Cauchy-Schwarz Regularizers.
    """
    square = jnp.sum(g * g)
    along = jnp.sum(g * h) / jnp.where(square > 0, square, 1)
    return square * jnp.sum((h - along * g) ** 2)


def binary_penalty(x: Float[Array, "..."]) -> Float[Array, ""]:
    r"""Zero exactly where all entries are $\pm a$, for whatever a: $N \sum x^4 - (\sum x^2)^2$.

    Arguments:
        x: Any shape; its N entries share one a.

    Paper: Cauchy-Schwarz Regularizers.
    """
    return cauchy_schwarz_gap(jnp.ones_like(x), x**2)


def one_sided_penalty(x: Float[Array, "..."]) -> Float[Array, ""]:
    r"""Zero exactly where all entries are 0 or a, for whatever a: $\sum x^2 \sum x^4 - (\sum x^3)^2$.

    Arguments:
        x: Any shape; its entries share one a.

    Paper: Cauchy-Schwarz Regularizers.
    """
    return cauchy_schwarz_gap(x, x**2)


def ternary_penalty(x: Float[Array, "..."]) -> Float[Array, ""]:
    r"""Zero exactly where all entries are -a, 0 or a, for whatever a: $\sum x^2 \sum x^6 - (\sum x^4)^2$.

    Arguments:
        x: Any shape; its entries share one a.

    Paper: Cauchy-Schwarz Regularizers.
    """
    return cauchy_schwarz_gap(x, x**3)


def eigenvector_penalty(x: Float[Array, " n"], matrix: Float[Array, "n n"]) -> Float[Array, ""]:
    r"""Zero exactly where ``x`` is an eigenvector, or zero: $\lVert x \rVert^2 \lVert Cx \rVert^2 - (x^\top C x)^2$.

    Arguments:
        x: The vector.
        matrix: The matrix C.

    Paper: Cauchy-Schwarz Regularizers.
    """
    return cauchy_schwarz_gap(x, matrix @ x)


def orthogonal_penalty(x: Float[Array, "n k"]) -> Float[Array, ""]:
    r"""Zero exactly where the columns are orthogonal and equally long.

    $$ k \lVert X^\top X \rVert_F^2 - (\operatorname{tr} X^\top X)^2 $$

    Arguments:
        x: The matrix; k <= n, or no nonzero x has penalty zero.

    Paper: Cauchy-Schwarz Regularizers.
    """
    gram = x.T @ x
    return cauchy_schwarz_gap(jnp.eye(x.shape[1], dtype=x.dtype), gram)


def add_penalty(penalty: Penalty, weight: Scalar = 1.0) -> optax.GradientTransformation:
    r"""Add the gradient of a penalty on every matrix (or larger array) to the loss's gradient.

    $$ g \leftarrow g + \lambda\, \nabla \ell(W) / (N \lVert W \rVert^2), \qquad N \text{ entries in } W $$

    The division makes one weight suit layers of all sizes and scales: these penalties are of fourth order or more, and
    this leaves their zero sets where they are. Chain it before the optimizer. Vectors and scalars are left alone.

    Arguments:
        penalty: Such as `binary_penalty`, applied leaf by leaf.
        weight: The coefficient lambda, in [0, inf).

    Raises:
        ValueError: for a ``weight`` out of range, or an update without ``params``.

    Paper: Cauchy-Schwarz Regularizers.
    """
    in_range("weight", weight, 0.0)

    def pull(g: Array, w: Array) -> Array:
        if w.ndim < 2:
            return g
        square = jnp.sum(w * w)
        return g + weight * grad(penalty)(w) / (w.size * jnp.where(square > 0, square, 1))

    def update(updates: PyTree, params: PyTree | None) -> PyTree:
        if params is None:
            raise ValueError("params: a penalty needs the parameters; call update(grads, state, params)")
        return jax.tree.map(pull, updates, params)

    return optax.stateless(update)


def on_affine_set(
    penalty: Penalty, matrix: Float[Array, "m n"], values: Float[Array, " m"]
) -> tuple[Penalty, Callable[[Float[Array, " k"]], Float[Array, " n"]]]:
    r"""A penalty restricted to the solutions of $Ax = y$, as a problem without constraints.

    Solutions are $x(z) = A^+ y + N z$ with the columns of N an orthonormal basis of the null space; a gradient step in
    z is a projected gradient step in x.

    Arguments:
        penalty: A function of x.
        matrix: A, of full row rank, with fewer rows than columns.
        values: y.

    Returns:
        ``(z -> penalty(x(z)), z -> x(z))`` with z of length n - m.

    Raises:
        ValueError: if A has as many rows as columns, or more.
    """
    rows, columns = matrix.shape
    if rows >= columns:
        raise ValueError(f"matrix: expected fewer rows than columns, got {rows} x {columns}")
    _, _, basis = jnp.linalg.svd(matrix, full_matrices=True)
    null = basis[rows:].T
    least = jnp.linalg.lstsq(matrix, values)[0]

    def solution(z: Float[Array, " k"]) -> Float[Array, " n"]:
        return least + null @ z

    return (lambda z: penalty(solution(z))), solution
