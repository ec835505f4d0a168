"""Systems of equations whose zeros are degenerate: multiple roots, and zeros that are not isolated."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from attractor.objectives import Composite
from attractor.trees import norm

Point = Float[Array, " 2"]
ROOT = (0.3, -0.2)  # of `multiple_root_system`
MULTIPLICITY = {"double": 2, "triple": 3}
_SECOND = {"double": [0, 0, 1, 1, 0, 0], "triple": [0, 0, 0, 0, 1, 1]}


def multiple_root_system(name: str, perturbation: float = 0.0, seed: int = 0) -> Callable[[Point], Point]:
    """Two quadratic equations with a multiple root at `ROOT`, in coordinates rotated by half a radian around it.

    ``double``: (y - x², y + x²); ``triple``: (y - x², xy + y²).

    Arguments:
        name: One of `MULTIPLICITY`.
        perturbation: The norm of random numbers added to the 12 coefficients, in [0, inf); they break the root up.
        seed: Of these.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in _SECOND:
        raise ValueError(f"name: expected one of {', '.join(_SECOND)}, got {name!r}")
    coefficients = np.array([[0, 0, 1, -1, 0, 0], _SECOND[name]], float)
    if perturbation:
        noise = np.random.default_rng(seed).standard_normal((2, 6))
        coefficients += perturbation * noise / np.linalg.norm(noise)
    return eqx.Partial(_quadratics, jnp.asarray(coefficients))


def _quadratics(coefficients: Float[Array, "2 6"], x: Point) -> Point:
    x, y = jnp.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]]) @ (x - jnp.array(ROOT))
    return coefficients @ jnp.stack([jnp.ones(()), x, y, x**2, x * y, y**2])


# Residuals, starts by a uniform number, distance to the zeros.
_SETS = {
    "circle": (lambda x: jnp.array([x @ x - 1]), lambda u: 1.02 * jnp.array([jnp.cos(6 * u), jnp.sin(6 * u)]),
               lambda x: norm(x) - 1),
    "parabola": (lambda x: jnp.array([x[0] - x[1] ** 2, (x[0] - x[1] ** 2) ** 2 * jnp.exp(x[1])]),
                 lambda u: jnp.array([u**2 + 0.02, u]), lambda x: x[0] - x[1] ** 2),
    "double root": (lambda x: jnp.array([(x[0] + x[1]) ** 2, x[0] - x[1]]), lambda u: jnp.array([u, 1.0]), norm),
}  # fmt: skip


def degenerate_zeros(name: str) -> Composite:
    """Nonlinear least squares whose zeros fill a curve, or are a double root; records the ``distance`` to them.

    Arguments:
        name: ``circle``; ``parabola``, across which one curvature vanishes; or ``double root``.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in _SETS:
        raise ValueError(f"name: expected one of {', '.join(_SETS)}, got {name!r}")
    residuals, start, distance = _SETS[name]
    probe = {"distance": lambda problem, x, key: jnp.abs(distance(x))}
    return Composite.least_squares(residuals, lambda key: start(jr.uniform(key)), probes=probe)
