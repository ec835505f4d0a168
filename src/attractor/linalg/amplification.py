"""Amplitude amplification: what a quantum computer would sample, by simulation of its state."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


class Amplified(NamedTuple):
    """What a measurement gives after amplification."""

    probabilities: Float[Array, " n"]  # of each item, together with the flag that says "prepared"
    failure: Float[Array, ""]  # probability of the other flag
    iterations: Int[Array, ""]  # each one asks the oracle twice: once forward, once back


def rotations_needed(success: Float[Array, ""]) -> Int[Array, ""]:
    r"""The fewest rotations k that bring a success probability p to 1: $k = \lceil \pi / (4 \arcsin \sqrt p) - 1/2
    \rceil$.

    Arguments:
        success: p, in (0, 1].
    """
    angle = jnp.arcsin(jnp.sqrt(jnp.clip(success, 0.0, 1.0)))
    # A hair less than the quotient, as rounding must not add a rotation where p is 1.
    return jnp.ceil(jnp.pi / (4 * angle) - 0.5 - 1e-5).astype(int)


def amplified_sampling(amplitudes: Float[Array, " n"], iterations: Int[Array, ""] | int | None = None) -> Amplified:
    r"""Sample items with probability proportional to $a_i^2$ by exact amplitude amplification.

    A flag qubit is rotated by the oracle's amplitude, $\frac{1}{\sqrt n} \sum_i \lvert i \rangle (a_i \lvert 1 \rangle
    + \sqrt{1 - a_i^2} \lvert 0 \rangle)$; each iteration flips the sign of flag 1 and then reflects about that state.
    Here the vector of its 2n real amplitudes is computed. With $p = \frac1n \sum_i a_i^2$, the number of iterations is
    `rotations_needed`, of order $p^{-1/2}$, where rejection takes $1 / p$ attempts on average. All $a_i$ are first
    scaled down a little, so that the last iteration ends on flag 1 without a remainder. On a quantum computer p would
    have to be estimated first, at a cost of the same order.

    Arguments:
        amplitudes: $a_i$ in [0, 1], not all zero, shape ``(n,)``.
        iterations: `None`: as many as needed; a number: exactly so many, without scaling.
    """
    success = jnp.mean(amplitudes**2)
    if iterations is None:
        iterations = rotations_needed(success)
        amplitudes = amplitudes * jnp.sin(jnp.pi / (4 * iterations + 2)) / jnp.sqrt(success)
    count = jnp.asarray(iterations)
    start = jnp.stack([jnp.sqrt(jnp.clip(1 - amplitudes**2, 0.0)), amplitudes], 1) / len(amplitudes) ** 0.5

    def iterate(_: Array, state: Array) -> Array:
        flipped = state * jnp.array([1.0, -1.0])
        return 2 * jnp.sum(start * flipped) * start - flipped

    measured = lax.fori_loop(0, count, iterate, start) ** 2
    return Amplified(measured[:, 1], measured[:, 0].sum(), count)
