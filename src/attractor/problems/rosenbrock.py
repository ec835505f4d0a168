"""Rosenbrock's valley."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.registry import problem


@problem("rosenbrock", metric="loss", steps=2_000, target=1e-3)
def rosenbrock(dim: int = 2, steepness: float = 100.0) -> Composite:
    r"""The curved valley on which gradient methods crawl, as least squares; minimum 0 at all ones.

    $$ f(x) = \sum_{i=1}^{d-1} \bigl( s\,(x_{i+1} - x_i^2)^2 + (1 - x_i)^2 \bigr) $$

    It starts at the classical (-1.2, 1, -1.2, 1, …). From four dimensions on there is a second local minimum near
    (-1, 1, …, 1).

    Arguments:
        dim: d, at least 2.
        steepness: s, in (0, inf).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("dim", dim, 2)
    in_range("steepness", steepness, 0.0, open_low=True)
    start = jnp.where(jnp.arange(dim) % 2 == 0, -1.2, 1.0)
    valley = eqx.Partial(_residuals, jnp.asarray((2 * steepness) ** 0.5))
    return Composite.least_squares(valley, start, optimum=0.0, solution=jnp.ones(dim))


def _residuals(root: Float[Array, ""], x: Float[Array, " d"], batch: None = None) -> Float[Array, " m"]:
    return jnp.concatenate([root * (x[1:] - x[:-1] ** 2), 2**0.5 * (1 - x[:-1])])


def rosenbrock_on_sphere(w: Float[Array, "..."]) -> Float[Array, ""]:
    r"""A gentle valley in the direction of w, so that its length does not matter; minimum 0 where all entries are equal
    and positive.

    $$ f(w) = \frac{1}{d-1} \sum_{i=1}^{d-1} (x_{i+1} - x_i^2)^2 + 0.1 (1 - x_i)^2, \qquad
       x = \sqrt{d}\, w / \lVert w \rVert $$

    Arguments:
        w: Of any shape with d entries, at least 2, not all 0.
    """
    x = w.size**0.5 * (w / jnp.linalg.norm(w)).ravel()
    return jnp.mean((x[1:] - x[:-1] ** 2) ** 2 + 0.1 * (1 - x[:-1]) ** 2)
