"""How far a point is from stationary when the loss has kinks: measures that a nonsmooth method can drive to zero."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range

Loss = Callable[[PyTree], Float[Array, ""]]


def min_norm_in_hull(points: Float[Array, "n d"], steps: int = 300) -> Float[Array, " d"]:
    r"""The shortest vector among the convex combinations of some points.

    $\min_w \lVert P^\top w \rVert$ over the simplex, by Frank-Wolfe steps that move weight from the worst point in use
    to the best one, with exact line search; they converge linearly.

    Arguments:
        points: One per row.
        steps: Of the solver, at least 1.
    """
    in_range("steps", steps, 1.0)
    gram = points @ points.T

    def step(_: Array, weights: Array) -> Array:
        slope = gram @ weights
        best, worst = jnp.argmin(slope), jnp.argmax(jnp.where(weights > 0, slope, -jnp.inf))
        curvature = gram[best, best] + gram[worst, worst] - 2 * gram[best, worst]
        ideal = (slope[worst] - slope[best]) / jnp.maximum(curvature, jnp.finfo(points.dtype).tiny)
        moved = jnp.minimum(ideal, weights[worst])
        return weights.at[best].add(moved).at[worst].add(-moved)

    start = jnp.full(len(points), 1 / len(points), points.dtype)
    return points.T @ jax.lax.fori_loop(0, steps, step, start)


def goldstein_norm(loss: Loss, x: PyTree, delta: float, key: PRNGKeyArray, samples: int = 64) -> Float[Array, ""]:
    r"""Upper estimate of Goldstein's measure of stationarity: the shortest average gradient within reach of ``x``.

    $$ \min \{\lVert g \rVert : g \in \operatorname{conv} \{\nabla f(y) : \lVert y - x \rVert \le \delta\}\} $$

    over gradients at ``samples`` uniform points of the ball. A loss with a kink may have no small gradient near its
    minimizer; averages over a small ball do get small.

    Arguments:
        loss: A scalar function of ``x``.
        x: Pytree of floating-point arrays.
        delta: Radius of the ball, in the units of ``x``, in (0, inf).
        key: Of the sample.
        samples: Points in the ball, at least 1.

    Raises:
        ValueError: for an argument out of range.

    Paper: Optimal Stochastic Non-smooth Non-convex Optimization through Online-to-Non-convex Conversion.
    """
    in_range("delta", delta, 0.0, open_low=True)
    in_range("samples", samples, 1.0)
    flat, unravel = ravel_pytree(x)
    points = flat + delta * jr.ball(key, flat.size, shape=(samples,), dtype=flat.dtype)
    gradients = jax.vmap(jax.grad(lambda y: loss(unravel(y))))(points)
    return jnp.linalg.norm(min_norm_in_hull(gradients))
