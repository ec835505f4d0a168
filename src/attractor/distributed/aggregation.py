"""Rules that make one vector of many, some of which may lie. Each is a function ``(received, own) -> vector``."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attractor.checks import in_range

Received = Float[Array, "n d"]
Vector = Float[Array, " d"]
Aggregator = Callable[[Received, Vector], Vector]


def mean(received: Received, own: Vector) -> Vector:
    """The average: best without faults, moved anywhere by a single one."""
    return received.mean(0)


def coordinate_median(received: Received, own: Vector) -> Vector:
    """The median of every coordinate."""
    return jnp.median(received, axis=0)


def trimmed_mean(faulty: int) -> Aggregator:
    """In every coordinate, the mean without the ``faulty`` largest and the ``faulty`` smallest numbers.

    Arguments:
        faulty: How many may lie, at least 0 and fewer than half of the vectors.

    Raises:
        ValueError: if ``faulty`` is negative; when it is used, if the vectors are too few.
    """
    in_range("faulty", faulty, 0)
    return eqx.Partial(_trimmed_mean, faulty)


def krum(faulty: int) -> Aggregator:
    """The vector nearest to its n - faulty - 2 nearest others, by the sum of squared distances.

    Arguments:
        faulty: How many may lie, at least 0 and fewer than (n - 2) / 2.

    Raises:
        ValueError: if ``faulty`` is negative; when it is used, if the vectors are too few.
    """
    in_range("faulty", faulty, 0)
    return eqx.Partial(_krum, faulty)


def geometric_median(iterations: int = 8, smoothing: float = 1e-6) -> Aggregator:
    """The point with the smallest sum of distances, by Weiszfeld's steps from the mean.

    Arguments:
        iterations: Steps, at least 1.
        smoothing: Distances count as at least this, > 0.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("iterations", iterations, 1)
    in_range("smoothing", smoothing, 0.0, open_low=True)
    return eqx.Partial(_geometric_median, iterations, smoothing)


def nearest_neighbors(faulty: int) -> Aggregator:
    r"""The mean of the n - faulty vectors nearest to one's own.

    Of honest vectors with variance V around their mean it makes ones whose variance, and the square by which their mean
    has moved, add up to at most $8 f V / (n - f)$, whatever f others send, and to each one something else: a liar that
    is taken is nearer than an honest vector that is not.

    Arguments:
        faulty: How many may lie, at least 0 and fewer than half of the vectors.

    Raises:
        ValueError: if ``faulty`` is negative; when it is used, if the vectors are too few.
    """
    in_range("faulty", faulty, 0)
    return eqx.Partial(_nearest_neighbors, faulty)


def _bears(rule: str, faulty: int, n: int, most: int) -> None:
    if faulty > most:
        raise ValueError(
            f"faulty: {rule} of {n} vectors bears 0 … {max(most, 0)} faulty ones, got {faulty}; take more clients"
        )


def _trimmed_mean(faulty: int, received: Received, own: Vector) -> Vector:
    n = len(received)
    _bears("trimmed_mean", faulty, n, (n - 1) // 2)
    return jnp.sort(received, axis=0)[faulty : n - faulty].mean(0)


def _krum(faulty: int, received: Received, own: Vector) -> Vector:
    n = len(received)
    _bears("krum", faulty, n, (n - 3) // 2)
    apart = jax.vmap(lambda v: jnp.sum((received - v) ** 2, -1))(received)
    near = jnp.sort(apart, axis=1)[:, 1 : n - faulty - 1]  # the first is the vector itself
    return received[jnp.argmin(near.sum(1))]


def _geometric_median(iterations: int, smoothing: float, received: Received, own: Vector) -> Vector:
    def step(_: Array, point: Vector) -> Vector:
        weights = 1 / jnp.maximum(jnp.linalg.norm(received - point, axis=-1), smoothing)
        return (weights / weights.sum()) @ received

    return jax.lax.fori_loop(0, iterations, step, received.mean(0))


def _nearest_neighbors(faulty: int, received: Received, own: Vector) -> Vector:
    n = len(received)
    _bears("nearest_neighbors", faulty, n, (n - 1) // 2)
    _, index = jax.lax.top_k(-jnp.sum((received - own) ** 2, -1), n - faulty)
    # Weights instead of received[index]: a product with a matrix, for all nodes at once.
    return jnp.zeros(n, received.dtype).at[index].set(1 / (n - faulty)) @ received
