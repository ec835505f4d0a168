"""Minimization on a piece of the unit sphere: nonlinear equality constraints with points that meet them."""

from collections.abc import Callable

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.objectives import Constrained


def on_cut_sphere(
    loss: Callable[[Float[Array, " d"]], Float[Array, ""]], dim: int, planes: int = 4, seed: int = 0
) -> Constrained:
    r"""Minimize a loss where the unit sphere meets planes through a random point of it.

    $$ A (x - p) = 0, \qquad \tfrac12 (\lVert x \rVert^2 - 1) = 0, \qquad \lVert p \rVert = 1 $$

    Starts are random vectors of a length of about 1, which meet none of the constraints.

    Arguments:
        loss: Of a vector.
        dim: d, more than ``planes`` + 1.
        planes: Rows of A, at least 1.
        seed: Of A and p.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("planes", planes, 1)
    in_range("dim", dim, planes + 2)
    rng = np.random.default_rng(seed)
    rows, point = rng.standard_normal((planes, dim)) / np.sqrt(dim), rng.standard_normal(dim)
    normal, place = jnp.asarray(rows, float), jnp.asarray(point / np.linalg.norm(point), float)

    def constraint(x: Float[Array, " d"]) -> Float[Array, " m"]:
        return jnp.append(normal @ (x - place), (x @ x - 1) / 2)

    def start(key: PRNGKeyArray) -> Float[Array, " d"]:
        return jr.normal(key, (dim,)) / dim**0.5

    return Constrained(loss, constraint, start)
