r"""Control of $-y'' + \max(0, y) = u$: a differential equation with a kink, and two things wanted of its control."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attractor.checks import in_range
from attractor.objectives import MultiObjective
from attractor.registry import problem

Nodes = Float[Array, " nodes"]
NEWTON_STEPS = 6


def negative_laplacian(elements: int) -> Float[Array, "nodes nodes"]:
    """$-y''$ on the unit interval with zero ends, by linear elements with lumped mass: a matrix on interior nodes."""
    in_range("elements", elements, 2)
    nodes = elements - 1
    return jnp.asarray(elements**2 * (2 * np.eye(nodes) - np.eye(nodes, k=1) - np.eye(nodes, k=-1)), float)


@jax.custom_vjp
def semismooth_newton(
    matrix: Float[Array, "modes modes"], basis: Float[Array, "nodes modes"], right: Float[Array, " modes"]
) -> Float[Array, " modes"]:
    r"""Solve $A a + V^\top \max(0, V a) = b$ for a symmetric positive definite A.

    Newton steps with $\mathbf 1[V a > 0]$ as the slope of the kink; they end after finitely many changes of sign. The
    derivative in b solves the linear equation with that same slope; those in A and V are taken for 0.

    Arguments:
        matrix: A.
        basis: V with orthonormal columns; the identity for the full equation, modes for a reduced one.
        right: b.

    Paper: Multiobjective Optimization of Non-Smooth PDE-Constrained Problems.
    """

    def step(_: Array, a: Array) -> Array:
        return jnp.linalg.solve(_slope(matrix, basis, a), right)

    return jax.lax.fori_loop(0, NEWTON_STEPS, step, jnp.linalg.solve(matrix, right))


def _slope(matrix: Array, basis: Array, a: Array) -> Array:
    return matrix + basis.T @ ((basis @ a > 0)[:, None] * basis)


def _forward(matrix: Array, basis: Array, right: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    a = semismooth_newton(matrix, basis, right)
    return a, (matrix, basis, a)


def _backward(saved: tuple[Array, Array, Array], signal: Array) -> tuple[Array, Array, Array]:
    matrix, basis, a = saved
    return jnp.zeros_like(matrix), jnp.zeros_like(basis), jnp.linalg.solve(_slope(matrix, basis, a), signal)


semismooth_newton.defvjp(_forward, _backward)


@problem("semilinear-control", metric="tracking", steps=500)
def semilinear_control(elements: int = 100, basis: Float[Array, "nodes modes"] | None = None) -> MultiObjective:
    r"""Steer a state with a kink in its equation towards $\sin 2 \pi s$, at a small cost of the control.

    $$
    J_1 = \lVert y(u) - y_d \rVert^2, \qquad J_2 = \lVert u \rVert^2, \qquad -y'' + \max(0, y) = u
    $$

    on the unit interval with zero ends. The unknown is the control's values at the interior nodes times the root of
    the mesh width, so that its Euclidean norm is that of the function. The losses are called ``tracking`` and
    ``cost``; their weights are 1 and 1e-3.

    Arguments:
        elements: Of equal width, at least 2.
        basis: Orthonormal columns, ``(elements - 1, modes)``, in whose span the state is sought (a Galerkin reduced
            model); `None`: all states.

    Raises:
        ValueError: for ``elements`` below 2, or a basis of another length.

    Paper: Multiobjective Optimization of Non-Smooth PDE-Constrained Problems.
    """
    full = negative_laplacian(elements)
    basis = jnp.eye(elements - 1) if basis is None else basis
    if len(basis) != elements - 1:
        raise ValueError(f"basis: expected {elements - 1} rows, one for each interior node, got {len(basis)}")
    matrix = basis.T @ full @ basis
    wanted = jnp.sin(2 * jnp.pi * jnp.arange(1, elements) / elements)

    def losses(x: Nodes) -> tuple[Array, Array]:
        state = basis @ semismooth_newton(matrix, basis, basis.T @ (x * elements**0.5))
        return jnp.sum((state - wanted) ** 2) / elements, jnp.sum(x**2)

    return MultiObjective(losses, jnp.zeros(elements - 1), names=("tracking", "cost"), weights=(1.0, 1e-3))
