"""Where a number that is not finite comes from: the first operation that makes one of finite numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from attractor.diagnosis.state.interpreter import Equation, interpret
from attractor.diagnosis.state.layers import dotted


def origin(loss: Callable[[PyTree, PyTree], Float[Array, ""]], params: PyTree, batch: PyTree) -> str:
    """The operation at which the loss, or else its gradient, stops being finite, such as ``log at model.py:31 (loss)``.
    Where the loss is finite and its gradient is not: ``div in the gradient of model.py:31 (loss)``.

    The function and its gradient are evaluated equation by equation, scans turn by turn. A number that is not finite
    carries the name of the operation that made it of finite ones; what arrives at the end is the answer, so that an
    infinity which a mask takes out again is not blamed. Infinities that were written down (the minus infinity of an
    attention mask) are blamed only for what they become.

    Arguments:
        loss: ``(params, batch) -> scalar``.
        params: Pytree of floating-point arrays.
        batch: Pytree of arrays.

    Returns:
        The operation and its place; a parameter or a part of the batch, by name, that was not finite to begin with;
        the empty string where all is finite.
    """
    inputs, structure = jax.tree.flatten((params, batch))
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path((params, batch))[0]]
    tags = [_given(path, leaf) if _bad(leaf) else None for path, leaf in zip(paths, inputs, strict=True)]

    def flat(*leaves: Any) -> Any:
        return jax.value_and_grad(lambda p, b: loss(p, b))(*jax.tree.unflatten(structure, leaves))

    closed = jax.make_jaxpr(flat)(*inputs)
    outputs, found = interpret(closed, inputs, tags, _rule, unroll=True)
    for i, (value, tag) in enumerate(zip(outputs, found, strict=True)):
        if _bad(value):
            tag = tag or "an infinity that is written in the loss"
            return tag if i == 0 else tag.replace(" at ", " in the gradient of ", 1)
    return ""


def _rule(
    equation: Equation, inputs: Sequence[Any], tags: Sequence[Any], outputs: Sequence[Any], found: Sequence[Any] | None
) -> Sequence[Any]:
    if found is not None:
        return found
    bad = [_bad(x) for x in outputs]
    if not any(bad):
        return [None] * len(outputs)
    ill = [(tag, x) for tag, x in zip(tags, inputs, strict=True) if _bad(x)]
    named = [tag for tag, x in ill if tag is not None and _nan(x)] or [tag for tag, _ in ill if tag is not None]
    if named:
        tag = named[0]
    elif ill and not any(_nan(x) for x in outputs):
        tag = None  # an infinity that was written down, passed on
    else:
        tag = _told(equation)
    return [tag if b else None for b in bad]


def _told(equation: Equation) -> str:
    return f"{equation.eqn.primitive.name} at {equation.place or 'a line that is not known'}"


def _bad(x: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.inexact) and not np.isfinite(np.asarray(x)).all())


def _nan(x: Any) -> bool:
    return bool(np.isnan(np.asarray(x)).any())


def _given(path: Sequence[Any], leaf: Any) -> str:
    """A parameter, or a part of the batch, that is not finite as it was given."""
    name = dotted(path[1:])
    if path[0].idx == 0:
        return f"a parameter, {name or 'the only one'}"
    values = np.asarray(leaf, float)
    rows = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1)) if values.ndim else np.zeros(0)
    which = f" (examples {', '.join(map(str, rows[:5]))}{' …' if len(rows) > 5 else ''})" if values.ndim else ""
    return f"the batch{', ' if name else ''}{name}{which}"
