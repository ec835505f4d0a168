"""Spirals: classes that no straight line tells apart."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.checks import in_range


def three_spirals(key: PRNGKeyArray, count: int) -> tuple[Float[Array, "n 2"], Int[Array, " n"]]:
    """Points on three arms of one and a half turns within a radius of 2, and which arm each one is on.

    Arms take turns; radii are uniform by area, beyond 0.2; angles have a noise of 0.1.

    Arguments:
        key: Of radii and noise.
        count: n, at least 1.

    Raises:
        ValueError: if ``count`` is out of range.
    """
    in_range("count", count, 1)
    radius = jnp.sqrt(jr.uniform(key, (arm := jnp.arange(count) % 3).shape, minval=0.01))
    angle = 3 * jnp.pi * radius + arm * 2 * jnp.pi / 3 + 0.1 * jr.normal(jr.fold_in(key, 1), arm.shape)
    return (2 * radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])).T, arm
