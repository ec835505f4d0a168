"""Adversarial inputs: the worst small change to an example that can be found by following gradients."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

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


def attacked(
    loss: Callable[[PyTree, PyTree], Float[Array, ""]],
    radius: float | Float[Array, "..."],
    steps: Count = 5,
    step_size: Scalar = 0.25,
) -> Callable[[PyTree, PyTree], Float[Array, ""]]:
    r"""A loss whose inputs are attacked first, against the very parameters that it is asked at.

    $$ x \mapsto \ell(x, a(x)), \qquad a(x) \approx \arg\max_{|a - b|_\infty \le r} \ell(x, a) $$

    for the batch b by `pgd_attack`. Its gradient is that of $\ell$ at the attacked inputs, which are held fixed.

    Arguments:
        loss: ``loss(x, batch)``; the first leaf of a batch are the inputs, such as the images of ``(images, labels)``.
        radius: Half width r of the box, in [0, inf), a number or broadcastable to the inputs.
        steps: Of the attack, at least 1.
        step_size: In units of the radius, in (0, inf).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("radius", radius, 0.0)
    in_range("steps", steps, 1.0)
    in_range("step_size", step_size, 0.0, open_low=True)
    return eqx.Partial(_attacked, loss, radius, steps, step_size)


def _attacked(
    loss: Callable, radius: float | Array, steps: Count, step_size: Scalar, x: PyTree, batch: PyTree
) -> Float[Array, ""]:
    (inputs, *rest), structure = jax.tree.flatten(batch)
    fixed = jax.lax.stop_gradient(x)

    def harm(moved: Array) -> Array:
        return loss(fixed, jax.tree.unflatten(structure, [moved, *rest]))

    box, size = jnp.asarray(radius, inputs.dtype), jnp.asarray(step_size, inputs.dtype)
    moved = jax.lax.stop_gradient(pgd_attack(harm, inputs, box, steps, size))
    return loss(x, jax.tree.unflatten(structure, [moved, *rest]))
