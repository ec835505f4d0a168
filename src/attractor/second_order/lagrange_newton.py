"""Newton's method for stationary points of a Lagrangian, with a line search that needs no merit function."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.method import Method, hyper
from attractor.objectives import Constrained
from attractor.registry import method
from attractor.trees import as_vector


def _inverse(matrix: Array) -> Array:
    """The pseudo-inverse of a symmetric matrix; zero where the matrix is not finite."""
    finite = jnp.isfinite(matrix).all()
    eigenvalues, basis = jnp.linalg.eigh(jnp.where(finite, matrix, 0))
    floor = len(matrix) * jnp.finfo(matrix.dtype).eps * jnp.abs(eigenvalues).max(initial=0)
    kept = jnp.abs(eigenvalues) > floor
    return (basis * jnp.where(kept, 1 / jnp.where(kept, eigenvalues, 1), 0)) @ basis.T


def newton_step(function: Callable[[Float[Array, " n"]], Float[Array, ""]], z: Float[Array, " n"]) -> Array:
    r"""Newton's step to a stationary point of any kind, $d(z) = -\nabla^2 L(z)^{-1} \nabla L(z)$.

    Arguments:
        function: L, such as a Lagrangian.
        z: Where.
    """
    return -_inverse(jax.hessian(function)(z)) @ jax.grad(function)(z)


def newton_divergence(
    function: Callable[[Float[Array, " n"]], Float[Array, ""]], z: Float[Array, " n"]
) -> Float[Array, ""]:
    r"""Divergence of the field of Newton's steps $d = -H^{-1} \nabla L$.

    $$ \operatorname{div} d = -n - \operatorname{tr}\big(H^{-1}\, \nabla^3 L[d]\big) = -n - \tfrac{\mathrm d}{\mathrm d
    t} \log \lvert \det H(z + t d) \rvert \big|_{t = 0} $$

    It is -n where L is quadratic and at every stationary point with a regular Hessian, of whatever kind. It costs a
    directional derivative of the Hessian.

    Arguments:
        function: L, such as a Lagrangian.
        z: Where.

    Paper: Exploring an Alternative Line-Search Method for Lagrange-Newton Optimization.
    """
    hessian, change = jax.jvp(jax.hessian(function), (z,), (newton_step(function, z),))
    return -z.size - jnp.sum(_inverse(hessian) * change)


class LagrangeNewtonState(NamedTuple):
    """State of `LagrangeNewton`."""

    multipliers: Float[Array, " m"]
    steps: Int[Array, ""]


@method("lagrange-newton", paper="newton-divergence-line-search")
class LagrangeNewton(Method):
    r"""Newton's method on the Lagrangian $L(x, \lambda) = f(x) + \lambda^\top c(x)$, optionally with a line search.

    $$ z_+ = z - \alpha\, \nabla^2 L(z)^{-1} \nabla L(z), \qquad z = (x, \lambda) $$

    All its solutions are saddle points, so that values of L say nothing about progress. The search looks at $\tau =
    \lvert n + \operatorname{div} d \rvert$ instead, with d the field of Newton's steps (`newton_divergence`): it
    vanishes at regular stationary points, and in the ravines that tend to lead there. Every other step goes to the
    lowest of the ``trials`` points $\alpha = 1, \frac12, \frac14, \dots$; the steps between are whole, since a ravine
    is left to be followed. (The paper's own zigzag brackets the ravine; how is our choice.) The multipliers start at
    their least-squares estimate. All parameters are taken as one vector.

    Arguments:
        search: Whether to search; otherwise $\alpha = 1$.
        trials: Step sizes tried in a search, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Exploring an Alternative Line-Search Method for Lagrange-Newton Optimization.
    """

    search: bool = True
    trials: int = hyper(6, low=1)

    def init(self, problem: Constrained, x: PyTree, key: PRNGKeyArray) -> LagrangeNewtonState:
        flat, unravel = as_vector(x)
        gradient = jax.grad(lambda z: problem.loss(unravel(z), problem.full).astype(flat.dtype))(flat)
        jacobian = jax.jacrev(lambda z: problem.constraint(unravel(z)).astype(flat.dtype))(flat)
        return LagrangeNewtonState(-_inverse(jacobian @ jacobian.T) @ (jacobian @ gradient), jnp.zeros((), jnp.int32))

    def step(
        self, problem: Constrained, x: PyTree, state: LagrangeNewtonState, key: PRNGKeyArray
    ) -> tuple[PyTree, LagrangeNewtonState]:
        batch = problem.sample(key)
        flat, unravel = as_vector(x)

        def lagrangian(z: Array) -> Array:
            point = unravel(z[: flat.size])
            value = problem.loss(point, batch) + z[flat.size :] @ problem.constraint(point)
            return value.astype(flat.dtype)

        z = jnp.concatenate([flat, state.multipliers])
        direction = newton_step(lagrangian, z)
        size = jnp.ones((), flat.dtype)
        if self.search:
            sizes = 0.5 ** jnp.arange(self.trials, dtype=flat.dtype)
            size = lax.cond(
                state.steps % 2 == 0,
                lambda: sizes[self._best(lagrangian, z + sizes[:, None] * direction)],
                lambda: size,
            )
        z = z + size * direction
        return unravel(z[: flat.size]), LagrangeNewtonState(z[flat.size :], state.steps + 1)

    def _best(self, lagrangian: Callable, points: Float[Array, "k n"]) -> Int[Array, ""]:
        criterion = jnp.abs(points.shape[1] + jax.vmap(lambda z: newton_divergence(lagrangian, z))(points))
        return jnp.argmin(jnp.where(jnp.isfinite(criterion), criterion, jnp.inf))
