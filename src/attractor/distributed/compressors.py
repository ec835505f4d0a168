"""Compressors: what a client sends instead of a vector. Each is a function ``(vector, key) -> vector``."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range

Compressor = Callable[[Float[Array, " d"], PRNGKeyArray], Float[Array, " d"]]


def identity(vector: Float[Array, " d"], key: PRNGKeyArray) -> Float[Array, " d"]:
    """Send everything."""
    return vector


def top_k(fraction: float) -> Compressor:
    r"""Send the largest coordinates by size: $\|C(v) - v\|^2 \le (1 - \delta)\|v\|^2$ with δ = k/d.

    Arguments:
        fraction: Share of the coordinates that are sent, in (0, 1]: k = round(fraction · d), at least 1.

    Raises:
        ValueError: if ``fraction`` is outside (0, 1].
    """
    in_range("fraction", fraction, 0.0, 1.0, open_low=True)
    return eqx.Partial(_top_k, fraction)


def rand_k(fraction: float) -> Compressor:
    r"""Send random coordinates, as they are: $E\|C(v) - v\|^2 = (1 - \delta)\|v\|^2$ with δ = k/d.

    It is contractive and therefore biased; the unbiased variant would divide by δ.

    Arguments:
        fraction: As in `top_k`, in (0, 1].

    Raises:
        ValueError: if ``fraction`` is outside (0, 1].
    """
    in_range("fraction", fraction, 0.0, 1.0, open_low=True)
    return eqx.Partial(_rand_k, fraction)


def _top_k(fraction: float, vector: Float[Array, " d"], key: PRNGKeyArray) -> Float[Array, " d"]:
    return _only(vector, lax.top_k(jnp.abs(vector), _count(fraction, vector.size))[1])


def _rand_k(fraction: float, vector: Float[Array, " d"], key: PRNGKeyArray) -> Float[Array, " d"]:
    return _only(vector, jr.permutation(key, vector.size)[: _count(fraction, vector.size)])


def _count(fraction: float, size: int) -> int:
    return max(1, round(fraction * size))


def _only(vector: Float[Array, " d"], index: Array) -> Float[Array, " d"]:
    return jnp.zeros_like(vector).at[index].set(vector[index])
