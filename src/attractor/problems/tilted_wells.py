"""Two wells with a saddle between them, which agents see each in their own way."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attractor.checks import in_range
from attractor.problem import Federated


def tilted_wells(agents: int = 10, tilt: float = 0.5) -> Federated:
    r"""Agents with two wells, a strict saddle between them and a kink, each tilted its own way; the tilts cancel.

    $$ f_i(x) = (x_1^2 - 1)^2 / 4 + x_2^2 / 2 + |x_3| + t_i^\top (x_2, x_3) $$

    The mean has minima at (±1, 0, 0) and the saddle 0, on whose stable manifold, at (0, 1, 1), all begin.

    Arguments:
        agents: At least 2.
        tilt: Size of the tilts, in [0, 1).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("agents", agents, 2)
    in_range("tilt", tilt, 0.0, 1.0, open_high=True)
    angles = 2 * np.pi * np.arange(agents) / agents
    tilts = tilt * np.stack([np.cos(angles), np.sin(angles)], -1)
    return Federated(_tilted_well, jnp.asarray([0.0, 1.0, 1.0]), tilts[:, None], optimum=0.0)


def _tilted_well(x: Float[Array, " 3"], tilts: Float[Array, "m 2"]) -> Float[Array, ""]:
    return (x[0] ** 2 - 1) ** 2 / 4 + x[1] ** 2 / 2 + jnp.abs(x[2]) + tilts.mean(0) @ x[1:]
