"""Pytrees as vectors: norms, differences, and the flat form that dense linear algebra takes."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from attractor.gradients import split_complex


def norm(tree: PyTree) -> Float[Array, ""]:
    """Euclidean norm of all the array leaves of a pytree together."""
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return jnp.sqrt(sum((jnp.sum(jnp.abs(leaf) ** 2) for leaf in leaves), start=jnp.zeros(())))


def wide_dtype(tree: PyTree) -> jnp.dtype:
    """The real dtype of sums over a pytree's parameters: their common one, but never less than single precision."""
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return jnp.finfo(jnp.result_type(jnp.float32, *(leaf.dtype for leaf in leaves))).dtype


def as_vector(x: PyTree) -> tuple[Float[Array, " d"], Callable[[Float[Array, " d"]], PyTree]]:
    """A pytree's parameters as one vector, and the way back, for methods that solve dense systems.

    The vector has the leaves' common dtype, but never less than single precision, in which no decomposition works.
    A complex array is in it as its real part and then its imaginary part.

    Arguments:
        x: Pytree of floating-point or complex arrays.
    """
    real, restore = split_complex(x)
    flat, unravel = ravel_pytree(real)
    return flat.astype(jnp.promote_types(flat.dtype, jnp.float32)), lambda z: restore(unravel(z.astype(flat.dtype)))


def difference(a: PyTree, b: PyTree) -> PyTree:
    """``a - b``, leaf by leaf."""
    return jax.tree.map(jnp.subtract, a, b)
