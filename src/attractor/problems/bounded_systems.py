"""Systems of nonlinear equations whose unknowns have bounds: roots inside, on a bound and in a corner."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attractor.checks import in_range

Vector = Float[Array, " d"]


class BoundedSystem(NamedTuple):
    """Find x with F(x) = 0 and l <= x <= u."""

    residuals: Callable[[Vector], Vector]  # F
    lower: Float[np.ndarray, " d"]  # l
    upper: Float[np.ndarray, " d"]  # u


def bounded_systems(dim: int = 10) -> dict[str, BoundedSystem]:
    """Twelve systems by name, all of the same size, with a root within their bounds.

    Small ones are repeated; the combustion of propane stands twice, so that ``dim`` has to be a multiple of 10. Those
    that come from integral or differential equations have ``dim`` nodes. Some roots lie on a bound.

    Arguments:
        dim: d, a multiple of 10, at least 10.

    Raises:
        ValueError: for another size.
    """
    in_range("dim", dim, 10)
    if dim % 10:
        raise ValueError(f"dim: expected a multiple of 10, got {dim}")
    nodes = (jnp.arange(dim) + 1.0) / (dim + 1)
    kernel = jnp.minimum(nodes[:, None], nodes) * (1 - jnp.maximum(nodes[:, None], nodes))
    mu = (jnp.arange(dim) + 0.5) / dim
    transport = 0.99 / (2 * dim) * mu[:, None] / (mu[:, None] + mu)  # Chandrasekhar's, almost critical

    def neighbors(x: Array) -> tuple[Array, Array]:
        return jnp.pad(x[:-1], (1, 0)), jnp.pad(x[1:], (0, 1))

    def broyden(x: Array) -> Array:
        left, right = neighbors(x)
        return (3 - 2 * x) * x - left - 2 * right + 1

    def boundary_value(x: Array) -> Array:
        left, right = neighbors(x)
        return 2 * x - left - right + (x + nodes + 1) ** 3 / (2 * (dim + 1) ** 2)

    def integral(x: Array) -> Array:
        return x + kernel @ (x + nodes + 1) ** 3 / (2 * (dim + 1))

    def ferraris_tronconi(a: Array, b: Array) -> Array:
        rest = (1 - 0.25 / jnp.pi) * (jnp.exp(2 * a) - jnp.e) + jnp.e * b / jnp.pi - 2 * jnp.e * a
        return jnp.stack([0.5 * jnp.sin(a * b) - 0.25 * b / jnp.pi - 0.5 * a, rest])

    # Residuals and bounds (of the odd and of the even coordinates, where these differ).
    systems = {
        "Broyden tridiagonal": (broyden, -1.0, 0.0),
        "boundary value": (boundary_value, -0.5, 0.0),
        "integral equation": (integral, -0.5, 0.5),
        "root on the upper bound": (_pairs(lambda a, b: jnp.stack([10 * (b - a**2), 1 - a])), -3.0, 1.0),
        "root on the lower bound": (lambda x: x * (1 + jnp.roll(x, 1) ** 2), 0.0, 5.0),
        "root in a corner": (_pairs(lambda a, b: jnp.stack([a**2 + b - 1, a * b - b + a - 1])), 0.0, 1.0),
        "badly scaled": (
            _pairs(lambda a, b: jnp.stack([1e4 * a * b - 1, jnp.exp(-a) + jnp.exp(-b) - 1.0001])), 0.0, 10.0,
        ),
        "Himmelblau": (_pairs(lambda a, b: jnp.stack([a**2 + b - 11, a + b**2 - 7])), 0.0, 5.0),
        "Ferraris and Tronconi": (_pairs(ferraris_tronconi), (0.25, 1.5), (1.0, 2 * np.pi)),
        "almost linear": (lambda x: jnp.append(x[:-1] + x.sum() - dim - 1, x.prod() - 1), 0.0, 2.0),
        "propane": (lambda x: jnp.concatenate([_propane(y) for y in x.reshape(-1, 5)]), 0.0, 50.0),
        "transport": (lambda x: x - x * (transport @ x) - 1, 0.0, 10.0),
    }  # fmt: skip
    whole = lambda bound: np.tile(bound, dim // np.size(bound)).astype(float)  # noqa: E731
    return {name: BoundedSystem(f, whole(lower), whole(upper)) for name, (f, lower, upper) in systems.items()}


def _pairs(equations: Callable[[Array, Array], Array]) -> Callable[[Vector], Vector]:
    """Two equations of two unknowns, repeated: unknowns alternate, equations are listed one kind after the other."""
    return lambda x: equations(x[::2], x[1::2]).ravel()


def _propane(y: Float[Array, "5"]) -> Float[Array, "5"]:
    """Combustion of propane in air, the equilibrium of ten products reduced to five equations."""
    r5, r6, r7 = 0.193, 0.002597 / 40**0.5, 0.003448 / 40**0.5
    r8, r9, r10 = 0.00001799 / 40, 0.0002155 / 40**0.5, 0.00003846 / 40
    a, b, c, d, e = y
    return jnp.stack([
        a * b + a - 3 * e,
        2 * a * b + a + b * c**2 + r8 * b - 10 * e + 2 * r10 * b**2 + r7 * b * c + r9 * b * d,
        2 * b * c**2 + 2 * r5 * c**2 - 8 * e + r6 * c + r7 * b * c,
        r9 * b * d + 2 * d**2 - 40 * e,
        a * (b + 1) + r10 * b**2 + b * c**2 + r8 * b + r5 * c**2 + d**2 - 1 + r6 * c + r7 * b * c + r9 * b * d,
    ])  # fmt: skip
