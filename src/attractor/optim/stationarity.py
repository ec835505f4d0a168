"""How far a point is from stationary when the loss has kinks: measures that a nonsmooth method can drive to zero."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
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
    direction, radius = jr.normal(key, (samples, flat.size), flat.dtype), jr.uniform(jr.fold_in(key, 1), (samples, 1))
    radius = delta * radius.astype(flat.dtype) ** (1 / flat.size)
    points = flat + radius * direction / jnp.linalg.norm(direction, axis=1, keepdims=True)
    gradients = jax.vmap(jax.grad(lambda y: loss(unravel(y))))(points)
    return jnp.linalg.norm(min_norm_in_hull(gradients))


class Blocks(NamedTuple):
    """What `averaged_gradients` measures, per block of steps."""

    averages: Float[Array, " blocks"]  # the norm of the mean gradient
    reaches: Float[Array, " blocks"]  # the largest distance of a point from the mean point
    squares: Float[Array, " blocks"]  # the mean squared norm of the noisy gradients


def averaged_gradients(
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    start: Float[Array, " d"],
    key: PRNGKeyArray,
    blocks: int,
    length: int,
    noise: float = 0.0,
) -> Blocks:
    r"""Run an optimizer on noisy gradients, and average the true ones over blocks of steps.

    An average of gradients at points within $\delta$ of their mean is in the hull that `goldstein_norm` minimizes over:
    a short one says that the mean point is nearly stationary at that radius.

    Arguments:
        loss: A scalar function of a vector, without noise.
        optimizer: Its update may take ``key``.
        start: Where to begin.
        key: Of noise and optimizer.
        blocks: How many, at least 1.
        length: Steps of a block, at least 1.
        noise: Standard deviation of normal noise on every coordinate of a gradient, in [0, inf).

    Raises:
        ValueError: for an argument out of range.

    Paper: Optimal Stochastic Non-smooth Non-convex Optimization through Online-to-Non-convex Conversion.
    """
    for name, value, low in (("blocks", blocks, 1), ("length", length, 1), ("noise", noise, 0)):
        in_range(name, value, low)

    def step(carry: tuple[Array, PyTree], key: PRNGKeyArray) -> tuple[tuple[Array, PyTree], tuple[Array, ...]]:
        w, state = carry
        gradient, (of_noise, own) = jax.grad(loss)(w), jr.split(key)
        noisy = gradient + noise * jr.normal(of_noise, w.shape)
        updates, state = optimizer.update(noisy, state, w, key=own)
        return (w + updates, state), (w, gradient, jnp.sum(noisy**2))  # pyright: ignore[reportOperatorIssue]

    def block(carry: tuple[Array, PyTree], key: PRNGKeyArray) -> tuple[tuple[Array, PyTree], Blocks]:
        carry, (points, gradients, squares) = jax.lax.scan(step, carry, jr.split(key, length))
        reach = jnp.linalg.norm(points - points.mean(0), axis=1).max()
        return carry, Blocks(jnp.linalg.norm(gradients.mean(0)), reach, squares.mean())

    return jax.lax.scan(block, (start, optimizer.init(start)), jr.split(key, blocks))[1]


def moreau_gradient(loss: Loss, x: PyTree, step: float, steps: int = 1_000) -> PyTree:
    r"""Gradient of the Moreau envelope, a smooth measure of stationarity for a weakly convex loss.

    $$
    \nabla f_\lambda(x) = (x - \hat x) / \lambda, \qquad
    \hat x = \arg\min_y f(y) + \tfrac{1}{2 \lambda} \lVert y - x \rVert^2
    $$

    A small one says that x is near a point where f itself has a subgradient as small. The minimizer is found by
    subgradient steps with weighted averaging, good for a problem that is $1 / (2 \lambda)$-strongly convex.

    Arguments:
        loss: A scalar function of ``x``, convex once $\rho \lVert x \rVert^2 / 2$ is added.
        x: Pytree of floating-point arrays.
        step: The lambda, in (0, 1 / (2 rho)].
        steps: Of the solver, at least 1; the error is of the order of the subgradients over its square root.

    Raises:
        ValueError: for an argument out of range.

    Paper: Stochastic model-based minimization of weakly convex functions.
    """
    in_range("step", step, 0.0, open_low=True)
    in_range("steps", steps, 1.0)
    center, unravel = ravel_pytree(x)
    subgradient = jax.grad(lambda y: loss(unravel(y)) + jnp.sum((y - center) ** 2) / (2 * step))

    def descend(carry: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], None]:
        y, average = carry
        y = y - 4 * step / (t + 2) * subgradient(y)
        return (y, average + 2 / (t + 2) * (y - average)), None

    (_, average), _ = jax.lax.scan(descend, (center, center), jnp.arange(steps, dtype=center.dtype))
    return unravel((center - average) / step)


def stationary_point(loss: Loss, x: Float[Array, " d"], steps: int = 150) -> Float[Array, " d"]:
    r"""A critical point of any index near ``x``: damped Gauss-Newton steps on $\tfrac12 \lVert \nabla f \rVert^2$.

    A step that does not shorten the gradient is not made, and the damping, 0.01 at first, multiplied by 4; it is
    divided by 3 after one that does. Whether the gradient vanishes at the end is for the caller to see.

    Arguments:
        loss: A smooth function of ``x``.
        x: The start; its Hessian is formed.
        steps: At least 1.

    Raises:
        ValueError: for too few steps.
    """
    in_range("steps", steps, 1.0)

    def descend(carry: tuple[Array, Array | float], _: None) -> tuple[tuple[Array, Array | float], None]:
        z, damping = carry
        g, h = jax.grad(loss)(z), jax.hessian(loss)(z)
        new = z - jnp.linalg.solve(h @ h + damping * jnp.eye(z.size), h @ g)
        better = jnp.linalg.norm(jax.grad(loss)(new)) < jnp.linalg.norm(g)
        return (jnp.where(better, new, z), jnp.where(better, damping / 3, damping * 4)), None

    return jax.lax.scan(descend, (x, 1e-2), length=steps)[0][0]


class CriticalPoints(NamedTuple):
    """What was found, with m points."""

    loss: Float[np.ndarray, " m"]
    eigenvalues: Float[np.ndarray, "m d"]  # of the Hessian, ascending


def critical_points(
    loss: Loss, points: Float[Array, "n d"], steps: int = 150, tolerance: float = 1e-6
) -> CriticalPoints:
    r"""The critical points near some points, of every index: `stationary_point` from each, where it gets there.

    Arguments:
        loss: A smooth function of a vector.
        points: One per row, such as iterates of training runs.
        steps: As in `stationary_point`.
        tolerance: $\lVert \nabla f \rVert$ below which a point counts, in (0, inf).

    Returns:
        Losses and eigenvalues, in the order of the points that led there; a point reached twice is listed twice.

    Raises:
        ValueError: for an argument out of range.

    Paper: On the saddle point problem for non-convex optimization (arXiv 1405.4604).
    """
    in_range("tolerance", tolerance, 0.0, open_low=True)

    def end(x: Array) -> tuple[Array, Array, Array]:
        z = stationary_point(loss, x, steps)
        return loss(z), jnp.linalg.norm(jax.grad(loss)(z)), jnp.linalg.eigvalsh(jax.hessian(loss)(z))

    losses, norms, eigenvalues = map(np.asarray, jax.jit(jax.vmap(end))(points))
    found = norms < tolerance
    return CriticalPoints(losses[found], eigenvalues[found])
