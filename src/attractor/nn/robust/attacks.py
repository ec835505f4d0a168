"""Adversarial inputs: the worst small change to an example that can be found by following gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attractor.checks import Count, Scalar, in_range


def pgd_attack(
    loss: Callable[[Float[Array, "..."]], Float[Array, ""]],
    x: Float[Array, "..."],
    radius: float | Float[Array, "..."],
    steps: Count = 20,
    step_size: Scalar = 0.25,
) -> Float[Array, "..."]:
    r"""Projected gradient ascent over a box around the inputs; with one step of size 1 it is the fast gradient sign.

    $$ x' \leftarrow \operatorname{clip}(x' + \eta r \operatorname{sign} \nabla \ell(x'),\; x - r,\; x + r) $$

    Arguments:
        loss: A scalar function of all inputs together, such as the sum over examples.
        x: Inputs.
        radius: Half width r of the box, in [0, inf), a number or broadcastable to ``x`` (0: not to be changed).
        steps: At least 1.
        step_size: $\eta$, in units of the radius, in (0, inf).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("radius", radius, 0.0)
    in_range("steps", steps, 1.0)
    in_range("step_size", step_size, 0.0, open_low=True)

    def ascend(_: Array, moved: Array) -> Array:
        return jnp.clip(moved + step_size * radius * jnp.sign(jax.grad(loss)(moved)), x - radius, x + radius)

    return jax.lax.fori_loop(0, steps, ascend, x)
