r"""Control of $-y'' + \max(0, y) = u$: a differential equation with a kink, and two things wanted of its control."""

import functools

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


@jax.custom_vjp
def banded_newton(right: Nodes) -> Nodes:
    r"""Solve $-y'' + \max(0, y) = b$ by tridiagonal systems, as `semismooth_newton` does by dense ones.

    Arguments:
        right: b, one value per interior node of equal elements; derivatives as there.

    Paper: Multiobjective Optimization of Non-Smooth PDE-Constrained Problems.
    """
    start = _tridiagonal(jnp.full(len(right), -1.0), right)
    return jax.lax.fori_loop(0, NEWTON_STEPS, lambda _, y: _tridiagonal(y, right), start)


def _tridiagonal(y: Nodes, right: Nodes) -> Nodes:
    """Solve the linear equation with the slope of the kink at y."""
    inverse_square = float(len(right) + 1) ** 2
    beside = jnp.full(len(right), -inverse_square, right.dtype)
    middle = 2 * inverse_square + (y > 0).astype(right.dtype)
    solve = jax.lax.linalg.tridiagonal_solve
    return solve(beside.at[0].set(0), middle, beside.at[-1].set(0), right[:, None])[:, 0]


def _banded_forward(right: Nodes) -> tuple[Nodes, Nodes]:
    y = banded_newton(right)
    return y, y


banded_newton.defvjp(_banded_forward, lambda y, signal: (_tridiagonal(y, signal),))


def residual_estimate(state: Nodes, right: Nodes) -> Float[Array, ""]:
    r"""How far a state is from solving $-y'' + \max(0, y) = b$, without solving it.

    The norm of the residual in the dual of the energy norm $\lVert e \rVert_A^2 = \langle e, A e \rangle$, with A the
    negative Laplacian. The equation is monotone and the slope of its kink at most 1, so that the error lies in

    $$ \lVert y - \tilde y \rVert_A \le \lVert r(\tilde y) \rVert_{A^{-1}}
       \le (1 + 1 / \lambda_{\min}(A)) \lVert y - \tilde y \rVert_A $$

    with the smallest eigenvalue of A near $\pi^2$.

    Arguments:
        state: $\tilde y$, such as a reduced model's, at the interior nodes.
        right: b.
    """
    applied = negative_laplacian(len(state) + 1).astype(state.dtype) @ state + jnp.maximum(state, 0)
    residual = right - applied
    return jnp.sqrt(residual @ _tridiagonal(jnp.full_like(state, -1), residual))


@problem("semilinear-control", metric="tracking", steps=500)
def semilinear_control(
    elements: int = 100, basis: Float[Array, "nodes modes"] | None = None, banded: bool = False
) -> MultiObjective:
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
        banded: Whether to solve the full equation by tridiagonal systems; not with a basis.

    Raises:
        ValueError: for ``elements`` below 2, a basis of another length, or a basis with ``banded``.

    Paper: Multiobjective Optimization of Non-Smooth PDE-Constrained Problems.
    """
    full = negative_laplacian(elements)
    if banded and basis is not None:
        raise ValueError("banded: expected no basis with it, since a reduced equation has no band")
    basis = jnp.eye(elements - 1) if basis is None else basis
    if len(basis) != elements - 1:
        raise ValueError(f"basis: expected {elements - 1} rows, one for each interior node, got {len(basis)}")
    matrix = basis.T @ full @ basis
    wanted = jnp.sin(2 * jnp.pi * jnp.arange(1, elements) / elements)
    # functools' partial is no tree, so that the matrices are constants of the program, as identities are for nothing.
    losses = functools.partial(_losses, None if banded else (matrix, basis), wanted)
    return MultiObjective(losses, jnp.zeros(elements - 1), names=("tracking", "cost"), weights=(1.0, 1e-3))


def _losses(reduced: tuple[Array, Array] | None, wanted: Nodes, x: Nodes) -> tuple[Array, Array]:
    elements = len(x) + 1
    right = x * elements**0.5
    if reduced is None:
        state = banded_newton(right)
    else:
        matrix, basis = reduced
        state = basis @ semismooth_newton(matrix, basis, basis.T @ right)
    return jnp.sum((state - wanted) ** 2) / elements, jnp.sum(x**2)


def losses_without_kink(x: Nodes) -> Float[Array, " 2"]:
    """The losses of `semilinear_control` with a wrong gradient: the derivative of the state is that of $-y'' = u$.

    Arguments:
        x: The control.
    """
    elements = len(x) + 1
    right = x * elements**0.5
    linear = jnp.linalg.solve(negative_laplacian(elements), right)
    state = jax.lax.stop_gradient(banded_newton(right) - linear) + linear
    wanted = jnp.sin(2 * jnp.pi * jnp.arange(1, elements) / elements)
    return jnp.stack([jnp.sum((state - wanted) ** 2) / elements, jnp.sum(x**2)])


def snapshot_modes(controls: Float[np.ndarray, "n nodes"]) -> Float[np.ndarray, "nodes modes"]:
    """Principal directions of some controls and of their states, all of them at length 1: a basis for a reduced model.

    Arguments:
        controls: One per row.
    """
    right = jnp.asarray(controls) * (controls.shape[1] + 1) ** 0.5
    states = np.asarray(jax.jit(jax.vmap(banded_newton))(right))
    snapshots = [a.T / np.linalg.norm(a, axis=1) for a in (controls, states)]
    return np.linalg.svd(np.concatenate(snapshots, axis=1), full_matrices=False)[0]
