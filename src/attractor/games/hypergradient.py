r"""Gradients through a lower level: of $\Phi(x) = F(x, y^*(x))$, where $y^*(x)$ minimizes $g(x, \cdot)$.

All are called alike, with both levels as functions of ``(x, y)`` and a point of each, and give a `Hypergradient`. What
differs is how the lower level's response to x is had: from its optimality condition (`implicit_hypergradient`,
`neumann_hypergradient`), from the steps that led there (`unrolled_hypergradient`, `truncated_hypergradient`), or from
what a little of the upper objective changes below (`penalty_hypergradient`: first derivatives alone).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from attractor.checks import Scalar, in_range
from attractor.linalg.curvature import hvp
from attractor.trees import difference

Level = Callable[[PyTree, PyTree], Float[Array, ""]]


class Hypergradient(NamedTuple):
    """A gradient through a lower level.

    Attributes:
        gradient: Like x.
        y: Where the lower level was taken to be.
    """

    gradient: PyTree
    y: PyTree


def _response(upper: Level, lower: Level, x: PyTree, y: PyTree, solve: Callable) -> Hypergradient:
    """The formula of implicit differentiation, where ``solve(product, b)`` solves with the lower level's Hessian."""
    of_x, of_y = jax.grad(upper, (0, 1))(x, y)
    adjoint = solve(hvp(lambda y: lower(x, y), y), of_y)
    (through,) = jax.vjp(lambda x: jax.grad(lower, 1)(x, y), x)[1](adjoint)
    return Hypergradient(difference(of_x, through), y)


def implicit_hypergradient(
    upper: Level, lower: Level, x: PyTree, y: PyTree, *, iterations: int | None = None, tolerance: float = 1e-6
) -> Hypergradient:
    r"""By the lower level's optimality condition, its linear system solved with conjugate gradients.

    $$ \nabla\Phi = \nabla_x F - (\nabla_{yx}^2 g)^\top v, \qquad \nabla_{yy}^2 g\, v = \nabla_y F $$

    It is exact at $y = y^*(x)$. For a singular Hessian with $\nabla_y F$ in its range, v is the smallest solution.

    Arguments:
        upper: F, ``(x, y) -> scalar``.
        lower: g, ``(x, y) -> scalar``, convex in y around it.
        x: Pytree of floating-point arrays.
        y: The lower level's solution, or a point near it.
        iterations: Of conjugate gradients at most, at least 1; `None`: ten times as many as y has numbers.
        tolerance: Residual at which to stop, relative to the right side, at least 0.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("tolerance", tolerance, 0.0)
    if iterations is not None:
        in_range("iterations", iterations, 1)
    how = {"tol": tolerance, "maxiter": iterations}
    return _response(upper, lower, x, y, lambda product, b: jax.scipy.sparse.linalg.cg(product, b, **how)[0])


def neumann_hypergradient(
    upper: Level, lower: Level, x: PyTree, y: PyTree, *, step_size: Scalar, terms: int
) -> Hypergradient:
    r"""By the lower level's optimality condition, its linear system solved with a Neumann series.

    $$ v = \eta \sum_{i < K} (I - \eta \nabla_{yy}^2 g)^i\, \nabla_y F $$

    In place of the exact v in `implicit_hypergradient`. At a solution it is what `truncated_hypergradient` gives with
    as many steps.

    Arguments:
        upper: F, ``(x, y) -> scalar``.
        lower: g, ``(x, y) -> scalar``.
        x: Pytree of floating-point arrays.
        y: The lower level's solution, or a point near it.
        step_size: η > 0, below 2 / L for the largest eigenvalue L of the lower level's Hessian.
        terms: K ≥ 1.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("step_size", step_size, 0.0, open_low=True)
    in_range("terms", terms, 1)

    def series(product: Callable, b: PyTree) -> PyTree:
        def add(_: Any, v: PyTree) -> PyTree:
            return jax.tree.map(lambda v, hv, b: (v + step_size * (b - hv)).astype(v.dtype), v, product(v), b)

        return jax.lax.fori_loop(0, terms, add, jax.tree.map(jnp.zeros_like, b))

    return _response(upper, lower, x, y, series)


def lower_step(lower: Level, x: PyTree, y: PyTree, step_size: Scalar) -> PyTree:
    """One step of gradient descent at the lower level."""
    slope = jax.grad(lower, 1)(x, y)
    return jax.tree.map(lambda y, g: (y - step_size * g).astype(y.dtype), y, slope)


def truncated_hypergradient(
    upper: Level, lower: Level, x: PyTree, y: PyTree, *, step_size: Scalar, steps: int, backward: int
) -> Hypergradient:
    r"""Through the last K of T steps of descent at the lower level: what lies before counts as a constant.

    $$
    y_{t+1} = y_t - \eta \nabla_y g(x, y_t), \qquad
    h_K = \nabla_x F + \sum_{t=T-K}^{T-1} B_t^\top A_{t+1}^\top \cdots A_{T-1}^\top \nabla_y F(x, y_T),
    $$

    $A_t = I - \eta \nabla_{yy}^2 g$ and $B_t = -\eta \nabla_{yx}^2 g$, both at $y_t$. For a lower level with
    $\nabla_{yy}^2 g \succeq \mu I$ the bias shrinks as $(1 - \eta\mu)^K$; only K points are stored.

    Arguments:
        upper: F, ``(x, y) -> scalar``.
        lower: g, ``(x, y) -> scalar``.
        x: Pytree of floating-point arrays.
        y: Where the lower level starts.
        step_size: η > 0.
        steps: T ≥ 1.
        backward: K in [1, T].

    Raises:
        ValueError: for an argument out of its range.

    Paper: Truncated Back-propagation for Bilevel Optimization (Shaban, Cheng, Hatch and Boots, 2018)
    """
    in_range("step_size", step_size, 0.0, open_low=True)
    in_range("steps", steps, 1)
    in_range("backward", backward, 1, steps)
    start = jax.lax.fori_loop(0, steps - backward, lambda _, y: lower_step(lower, x, y, step_size), y)

    def end(x: PyTree) -> tuple[Array, PyTree]:
        last = jax.lax.scan(lambda y, _: (lower_step(lower, x, y, step_size), None), start, length=backward)[0]
        return upper(x, last), last

    return Hypergradient(*jax.grad(end, has_aux=True)(x))


def unrolled_hypergradient(
    upper: Level, lower: Level, x: PyTree, y: PyTree, *, step_size: Scalar, steps: int
) -> Hypergradient:
    r"""Through all of T steps of descent at the lower level: the exact gradient of $F(x, y_T(x))$.

    `truncated_hypergradient` with K = T.

    Arguments:
        upper: F, ``(x, y) -> scalar``.
        lower: g, ``(x, y) -> scalar``.
        x: Pytree of floating-point arrays.
        y: Where the lower level starts.
        step_size: η > 0.
        steps: T ≥ 1, all of whose points are stored.

    Raises:
        ValueError: for an argument out of its range.
    """
    return truncated_hypergradient(upper, lower, x, y, step_size=step_size, steps=steps, backward=steps)
