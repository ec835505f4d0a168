"""Taking nonlinearities out of a network, channel by channel, and what depth is left."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from attractor.checks import Scalar, in_range


def nonlinearity_penalty(slopes: PyTree, power: Scalar = 0.5) -> Float[Array, ""]:
    r"""A prior for few nonlinear channels, $\sum_c |1 - a_c|^p$, of leaky rectifiers $\max(x, 0) + a_c \min(x, 0)$.

    A channel with $a_c = 1$ is linear; below p = 1 the pull towards it grows as it comes near, so that channels end
    linear or not (`freeze_linear` keeps the first). The slope at $a_c = 1$ is 0. The rectifier is
    `jax.nn.leaky_relu` with an array of slopes, which starts at 0 as a ReLU.

    Arguments:
        slopes: $a_c$, a pytree of arrays.
        power: p, in (0, 1].

    Raises:
        ValueError: if ``power`` is out of range.

    Paper: Nonlinear Advantage: Trained Networks Might Not Be As Complex as You Think.
    """
    in_range("power", power, 0.0, 1.0, open_low=True)

    def of(a: Array) -> Array:
        gap = jnp.abs(1 - a)
        return jnp.sum(jnp.where(gap > 0, jnp.where(gap > 0, gap, 1) ** power, 0))

    return jnp.sum(jnp.stack([of(a) for a in jax.tree.leaves(slopes)]))


class Linearized(NamedTuple):
    """Slopes of channels, and which of them are linear for good.

    Attributes:
        slopes: Like the slopes that were given.
        frozen: Of the same structure, booleans.
    """

    slopes: PyTree
    frozen: PyTree


def freeze_linear(slopes: PyTree, frozen: PyTree, tolerance: Scalar = 0.01) -> Linearized:
    """Set slopes within a tolerance of 1 to 1 exactly, and keep those there that once were; to call after every step.

    Arguments:
        slopes: Pytree of arrays, as an optimizer left them.
        frozen: Which are linear already, booleans of the same structure.
        tolerance: Distance from 1, in [0, inf).

    Raises:
        ValueError: if ``tolerance`` is out of range.

    Paper: Nonlinear Advantage: Trained Networks Might Not Be As Complex as You Think.
    """
    in_range("tolerance", tolerance, 0.0)
    now = jax.tree.map(lambda a, done: done | (jnp.abs(1 - a) <= tolerance), slopes, frozen)
    return Linearized(jax.tree.map(lambda a, done: jnp.where(done, 1, a).astype(a.dtype), slopes, now), now)


def average_path_length(
    nonlinear: Sequence[Bool[Array, " _"]], skipped: Scalar | Float[Array, " layers"] = 0.0
) -> Float[Array, ""]:
    r"""The mean number of nonlinear units on a path through a stack of layers, its effective depth.

    $$ \sum_l (1 - q_l)\, \frac{1}{n_l} \sum_c \nu_{lc} $$

    where a path takes each of a layer's $n_l$ channels alike, and goes around the layer with probability $q_l$: 0 in a
    plain stack, in which a network of rectifiers has its number of layers, and 1/2 beside a residual connection
    (the normalized count, which does not weigh a branch by how many paths lead through it).

    Arguments:
        nonlinear: $\nu$, for each layer whether its channels are still nonlinear.
        skipped: q, one for all layers or one each, in [0, 1].

    Raises:
        ValueError: without layers, or if ``skipped`` is out of range.

    Paper: Nonlinear Advantage: Trained Networks Might Not Be As Complex as You Think.
    """
    if not len(nonlinear):
        raise ValueError("nonlinear: expected at least one layer, got none")
    in_range("skipped", skipped, 0.0, 1.0)
    return jnp.sum((1 - skipped) * jnp.stack([jnp.mean(layer * 1.0) for layer in nonlinear]))
