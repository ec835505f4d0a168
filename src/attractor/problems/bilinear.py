"""The bilinear game, the smallest one on which following your own gradient does not work, and a nonlinear one."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
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


def leaving_players(key: PRNGKeyArray, dim: int, away: float = 0.3) -> Game:
    r"""A coupled game in which each player alone would leave the equilibrium 0, and the other's answer holds it.

    $$ \min_x \max_y\; x^\top C y - a \sum_i \log 2\cosh x_i + a \sum_i \log 2\cosh y_i $$

    C is random with singular values from 1 to 2. Descent-ascent is repelled from 0 at every step size.

    Arguments:
        key: What C is drawn with.
        dim: Size of each player's vector, at least 1.
        away: a, in [0, 1): how strongly they leave.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("dim", dim, 1)
    in_range("away", away, 0.0, 1.0, open_high=True)
    left, right = (jnp.linalg.qr(jr.normal(k, (dim, dim)))[0] for k in jr.split(key))
    coupling, zero = left * jnp.linspace(1.0, 2.0, dim) @ right, jnp.zeros(dim)
    return Game.minimax(eqx.Partial(_leaving, coupling, away), eqx.Partial(_start, dim), solution=(zero, zero))


def _leaving(coupling: Float[Array, "d d"], away: Any, x: Float[Array, " d"], y: Float[Array, " d"]) -> Array:
    return x @ coupling @ y + away * jnp.sum(jnp.logaddexp(y, -y) - jnp.logaddexp(x, -x))
