"""Learning rates over a known number of steps, by the names that `attractor.registry.scheduled` takes."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike

from attractor.checks import Scalar, in_range


def warmup_stable_decay_schedule(
    learning_rate: Scalar, steps: Scalar, decay_share: Scalar = 0.2, warmup_share: Scalar = 0.05
) -> optax.Schedule:
    r"""Up to a rate in a straight line, there for most of the steps, and down to zero in a straight line.

    $$ \eta_t = \eta \min\Bigl(1, \frac{t}{w T}, \frac{T - t + 1}{d T}\Bigr), \qquad t = 1 \dots T $$

    Where warm-up and decay overlap, the lower one counts. All may be traced: no value compiles a program of its own.

    Arguments:
        learning_rate: $\eta$, in [0, inf).
        steps: T, at least 1.
        decay_share: d, in (0, 1]; 1 is a line to zero over all steps.
        warmup_share: w, in [0, 1].

    Raises:
        ValueError: for an argument out of range.

    Paper: MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training Strategies (2404.06395).
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("steps", steps, 1.0)
    in_range("decay_share", decay_share, 0.0, 1.0, open_low=True)
    in_range("warmup_share", warmup_share, 0.0, 1.0)

    def schedule(count: ArrayLike) -> Array:  # optax counts from 0
        up = (jnp.asarray(count) + 1) / jnp.maximum(warmup_share * steps, 1)
        down = (steps - jnp.asarray(count)) / (decay_share * steps)
        return learning_rate * jnp.clip(jnp.minimum(up, down), 0, 1)

    return schedule


def _constant(learning_rate: Scalar, steps: Scalar) -> optax.Schedule:
    return optax.constant_schedule(learning_rate)


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": _constant,
    "cosine": optax.cosine_decay_schedule,
    "wsd": warmup_stable_decay_schedule,
}
