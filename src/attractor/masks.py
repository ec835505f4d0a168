"""Functions of a whole tree of parameters, asked about the part that `optax.masked` or `optax.partition` leaves.

These wrappers put an `optax.MaskedNode` where a leaf, or a subtree, is not theirs. A transformation inside them asks
the problem's oracles about such a tree; what is masked there stands still.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def fill(part: PyTree, whole: PyTree) -> PyTree:
    """``part``, with what is masked there taken from ``whole``."""
    return jax.tree.map(lambda p, w: w if _is_masked(p) else p, part, whole, is_leaf=_is_masked)


def mask_like(whole: PyTree, part: PyTree) -> PyTree:
    """``whole``, masked where ``part`` is; it may be masked there already."""
    return jax.tree.map(lambda p, w: p if _is_masked(p) else w, part, whole, is_leaf=_is_masked)


def of_parts(function: Callable[[PyTree], Any], x: PyTree) -> Callable[[PyTree], Any]:
    """``function`` of trees like ``x``, for parts of them too: what is masked there is as in ``x``."""
    return lambda part: function(fill(part, x))


def operator_on_parts(matvec: Callable[[PyTree], PyTree], x: PyTree) -> Callable[[PyTree], PyTree]:
    """A linear map of trees like ``x``, for parts of them too: its diagonal block of what is not masked."""

    def on_part(part: PyTree) -> PyTree:
        def still(p: Any, w: PyTree) -> PyTree:
            return jax.tree.map(jnp.zeros_like, w) if _is_masked(p) else p

        return mask_like(matvec(jax.tree.map(still, part, x, is_leaf=_is_masked)), part)

    return on_part
