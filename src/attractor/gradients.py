r"""Gradients along which a function grows fastest, complex parameters included.

For a real function of $z = a + ib$, `jax.grad` gives $\partial_a f - i\,\partial_b f$: the conjugate of the direction
of steepest ascent, so that a step against it circles or diverges. The functions here give $\partial_a f +
i\,\partial_b f$, and are `jax.grad` and its kin for real parameters.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree


def conjugate(tree: PyTree) -> PyTree:
    """The complex conjugate of a pytree; its real leaves are left as they are."""
    return jax.tree.map(lambda leaf: jnp.conj(leaf) if jnp.iscomplexobj(leaf) else leaf, tree)


def grad(function: Callable[..., Array], argnums: int | tuple[int, ...] = 0) -> Callable[..., PyTree]:
    """The direction of steepest ascent of a real function, as a function of the same arguments.

    Arguments:
        function: Gives a real scalar.
        argnums: Which arguments to differentiate.
    """
    raw = jax.grad(function, argnums)
    return lambda *args: conjugate(raw(*args))


def value_and_grad(function: Callable[..., Array]) -> Callable[..., tuple[Array, PyTree]]:
    """The value of a real function and its `grad` in the first argument."""
    raw = jax.value_and_grad(function)

    def both(*args: Any) -> tuple[Array, PyTree]:
        value, slope = raw(*args)
        return value, conjugate(slope)

    return both


def adjoint(linear: Callable[[PyTree], PyTree], like: PyTree) -> Callable[[PyTree], PyTree]:
    r"""The adjoint $A^*$ of a linear map: $\mathrm{Re} \langle A^* w, v \rangle = \mathrm{Re} \langle w, A v \rangle$.

    Arguments:
        linear: ``v -> Av``, linear over the reals.
        like: A pytree of the structure, shapes and dtypes of ``v``.
    """
    transpose = jax.linear_transpose(linear, like)
    return lambda w: conjugate(transpose(conjugate(w))[0])


def split_complex(tree: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """Every complex leaf as a pair of real ones, (real part, imaginary part), and the way back.

    The gradient and the Hessian of a real function of the pairs are the pairs of its `grad` and of the products
    with its Hessian, so that what is written for real vectors holds for complex ones.
    """
    leaves, structure = jax.tree.flatten(tree)
    is_complex = [jnp.iscomplexobj(leaf) for leaf in leaves]
    if not any(is_complex):
        return tree, lambda real: real
    pairs = [
        (jnp.real(leaf), jnp.imag(leaf)) if split else leaf for leaf, split in zip(leaves, is_complex, strict=True)
    ]

    def join(real: list[Any]) -> PyTree:
        joined = [lax.complex(*leaf) if split else leaf for leaf, split in zip(real, is_complex, strict=True)]
        return jax.tree.unflatten(structure, joined)

    return pairs, join


def refuse_complex(method: str, tree: PyTree, what: str = "parameters") -> None:
    """Raise a `TypeError` that names ``method`` if any leaf is complex.

    Arguments:
        method: What is written for real numbers only.
        tree: What it was given.
        what: What that is, in the plural.
    """
    if any(jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating) for leaf in jax.tree.leaves(tree)):
        raise TypeError(
            f"complex {what}: {method} is for real ones; give it the real and the imaginary part as two arrays"
        )
