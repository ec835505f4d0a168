"""Newton's method made safe at saddle points: curvature counts by its size, not by its sign."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.method import Method
from attractor.problem import Minimization, as_vector
from attractor.registry import LogUniform, method
from attractor.second_order.curvature import MatVec, hvp

Scalar = float | Float[Array, ""]


def abs_hessian_solve(
    hessian: Float[Array, "n n"], gradient: Float[Array, " n"], damping: Scalar = 0.0
) -> Float[Array, " n"]:
    r"""$(|H| + \delta I)^{-1} g$ with $|H| = U |\Lambda| U^\top$ for $H = U \Lambda U^\top$.

    Arguments:
        hessian: H, symmetric.
        gradient: g.
        damping: $\delta$, in [0, inf).

    Paper: On the saddle point problem for non-convex optimization.
    """
    eigenvalues, basis = jnp.linalg.eigh(hessian)
    return basis @ ((gradient @ basis) / (jnp.abs(eigenvalues) + damping))


def krylov_basis(matvec: MatVec, start: Float[Array, " n"], size: int) -> Float[Array, "n size"]:
    r"""Orthonormal basis of $\operatorname{span}\{v, Hv, \dots, H^{k-1} v\}$, reorthogonalized twice at every step.

    Where the space is exhausted earlier, the remaining columns are zero.

    Arguments:
        matvec: ``v -> Hv``.
        start: v.
        size: k, at least 1.
    """

    def unit(v: Array, reference: Array) -> Array:
        length = jnp.linalg.norm(v)
        gone = length <= 10 * jnp.finfo(v.dtype).eps * reference
        return jnp.where(gone, 0, v / jnp.where(gone, 1, length))

    def grow(basis: Array, i: Array) -> tuple[Array, None]:
        v = matvec(basis[:, i - 1])
        rest = v - basis @ (basis.T @ v)
        rest = rest - basis @ (basis.T @ rest)
        return basis.at[:, i].set(unit(rest, jnp.linalg.norm(v))), None

    first = jnp.zeros((start.size, size), start.dtype).at[:, 0].set(unit(start, jnp.zeros((), start.dtype)))
    return lax.scan(grow, first, jnp.arange(1, size))[0]


class SaddleFreeNewton(Method):
    r"""Newton's method with the Hessian's absolute value, which is repelled by saddle points instead of attracted.

    $$ x \leftarrow x - \eta\, (|H| + \delta I)^{-1} \nabla f(x) $$

    With ``krylov_dim=None`` the Hessian is formed: d products with it and an eigendecomposition of order d^3 a step.
    With a number k, the step is taken inside the Krylov space of the gradient, at k products and order d k^2. One
    minibatch serves gradient and curvature. All parameters are taken as one vector, in their common dtype.

    Arguments:
        learning_rate: $\eta$, in (0, inf).
        damping: $\delta$, in (0, inf): bounds the step along flat directions. The paper searches powers of ten.
        krylov_dim: k, at least 1 (and no more than there are parameters), or `None`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: On the saddle point problem for non-convex optimization.
    """

    learning_rate: Any
    damping: Any
    krylov_dim: int | None

    def __init__(self, learning_rate: Scalar = 1.0, damping: Scalar = 1e-2, krylov_dim: int | None = None):
        in_range("learning_rate", learning_rate, 0.0, open_low=True)
        in_range("damping", damping, 0.0, open_low=True)
        if krylov_dim is not None:
            in_range("krylov_dim", krylov_dim, 1)
        self.learning_rate, self.damping, self.krylov_dim = learning_rate, damping, krylov_dim

    def step(self, problem: Minimization, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        batch = problem.sample(key)
        flat, unravel = as_vector(x)

        def loss(z: Array) -> Array:
            return problem.loss(unravel(z), batch).astype(flat.dtype)

        gradient, curvature = jax.grad(loss)(flat), hvp(loss, flat)
        return unravel(flat - self.learning_rate * self._direction(gradient, curvature)), state

    def _direction(self, gradient: Array, curvature: MatVec) -> Array:
        if self.krylov_dim is None:
            return abs_hessian_solve(
                jax.vmap(curvature)(jnp.eye(gradient.size, dtype=gradient.dtype)), gradient, self.damping
            )
        basis = krylov_basis(curvature, gradient, min(self.krylov_dim, gradient.size))
        small = basis.T @ jax.vmap(curvature, in_axes=1, out_axes=1)(basis)
        return basis @ abs_hessian_solve((small + small.T) / 2, basis.T @ gradient, self.damping)


method(
    "saddle-free-newton",
    {"learning_rate": LogUniform(0.1, 1.0), "damping": LogUniform(1e-4, 1.0)},
    paper="saddle-free-newton",
    bad={"learning_rate": -1.0, "damping": 0.0, "krylov_dim": 0},
)(SaddleFreeNewton)
