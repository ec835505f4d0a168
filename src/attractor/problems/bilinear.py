"""The bilinear game: the smallest one on which following your own gradient does not work."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.problem import Game
from attractor.registry import problem


@problem("bilinear-game", metric="distance", steps=1_000)
def bilinear_game(dim: int = 1) -> Game:
    """min over x, max over y of x'y: equilibrium 0; gradient descent-ascent spirals outward, extragradient inward.

    Arguments:
        dim: Size of each player's vector.
    """
    if dim < 1:
        raise ValueError(f"dim: expected a whole number >= 1, got {dim}")
    zero = jnp.zeros(dim)
    return Game.minimax(_inner, eqx.Partial(_start, dim), solution=(zero, zero))


def _inner(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
    return x @ y


def _start(dim: int, key: PRNGKeyArray) -> tuple[Array, Array]:
    for_x, for_y = jr.split(key)
    return jr.normal(for_x, (dim,)), jr.normal(for_y, (dim,))
