"""Newton's method made global by regularization, with a Hessian that several steps share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.method import Method, hyper, when_due
from attractor.problem import Minimization
from attractor.registry import LogUniform, method
from attractor.trees import as_vector


def cubic_step(
    eigenvalues: Float[Array, " d"], gradient: Float[Array, " d"], smoothness: Scalar, iterations: int = 100
) -> Float[Array, " d"]:
    r"""The step of cubic regularization, in the Hessian's eigenbasis.

    $$ \arg\min_s\, \langle g, s \rangle + \tfrac12 \langle \Lambda s, s \rangle + \tfrac M6 \lVert s \rVert^3 $$

    The minimizer is $s = -(\Lambda + \frac{M r}{2} I)^{-1} g$ with r its own length and the matrix positive
    semidefinite; r is found by bisection. Where g has no part along the lowest eigenvector of an indefinite H (the
    "hard case"), the step returned lacks that direction.

    Arguments:
        eigenvalues: Of H.
        gradient: g, in the same basis.
        smoothness: M, in (0, inf).
        iterations: Halvings of the interval for r.
    """

    def length(r: Array) -> Array:
        shifted = eigenvalues + 0.5 * smoothness * r
        return jnp.linalg.norm(gradient / jnp.where(shifted > 0, shifted, jnp.inf))

    low = jnp.maximum(-2 * eigenvalues.min() / smoothness, 0)
    high = low + jnp.sqrt(2 * jnp.linalg.norm(gradient) / smoothness) + jnp.finfo(gradient.dtype).tiny

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = bounds
        middle = (a + b) / 2
        longer = length(middle) > middle  # then the root lies above
        return jnp.where(longer, middle, a), jnp.where(longer, b, middle)

    _, r = lax.fori_loop(0, iterations, halve, (low, high))
    shifted = eigenvalues + 0.5 * smoothness * r
    return -gradient / jnp.where(shifted > 0, shifted, jnp.inf)


class LazyNewtonState(NamedTuple):
    """State of `LazyNewton`: the last Hessian, diagonalized."""

    steps: Int[Array, ""]
    eigenvalues: Float[Array, " d"]
    basis: Float[Array, "d d"]


@method("lazy-newton", {"smoothness": LogUniform(1e-2, 1e2)}, paper="lazy-newton")
class LazyNewton(Method):
    r"""Globally convergent Newton steps that reuse one Hessian m times.

    With z the last snapshot, renewed every m steps, and g the current gradient:

    $$
    \begin{aligned}
    \text{cubic:} \quad x &\leftarrow x + \arg\min_s\, \langle g, s \rangle + \tfrac12 \langle \nabla^2 f(z) s, s
    \rangle + \tfrac M6 \lVert s \rVert^3 \\
    \text{regularized:} \quad x &\leftarrow x - (\nabla^2 f(z) + \lambda I)^{-1} g, \qquad \lambda = \sqrt{M \lVert g
    \rVert}
    \end{aligned}
    $$

    Where a Hessian costs as much as d gradients, m = d is the best choice. The snapshot is diagonalized, so that a lazy
    step costs one gradient and order d^2. All parameters are taken as one vector, no smaller than float32.

    Arguments:
        smoothness: M, in (0, inf); of the order of m times the Hessian's Lipschitz constant.
        every: m, at least 1 (Newton's method).
        cubic: Cubic steps, for any smooth f; otherwise regularized ones, for convex f.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Second-order optimization with lazy Hessians.
    """

    smoothness: Scalar = hyper(1.0, low=0.0, open_low=True)
    every: int = hyper(1, low=1)
    cubic: bool = False

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> LazyNewtonState:
        flat, _ = as_vector(x)
        return LazyNewtonState(jnp.zeros((), jnp.int32), jnp.zeros_like(flat), jnp.eye(flat.size, dtype=flat.dtype))

    def step(
        self, problem: Minimization, x: PyTree, state: LazyNewtonState, key: PRNGKeyArray
    ) -> tuple[PyTree, LazyNewtonState]:
        batch = problem.sample(key)
        flat, unravel = as_vector(x)

        def loss(z: Array) -> Array:
            return problem.loss(unravel(z), batch).astype(flat.dtype)

        def renew() -> tuple[Array, Array]:
            found = jnp.linalg.eigh(jax.hessian(loss)(flat))
            return found[0], found[1]

        eigenvalues, basis = when_due(state.steps % self.every == 0, renew, lambda: (state.eigenvalues, state.basis))
        gradient = jax.grad(loss)(flat) @ basis
        step = self._step(eigenvalues, gradient)
        return unravel(flat + basis @ step), LazyNewtonState(state.steps + 1, eigenvalues, basis)

    def _step(self, eigenvalues: Array, gradient: Array) -> Array:
        if self.cubic:
            return cubic_step(eigenvalues, gradient, self.smoothness)
        shifted = eigenvalues + jnp.sqrt(self.smoothness * jnp.linalg.norm(gradient))
        return -gradient / jnp.where(shifted > 0, shifted, jnp.inf)
