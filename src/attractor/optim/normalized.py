"""Gradients divided by a power of their norm, for losses whose curvature grows with their slope."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from attractor.checks import Scalar, in_range
from attractor.registry import LogUniform, Uniform, method
from attractor.trees import norm


def scale_by_norm_power(beta: Scalar = 1.0) -> optax.GradientTransformation:
    r"""Divide by a power of the norm: $u = g / \lVert g \rVert^\beta$, over all parameters together; zero stays zero.

    Arguments:
        beta: $\beta$, in [0, 1]; 0 leaves the gradient, 1 leaves its direction alone.

    Raises:
        ValueError: for ``beta`` out of range.

    Paper: Generalized-Smooth Nonconvex Optimization is As Efficient As Smooth Nonconvex Optimization.
    """
    in_range("beta", beta, 0.0, 1.0)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        size = optax.tree.norm(updates)
        factor = jnp.where(size > 0, size, 1) ** -beta
        return jax.tree.map(lambda g: (factor * g).astype(g.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)  # pyright: ignore[reportArgumentType]


@method(
    "normalized-gd",
    {"learning_rate": LogUniform(1e-4, 1.0), "beta": Uniform(0.0, 1.0)},
    paper="generalized-smooth-normalized-gd",
    bad={"learning_rate": -1.0, "beta": 1.5},
)
def normalized_gd(learning_rate: optax.ScalarOrSchedule, beta: Scalar = 1.0) -> optax.GradientTransformation:
    r"""Gradient descent with $x \leftarrow x - \eta\, g / \lVert g \rVert^\beta$.

    On losses with $\lVert \nabla^2 f \rVert \le L_0 + L_1 \lVert \nabla f \rVert^\alpha$ any $\beta \in [\alpha, 1]$
    reaches a gradient of norm $\epsilon$ in $O(\epsilon^{-2})$ steps of size $\eta \sim \epsilon^\beta$, wherever it
    starts.

    Arguments:
        learning_rate: $\eta$, in [0, inf), or a schedule.
        beta: $\beta$, in [0, 1].

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Generalized-Smooth Nonconvex Optimization is As Efficient As Smooth Nonconvex Optimization.
    """
    if not callable(learning_rate):
        in_range("learning_rate", learning_rate, 0.0)
    return optax.chain(scale_by_norm_power(beta), optax.scale_by_learning_rate(learning_rate))


def change_of_gradient(
    gradient: Callable[[Array], Array], w: Float[Array, " d"], v: Float[Array, " d"], between: int = 11
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""What generalized smoothness compares: how fast the gradient changes between two points, and how long it gets.

    $$ \frac{\lVert \nabla f(v) - \nabla f(w) \rVert}{\lVert v - w \rVert} \le
       L_0 + L_1 \max_{u \in [w, v]} \lVert \nabla f(u) \rVert^\alpha $$

    Arguments:
        gradient: $\nabla f$.
        w: A point.
        v: Another one.
        between: Points on the segment, its ends among them, at which the longest gradient is looked for, at least 2.

    Returns:
        The left side, and the longest gradient.

    Raises:
        ValueError: for ``between`` below 2.

    Paper: Generalized-Smooth Nonconvex Optimization is As Efficient As Smooth Nonconvex Optimization.
    """
    in_range("between", between, 2)
    lengths = jax.vmap(lambda t: norm(gradient(w + t * (v - w))))(jnp.linspace(0, 1, between))
    return norm(gradient(v) - gradient(w)) / norm(v - w), jnp.max(lengths)
