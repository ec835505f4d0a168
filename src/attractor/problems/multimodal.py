"""Functions with many local minima."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.problem import Minimization
from attractor.registry import problem


@problem("rastrigin", metric="loss", steps=500)
def rastrigin(dim: int = 2, radius: float = 5.12) -> Minimization:
    """Σ x² + 10 (1 - cos 2πx): minimum 0 at the origin, a local one near every other integer point (values from 1).

    Arguments:
        dim: Number of variables.
        radius: Starts are uniform in the cube [-radius, radius]^dim.

    Raises:
        ValueError: if ``dim`` < 1 or ``radius`` <= 0.
    """
    if dim < 1:
        raise ValueError(f"dim: expected a whole number >= 1, got {dim}")
    if not 0 < radius < jnp.inf:
        raise ValueError(f"radius: expected a finite number > 0, got {radius}")
    return Minimization(
        _rastrigin,
        eqx.Partial(_in_cube, dim, radius),
        optimum=0.0,
        solution=jnp.zeros(dim),
        constants={"L": 2 + 40 * jnp.pi**2},
    )


def _rastrigin(x: Float[Array, " d"]) -> Float[Array, ""]:
    return jnp.sum(x**2 + 10 * (1 - jnp.cos(2 * jnp.pi * x)))


def _in_cube(dim: int, radius: float, key: PRNGKeyArray) -> Float[Array, " d"]:
    return jr.uniform(key, (dim,), minval=-radius, maxval=radius)
