"""Primal-dual hybrid gradient, and image reconstruction with total variation by it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from attractor.checks import Scalar, in_range
from attractor.trees import norm

Map = Callable[[PyTree], PyTree]
Prox = Callable[[PyTree, Array], PyTree]
Image = Float[Array, "height width"]


def operator_norm(forward: Map, x: PyTree, steps: int = 50) -> Float[Array, ""]:
    r"""The norm of a linear map, $\max \lVert K x \rVert / \lVert x \rVert$, by power iteration on $K^\top K$.

    Arguments:
        forward: K.
        x: Start, like K's argument; not orthogonal to the leading singular vector.
        steps: At least 1; the result is a lower bound that rises to the norm.

    Raises:
        ValueError: for ``steps`` below 1.
    """
    in_range("steps", steps, 1.0)
    adjoint = jax.linear_transpose(forward, x)

    def step(_: Array, x: PyTree) -> PyTree:
        size = norm(x)
        return adjoint(forward(jax.tree.map(lambda a: a / size.astype(a.dtype), x)))[0]

    return jnp.sqrt(norm(jax.lax.fori_loop(0, steps, step, x)))


def primal_dual_hybrid_gradient(
    forward: Map,
    prox: Prox,
    dual_prox: Prox,
    x: PyTree,
    step: Scalar,
    steps: int,
    measure: Map = lambda x: (),
) -> tuple[PyTree, PyTree]:
    r"""The iteration of Chambolle and Pock for $\min_x g(x) + f(K x)$, g and f convex, each by its proximal map.

    $$
    y \leftarrow \operatorname{prox}_{\tau f^*}(y + \tau K \bar x), \qquad
    x^+ = \operatorname{prox}_{\tau g}(x - \tau K^\top y), \qquad \bar x = 2 x^+ - x
    $$

    It converges if $\tau \lVert K \rVert < 1$; nothing is inverted. The dual starts at 0.

    Arguments:
        forward: The linear map K, on pytrees.
        prox: ``(v, step) -> prox of step * g at v``.
        dual_prox: ``(v, step) -> prox of step * f* at v``, on pytrees like ``forward(x)``.
        x: Start.
        step: $\tau$, both the primal step and the dual one, in (0, inf).
        steps: At least 1.
        measure: ``x -> pytree`` recorded after every step.

    Returns:
        The last point, and what was measured, leaves ``(steps, …)``.

    Raises:
        ValueError: for an argument out of range.

    Paper: RISING a new framework for few-view tomographic image reconstruction with deep learning.
    """
    in_range("step", step, 0.0, open_low=True)
    in_range("steps", steps, 1.0)
    adjoint = jax.linear_transpose(forward, x)
    step = jnp.asarray(step)

    def advance(carry: tuple[PyTree, PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree, PyTree], PyTree]:
        x, ahead, dual = carry
        dual = dual_prox(jax.tree.map(lambda y, k: y + (step * k).astype(y.dtype), dual, forward(ahead)), step)
        moved = prox(jax.tree.map(lambda a, k: a - (step * k).astype(a.dtype), x, adjoint(dual)[0]), step)
        return (moved, jax.tree.map(lambda new, old: 2 * new - old, moved, x), dual), measure(moved)

    start = (x, x, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(forward, x)))
    (x, _, _), measured = jax.lax.scan(advance, start, None, steps)
    return x, measured


def image_gradient(image: Image) -> Float[Array, "2 height width"]:
    """Differences to the pixel below and to the one on the right; 0 at the far edges."""
    down = jnp.diff(image, axis=0, append=image[-1:])
    return jnp.stack([down, jnp.diff(image, axis=1, append=image[:, -1:])])


def total_variation(image: Image) -> Float[Array, ""]:
    """Sum over pixels of the Euclidean length of `image_gradient`."""
    return jnp.sum(jnp.linalg.norm(image_gradient(image), axis=0))


def tv_objective(
    matrix: Float[Array, "rows pixels"], data: Float[Array, " rows"], strength: Scalar, image: Image
) -> Float[Array, ""]:
    r"""$\frac12 \lVert A x - b \rVert^2 + \lambda \operatorname{TV}(x)$; arguments as in `tv_reconstruction`."""
    return jnp.sum((matrix @ image.ravel() - data) ** 2) / 2 + strength * total_variation(image)


def tv_reconstruction(
    matrix: Float[Array, "rows pixels"],
    data: Float[Array, " rows"],
    strength: Scalar,
    start: Image,
    steps: int,
    size: Scalar | None = None,
) -> Image:
    r"""An image from linear measurements of it: nonnegative, and of small total variation.

    $$ \min_{x \ge 0} \tfrac12 \lVert A x - b \rVert^2 + \lambda \operatorname{TV}(x) $$

    by `primal_dual_hybrid_gradient` with $K = (A, c \nabla)$; the c that gives both the same norm was chosen here. A
    few steps give a coarse image; a network can learn the way from there to the converged one.

    Arguments:
        matrix: A, ``(rows, pixels)``; see `attractor.problems.radon_matrix`.
        data: b, ``(rows,)``.
        strength: $\lambda$, in [0, inf), in the units of data squared over those of the image.
        start: First image; its shape is that of the result, with pixels in row-major order.
        steps: At least 1.
        size: The norm of A, if it is known; default: `operator_norm`.

    Raises:
        ValueError: for an argument out of range, or shapes that do not fit.

    Paper: RISING a new framework for few-view tomographic image reconstruction with deep learning.
    """
    in_range("strength", strength, 0.0)
    if matrix.shape != (data.size, start.size):
        raise ValueError(f"matrix: expected shape {(data.size, start.size)} to fit data and start, got {matrix.shape}")
    if size is None:
        size = operator_norm(lambda x: matrix @ x, jnp.ones(start.size, start.dtype))
    weight = size / 8**0.5  # the norm of the image gradient is just below the root of 8

    def forward(x: Image) -> tuple[Array, Array]:
        return matrix @ x.ravel(), weight * image_gradient(x)

    def dual_prox(dual: tuple[Array, Array], step: Array) -> tuple[Array, Array]:
        misfit, flow = dual
        length = jnp.linalg.norm(flow, axis=0)
        bound = strength / weight  # the dual of TV is bounded pixel by pixel
        shrunk = flow * jnp.where(length > bound, bound / jnp.where(length > 0, length, 1), 1)
        return (misfit - step * data) / (1 + step), shrunk

    def prox(x: Image, step: Array) -> Image:
        return jnp.maximum(x, 0)

    return primal_dual_hybrid_gradient(forward, prox, dual_prox, start, 0.99 / (2**0.5 * size), steps)[0]
