"""Learning rates over time, as optax schedules."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from attractor.checks import in_range

Scalar = float | Float[Array, ""]


def inverse_power_schedule(learning_rate: Scalar, power: Scalar = 0.5) -> optax.Schedule:
    r"""$\eta_t = \eta / t^p$ for t = 1, 2, …, whatever the horizon.

    Arguments:
        learning_rate: The first rate eta, in (0, inf).
        power: p, in [0, inf): 1/2 suits convex losses; 1, with a rate of one over the modulus, strongly convex ones.

    Raises:
        ValueError: for an argument out of range.

    Paper: Revisiting the Last-Iterate Convergence of Stochastic Gradient Methods.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("power", power, 0.0)
    return lambda count: learning_rate / (count + 1.0) ** power


def last_iterate_schedule(learning_rate: Scalar, steps: Scalar) -> optax.Schedule:
    r"""$\eta_t = \eta (T - t + 1) / T^{3/2}$ for t = 1 … T, and 0 after: a line to zero.

    Under it the last point of stochastic subgradient descent is as good as an average: its error on convex Lipschitz
    losses is of order $1 / \sqrt T$, without a logarithm of T.

    Arguments:
        learning_rate: eta, in (0, inf); best near the distance to the minimizer over the size of gradients.
        steps: The horizon T, at least 1; may be a float, so that horizons can be swept in one program.

    Raises:
        ValueError: for an argument out of range.

    Paper: Revisiting the Last-Iterate Convergence of Stochastic Gradient Methods.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("steps", steps, 1.0)
    return lambda count: learning_rate * jnp.maximum(steps - count, 0.0) / (steps * jnp.sqrt(steps))
