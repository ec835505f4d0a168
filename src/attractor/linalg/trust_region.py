"""A step within a trust region whose shape is that of any divergence, by conjugate gradients and a line search."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float, PyTree

from attractor.checks import Scalar, in_range
from attractor.gradients import grad, value_and_grad
from attractor.registry import part

BACKTRACKS = 10  # halvings before a step is given up


def trust_region_step(
    objective: Callable[[PyTree], Float[Array, ""]],
    distance: Callable[[PyTree], Float[Array, ""]],
    x: PyTree,
    radius: Scalar,
    *,
    longest: float = jnp.inf,
    damping: Scalar = 0.0,
    cg_steps: int = 10,
) -> PyTree:
    r"""One step of: minimize ``objective`` subject to ``distance`` <= ``radius``.

    With g the gradient of the objective and H the Hessian of the distance, both at x,

    $$
    s \approx -(H + \text{damping} I)^{-1} g, \qquad
    \alpha = \min\bigl(\text{longest}, \sqrt{2\,\text{radius} / s^\top (H + \text{damping} I) s}\bigr), \qquad
    x \leftarrow x + 2^{-k} \alpha s
    $$

    with conjugate gradients for s, and the first k for which the objective falls and the distance is within the
    radius; x stays where it is if there is none (as when g = 0). A quadratic distance meets the radius exactly at
    k = 0, so rounding decides there, and a share of the root of the dtype's precision is granted to it.

    Arguments:
        objective: To be minimized.
        distance: From x: zero with zero gradient there, and not negative elsewhere.
        x: Any pytree of floating-point arrays.
        radius: Largest distance, > 0.
        longest: Largest $\alpha$; 1 when the objective is itself quadratic with Hessian H.
        damping: Added to the diagonal of H, >= 0; with 0, only the few steps of conjugate gradients regularize.
        cg_steps: Iterations of conjugate gradients, >= 1.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("radius", radius, 0.0, open_low=True)
    in_range("damping", damping, 0.0)
    in_range("cg_steps", cg_steps, 1)
    value, gradient = value_and_grad(objective)(x)
    _, hessian = jax.linearize(grad(distance), x)

    def damped(v: PyTree) -> PyTree:
        return jax.tree.map(lambda h, v: h + jnp.asarray(damping, v.dtype) * v, hessian(v), v)

    direction, _ = cg(damped, jax.tree.map(jnp.negative, gradient), maxiter=cg_steps)
    # The residual of conjugate gradients is orthogonal to their solution, so s'(H + damping I)s = -g's.
    length = -sum(map(jnp.vdot, jax.tree.leaves(gradient), jax.tree.leaves(direction)), start=jnp.zeros(()))
    scale = jnp.minimum(longest, jnp.sqrt(2 * radius / jnp.maximum(length, jnp.finfo(length.dtype).tiny)))

    granted = radius * (1 + jnp.finfo(length.dtype).eps ** 0.5)

    def move(scale: Array) -> PyTree:
        return jax.tree.map(lambda x, s: x + (scale * s).astype(x.dtype), x, direction)

    def halve(search: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        k, _, _ = search
        tried = scale * 0.5**k
        candidate = move(tried)
        return k + 1, tried, (objective(candidate) < value) & (distance(candidate) <= granted)

    def unsettled(search: tuple[Array, Array, Array]) -> Array:
        k, _, accepted = search
        return ~accepted & (k <= BACKTRACKS)

    _, tried, accepted = lax.while_loop(unsettled, halve, (jnp.asarray(0), scale, jnp.asarray(False)))
    return jax.tree.map(partial(jnp.where, accepted), move(tried), x)


def _example() -> tuple[Array, float]:
    """A linear objective on an ellipse: the step is known."""
    shape, slope, radius = jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, -3.0]), 0.1
    found = trust_region_step(lambda x: slope @ x, lambda x: x @ shape @ x / 2, jnp.zeros(2), radius)
    newton = -jnp.linalg.solve(shape, slope)
    expected = newton * jnp.sqrt(2 * radius / (newton @ shape @ newton))
    return jnp.abs(found - expected).max(), 1e-3


part("solver", "trust-region-step", example=lambda: _example)(trust_region_step)
