"""Small functions, some with a constraint, on which whole steps of Newton's method do well or run away."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

Plane = Float[Array, " 2"]


def unconstrained(x: Plane) -> Float[Array, " 0"]:
    """No constraint, in the form of one."""
    return jnp.zeros(0, x.dtype)


# By name a loss and a constraint that is to vanish; whole steps of Newton's method run away on the last two.
NEWTON_PROBLEMS: dict[str, tuple[Callable[[Plane], Array], Callable[[Plane], Array]]] = {
    "valley": (lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, unconstrained),
    "cubic valley": (lambda x: 10 * (x[1] - x[0] ** 3) ** 2 + (1 - x[0]) ** 2, unconstrained),
    "circle": (lambda x: x[0] + 2 * x[1], lambda x: jnp.array([x @ x - 1])),
    "roots": (lambda x: jnp.sqrt(1 + x[0] ** 2) + 2 * jnp.sqrt(1 + (x[1] - 0.5 * x[0]) ** 2), unconstrained),
    "arctangent": (lambda x: (x[0] - 1) ** 2 + x[1] ** 2, lambda x: jnp.array([jnp.arctan(2 * (x[1] - x[0]))])),
}
