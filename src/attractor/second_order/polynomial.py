"""Preconditioners that are polynomials of a curvature matrix, and gradient methods in Krylov spaces."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.linalg.lanczos import krylov_basis
from attractor.method import Method, hyper
from attractor.problem import Minimization
from attractor.registry import method
from attractor.trees import as_vector


def symmetric_polynomial_preconditioner(matrix: Float[Array, "n n"], degree: int) -> Float[Array, "n n"]:
    r"""The preconditioner whose eigenvalue on each eigenvector of B is a symmetric polynomial of all the others.

    $$ P_0 = I, \qquad P_\tau = \frac1\tau \sum_{i=1}^\tau (-1)^{i-1} P_{\tau - i} U_i, \qquad U_i =
    \operatorname{tr}(B^i) I - B^i $$

    On the j-th eigenvector its eigenvalue is the elementary symmetric polynomial $e_\tau$ of the other eigenvalues. So
    $\tau$ large eigenvalues of B, far above the rest, no longer spoil the condition number of $P_\tau B$; nothing of
    the spectrum needs to be known. At $\tau = n - 1$ it is $\det(B) B^{-1}$. B is scaled to a unit trace before,
    and P back after, which keeps the powers in range.

    Arguments:
        matrix: B, symmetric positive semidefinite.
        degree: $\tau$, in 0 … n - 1.

    Raises:
        ValueError: if ``degree`` is out of range.

    Paper: Polynomial Preconditioning for Gradient Methods.
    """
    n = len(matrix)
    in_range("degree", degree, 0, n - 1)
    identity = jnp.eye(n, dtype=matrix.dtype)
    trace = jnp.trace(matrix)
    scaled, power = matrix / jnp.where(trace == 0, 1, trace), identity
    polynomials, terms = [identity], []
    for tau in range(1, degree + 1):
        power = power @ scaled
        terms.append(jnp.trace(power) * identity - power)
        products = [(-1) ** i * polynomials[-1 - i] @ u for i, u in enumerate(terms)]
        polynomials.append(sum(products[1:], products[0]) / tau)
    return polynomials[-1] * trace**degree


@method("krylov-gradient", paper="symmetric-polynomial-preconditioning")
class KrylovGradient(Method):
    r"""A gradient step with the best polynomial preconditioner of its degree, found by a search in a Krylov space.

    $$ x_+ = \arg\min f \quad \text{over} \quad x + \operatorname{span}\{g, B g, \dots, B^\tau g\} $$

    with B fixed, such as the Gram matrix of the data: no product with the Hessian is needed. The small problem is
    solved by ``iterations`` of Newton's method with halving, each with $\tau + 1$ directional second derivatives. All
    parameters are taken as one vector, no smaller than float32.

    Arguments:
        matrix: B (d, d), symmetric positive semidefinite, with $\mu B \preceq \nabla^2 f \preceq L B$ for the theory;
            `None`: the Hessian at the current point, by products.
        degree: $\tau$, at least 0 (gradient descent with exact line search).
        iterations: Of Newton's method on the small problem, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Polynomial Preconditioning for Gradient Methods.
    """

    matrix: Float[Array, "d d"] | None = None
    degree: int = hyper(3, low=0)
    iterations: int = hyper(5, low=1)

    def step(self, problem: Minimization, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        batch = problem.sample(key)
        flat, unravel = as_vector(x)

        def loss(z: Array) -> Array:
            return problem.loss(unravel(z), batch).astype(flat.dtype)

        gradient, hvp = jax.linearize(jax.grad(loss), flat)
        product = hvp if self.matrix is None else lambda v: jnp.asarray(self.matrix, flat.dtype) @ v
        basis = krylov_basis(product, gradient, min(self.degree + 1, flat.size))
        return unravel(flat + basis @ self._minimize(lambda c: loss(flat + basis @ c), basis.shape[1], flat)), state

    def _minimize(self, loss: Any, size: int, like: Array) -> Float[Array, " k"]:
        """Newton's method from zero; the Hessian's absolute value, and steps that do not go up."""
        halves = 0.5 ** jnp.arange(12, dtype=like.dtype)

        def newton(_: Array, c: Array) -> Array:
            eigenvalues, basis = jnp.linalg.eigh(jax.hessian(loss)(c))
            curvature = jnp.abs(eigenvalues)
            kept = curvature > size * jnp.finfo(like.dtype).eps * curvature.max()
            step = -basis @ jnp.where(kept, jax.grad(loss)(c) @ basis / jnp.where(kept, curvature, 1), 0)
            values = jax.vmap(lambda s: loss(c + s * step))(halves)
            best = jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))
            return jnp.where(values[best] <= loss(c), c + halves[best] * step, c)

        return lax.fori_loop(0, self.iterations, newton, jnp.zeros(size, like.dtype))
