"""Second-order conditions: is a stationary point of a minimax problem a local minimax point?"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from attractor.checks import in_range


class Curvatures(NamedTuple):
    """What decides whether a stationary point is a local minimax point.

    Attributes:
        maximizer: Largest eigenvalue of $f_{yy}$; necessary: at most 0.
        minimizer: Smallest eigenvalue of the restricted Schur complement; necessary: at least 0. Infinite if there is
            no direction that it is restricted to, so that nothing is asked of x.
    """

    maximizer: Float[Array, ""]
    minimizer: Float[Array, ""]


def local_minimax_curvatures(
    payoff: Callable[[PyTree, PyTree], Array], x: PyTree, y: PyTree, tolerance: float = 1e-5
) -> Curvatures:
    r"""The two curvatures whose signs say whether a stationary point can be a local minimax point.

    $$ f_{yy} \preceq 0, \qquad S = U^\top (f_{xx} - f_{xy} f_{yy}^+ f_{yx})\, U \succeq 0 $$

    where the columns of U are an orthonormal basis of $\{v : f_{yx} v \in \mathrm{range}(f_{yy})\}$: along all
    other directions the maximizer gains to first order, whatever x does. For an invertible $f_{yy}$, U = I and S
    is the ordinary Schur complement.

    Arguments:
        payoff: ``payoff(x, y) -> scalar``, minimized over x and maximized over y, such as ``game.payoff``.
        x: The minimizer's stationary point.
        y: The maximizer's.
        tolerance: Eigenvalues of $f_{yy}$ and singular values of its kernel's coupling to x count as 0 up to
            this share, in [0, 1), of the norm of the whole Hessian.

    Raises:
        ValueError: if ``tolerance`` is outside [0, 1).

    Paper: Two-timescale Extragradient for Finding Local Minimax Points (Chae, Kim and Kim, 2024)
    """
    in_range("tolerance", tolerance, 0.0, 1.0, open_high=True)
    flat_x, restore_x = ravel_pytree(x)
    flat, restore = ravel_pytree((flat_x, ravel_pytree(y)[0]))
    restore_y = ravel_pytree(y)[1]

    def flat_payoff(z: Float[Array, " d"]) -> Array:
        for_x, for_y = restore(z)
        return payoff(restore_x(for_x), restore_y(for_y))

    hessian, n = jax.hessian(flat_payoff)(flat), flat_x.size
    f_xx, f_xy, f_yy = hessian[:n, :n], hessian[:n, n:], hessian[n:, n:]
    zero = tolerance * jnp.linalg.norm(hessian)

    # Ranks depend on the numbers, so that bases are whole and masked: this compiles, and works as a probe.
    curvature, basis = jnp.linalg.eigh(f_yy)
    singular = jnp.abs(curvature) <= zero
    coupling = f_xy @ basis
    inverse = jnp.where(singular, 0.0, 1.0 / jnp.where(singular, 1.0, curvature))
    schur = f_xx - (coupling * inverse) @ coupling.T

    _, strength, directions = jnp.linalg.svd(jnp.where(singular, coupling, 0.0).T, full_matrices=True)
    allowed = jnp.zeros(n).at[: strength.size].set(strength) <= zero
    restricted = directions @ schur @ directions.T
    restricted = jnp.where(allowed[:, None] & allowed, restricted, 0.0)
    out_of_the_way = jnp.where(allowed, 0.0, 1.0 + jnp.linalg.norm(restricted))
    smallest = jnp.linalg.eigvalsh(restricted + jnp.diag(out_of_the_way))[0]
    return Curvatures(curvature[-1], jnp.where(allowed.any(), smallest, jnp.inf))
