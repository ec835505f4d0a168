"""Learning rates over time, as optax schedules."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float

from attractor.checks import Scalar, in_range


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


def uba_schedule(learning_rate: Scalar, steps: Scalar, phi: Scalar = 2.0, end_value: Scalar = 0.0) -> optax.Schedule:
    r"""From one rate to another over a fixed budget of steps, on a curve whose bend is a single number.

    $$
    \eta_t = \eta_{\min} + (\eta_{\max} - \eta_{\min})
    \frac{2 (1 + \cos(\pi t / T))}{2 \varphi + (2 - \varphi)(1 + \cos(\pi t / T))}
    = \eta_{\min} + \frac{\eta_{\max} - \eta_{\min}}{1 + \frac\varphi2 \tan^2(\pi t / 2T)}
    $$

    $\varphi = 2$ is cosine decay, more falls faster, less holds the first rate longer. With the rates $1 / \ell$ and
    $1 / u$, $\varphi = 2 u / \ell$ and t at the midpoints $\frac12, \frac32, \dots, T - \frac12$ these are the
    Chebyshev steps, which contract best in the worst case over quadratics with curvature in $[\ell, u]$: the number
    stands for a condition number. Counts may be fractional.

    Arguments:
        learning_rate: $\eta_{\max}$, the rate at t = 0, in (0, inf).
        steps: The budget T, in (0, inf); may be a float, so that budgets can be swept in one program.
        phi: $\varphi$, in (0, inf).
        end_value: $\eta_{\min}$, the rate at t = T and after, in [0, inf).

    Raises:
        ValueError: for an argument out of range.

    Paper: Stepsize anything: A unified learning rate schedule for budgeted-iteration training.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("steps", steps, 0.0, open_low=True)
    in_range("phi", phi, 0.0, open_low=True)
    in_range("end_value", end_value, 0.0)

    def schedule(count: ArrayLike) -> Float[Array, "..."]:
        half = jnp.pi / 2 * jnp.minimum(count / steps, 1.0)
        cos2, sin2 = jnp.cos(half) ** 2, jnp.sin(half) ** 2
        return end_value + (learning_rate - end_value) * cos2 / (cos2 + phi / 2 * sin2)

    return schedule
