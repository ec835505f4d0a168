"""Splitting methods for a sum of two functions: ADMM, primal-dual hybrid gradient, proximal gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from attractor.checks import Scalar, in_range
from attractor.trees import norm

Map = Callable[[PyTree], PyTree]
Prox = Callable[[PyTree, Any], PyTree]


class Admm(NamedTuple):
    """Where `admm` stopped, and how it got there."""

    x: PyTree
    z: PyTree  # the copy of forward(x)
    dual: PyTree  # scaled, like z
    primal_residual: Float[Array, " steps"]  # norm of forward(x) - z
    dual_residual: Float[Array, " steps"]  # norm of the change of z
    measured: PyTree  # what `measure` gave, leaves (steps, …)


def admm(
    solve: Callable[[PyTree, PyTree], PyTree],
    prox: Map,
    x: PyTree,
    z: PyTree,
    steps: int,
    forward: Map = lambda x: x,
    measure: Callable[[PyTree, PyTree, PyTree], PyTree] = lambda x, z, dual: (),
) -> Admm:
    r"""Alternating direction method of multipliers for $\min f(x) + g(z)$ subject to $A x = z$.

    $$
    \begin{aligned}
    x &\leftarrow \arg\min_x f(x) + \tfrac{\rho}{2} \lVert A x - (z - u) \rVert^2, \\
    z &\leftarrow \operatorname{prox}_{g / \rho}(A x + u), \qquad u \leftarrow u + A x - z
    \end{aligned}
    $$

    The two minimizations are given as functions, which hold $\rho$, so that each can cache what it needs. A
    nonlinear ``forward`` and an inexact ``solve`` that starts from the last x are accepted too.

    Arguments:
        solve: ``(target, x) -> x``, the first minimization, with ``target`` in place of $z - u$.
        prox: The second one, ``Ax + u -> z``.
        x: Start, given to the first ``solve`` only.
        z: Start, like ``forward(x)``.
        steps: At least 1.
        forward: The operator A; default: the identity.
        measure: ``(x, z, dual) -> pytree`` recorded after every step.

    Raises:
        ValueError: for ``steps`` below 1.

    Paper: Efficient Global Optimization of Two-layer ReLU Networks: Quadratic-time Algorithms and Adversarial Training.
    """
    in_range("steps", steps, 1.0)

    def step(carry: tuple[PyTree, PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree, PyTree], PyTree]:
        x, z, dual = carry
        x = solve(jax.tree.map(jnp.subtract, z, dual), x)
        image = forward(x)
        moved = prox(jax.tree.map(jnp.add, image, dual))
        gap = jax.tree.map(jnp.subtract, image, moved)
        dual = jax.tree.map(jnp.add, dual, gap)
        change = norm(jax.tree.map(jnp.subtract, moved, z))
        return (x, moved, dual), (norm(gap), change, measure(x, moved, dual))

    start = (x, z, jax.tree.map(jnp.zeros_like, z))
    (x, z, dual), (primal, change, measured) = jax.lax.scan(step, start, None, steps)
    return Admm(x, z, dual, primal, change, measured)


def fista(
    grad: Map,
    prox: Prox,
    x: PyTree,
    step: Scalar,
    steps: int,
    momentum: Scalar | Callable[[Array], Array] = lambda t: t / (t + 3),
    measure: Map = lambda x: (),
) -> tuple[PyTree, PyTree]:
    r"""Proximal gradient descent with momentum for $\min f(x) + g(x)$: f by its gradient, g by its proximal map.

    $$
    v_t = x_t + \beta_t (x_t - x_{t-1}), \qquad
    x_{t+1} = \operatorname{prox}_{\tau g}(v_t - \tau \nabla f(v_t))
    $$

    With a convex g and a concave f it is the convex-concave splitting of a damped wave equation, or, at momentum 0, of
    the gradient flow, which then lowers the sum at any step size.

    Arguments:
        grad: Gradient of f.
        prox: ``(v, step) -> minimizer of step * g + half the squared distance to v``.
        x: Start.
        step: $\tau$, in (0, inf).
        steps: At least 1.
        momentum: $\beta_t$, a number in [0, 1] or a function of t = 0, 1, …; default: t / (t + 3).
        measure: ``x -> pytree`` recorded after every step.

    Returns:
        The last point, and what was measured, leaves ``(steps, …)``.

    Raises:
        ValueError: for an argument out of range.

    Paper: Momentum-based minimization of the Ginzburg-Landau functional on Euclidean spaces and graphs.
    """
    in_range("step", step, 0.0, open_low=True)
    in_range("steps", steps, 1.0)
    in_range("momentum", momentum, 0.0, 1.0)

    def advance(carry: tuple[PyTree, PyTree], t: Array) -> tuple[tuple[PyTree, PyTree], PyTree]:
        x, last = carry
        beta = momentum(t) if callable(momentum) else momentum
        v = jax.tree.map(lambda a, b: a + (beta * (a - b)).astype(a.dtype), x, last)
        moved = prox(jax.tree.map(lambda a, g: a - (step * g).astype(a.dtype), v, grad(v)), step)
        return (moved, x), measure(moved)

    (x, _), measured = jax.lax.scan(advance, (x, x), jnp.arange(steps, dtype=float))
    return x, measured
