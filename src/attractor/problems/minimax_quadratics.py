"""Quadratic minimax problems with their Hessian blocks given: every local behavior of a smooth game."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.problem import Game
from attractor.registry import problem


@problem("degenerate-minimax", metric="distance", steps=1_000)
def degenerate_minimax(bend: float = 0.2, coupling: float = 1.0) -> Game:
    """min over x, max over y of -bend x²/2 + coupling xy: 0 is a local minimax point, though f_yy = 0 and f_xx < 0.

    Two-timescale descent-ascent is repelled from it at every step size; two-timescale extragradient converges to it
    if its step size exceeds bend / coupling².

    Arguments:
        bend: How concave the minimizer's own part is.
        coupling: Of the two players, not 0.
    """
    if not coupling:
        raise ValueError("coupling: expected a number other than 0, got 0")
    return minimax_quadratic([[-bend]], [[coupling]], [[0.0]])


def minimax_quadratic(f_xx: Any, f_xy: Any, f_yy: Any) -> Game:
    """min over x, max over y of x'f_xx x/2 + x'f_xy y + y'f_yy y/2, stationary at 0, from a normal start.

    Arguments:
        f_xx: Curvature of the minimizer, (n, n).
        f_xy: Coupling, (n, m).
        f_yy: Curvature of the maximizer, (m, m).

    Raises:
        ValueError: if the shapes do not fit together.
    """
    blocks = [jnp.asarray(block, dtype=float) for block in (f_xx, f_xy, f_yy)]
    shapes = [block.shape for block in blocks]
    if len(shapes[1]) != 2 or shapes[0] != (shapes[1][0],) * 2 or shapes[2] != (shapes[1][1],) * 2:
        raise ValueError(f"f_xx, f_xy, f_yy: expected shapes (n, n), (n, m), (m, m), got {shapes}")
    n, m = shapes[1]
    return Game.minimax(eqx.Partial(_payoff, *blocks), eqx.Partial(_start, n, m), solution=(jnp.zeros(n), jnp.zeros(m)))


def _payoff(
    f_xx: Float[Array, "n n"], f_xy: Float[Array, "n m"], f_yy: Float[Array, "m m"],
    x: Float[Array, " n"], y: Float[Array, " m"],
) -> Float[Array, ""]:  # fmt: skip
    return x @ f_xx @ x / 2 + x @ f_xy @ y + y @ f_yy @ y / 2


def _start(n: int, m: int, key: PRNGKeyArray) -> tuple[Array, Array]:
    for_x, for_y = jr.split(key)
    return jr.normal(for_x, (n,)), jr.normal(for_y, (m,))
