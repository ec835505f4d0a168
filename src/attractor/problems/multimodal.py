"""Functions with many local minima."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
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


def quartic_saddle(up: int = 10, down: int = 5, slope: float = 1e-4) -> Minimization:
    r"""A flat saddle at 0 between minima about 1 away from it; starts are normal, 0.01 large; records the ``distance``.

    $$ f(x) = \tfrac12 \sum_i h_i x_i^2 + \tfrac{s}{4} \sum_i x_i^4 $$

    with h from 0.01 to 1 in some dimensions, and -s in the others.

    Arguments:
        up: Dimensions of positive curvature, at least 1.
        down: Dimensions of negative curvature, at least 1.
        slope: s, in (0, inf).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("up", up, 1)
    in_range("down", down, 1)
    in_range("slope", slope, 0.0, open_low=True)
    curvature = jnp.concatenate([jnp.geomspace(1e-2, 1.0, up), jnp.full(down, -slope)])
    distance = {"distance": lambda problem, x, key: jnp.linalg.norm(x)}

    def loss(x: Float[Array, " d"], batch: None = None) -> Float[Array, ""]:
        return 0.5 * jnp.sum(curvature * x**2) + 0.25 * slope * jnp.sum(x**4)

    return Minimization(loss, lambda key: 1e-2 * jr.normal(key, (up + down,)), probes=distance)


def coupled_double_wells(x: Float[Array, " d"], batch: None = None) -> Float[Array, ""]:
    r"""$\sum_i x_i^4 / 4 - x_i^2 / 2 + 0.05 \sum_i x_i x_{i+1}$: minima where all $|x_i|$ are near 1, saddles where
    some vanish."""
    return jnp.sum(0.25 * x**4 - 0.5 * x**2) + 0.05 * jnp.sum(x[1:] * x[:-1])
