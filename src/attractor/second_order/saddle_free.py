"""Newton's method made safe at saddle points: curvature counts by its size, not by its sign."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.linalg.curvature import MatVec, hvp
from attractor.linalg.lanczos import krylov_basis
from attractor.method import Method, hyper
from attractor.problem import Minimization
from attractor.registry import LogUniform, method
from attractor.trees import as_vector


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


@method(
    "saddle-free-newton",
    {"learning_rate": LogUniform(0.1, 1.0), "damping": LogUniform(1e-4, 1.0)},
    paper="saddle-free-newton",
)
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

    learning_rate: Scalar = hyper(1.0, low=0.0, open_low=True)
    damping: Scalar = hyper(1e-2, low=0.0, open_low=True)
    krylov_dim: int | None = hyper(None, low=1)

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
