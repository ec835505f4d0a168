"""Whether a loss that takes logits is given probabilities, seen in its equations."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from attractor.diagnosis.state.interpreter import Equation, interpret

SHARES = ("softmax", "_softmax", "sigmoid", "logistic", "expit")  # what gives probabilities
LOGITS = ("log_softmax", "logsumexp", "log_sigmoid", "softplus", "logaddexp")  # what takes logits
# Equations that leave probabilities what they are, but for a shift or a sign.
_KEEP = ("reshape", "transpose", "broadcast_in_dim", "squeeze", "convert_element_type", "copy", "expand_dims", "sub",
         "neg", "stop_gradient", "select_n", "gather", "slice", "optimization_barrier")  # fmt: skip
_SUMS = ("reduce_sum", "abs", "mul")  # and these leave sums of exponentials what they are


def probabilities_as_logits(loss: Callable[[PyTree, PyTree], Float[Array, ""]], params: PyTree, batch: PyTree) -> str:
    """The line at which a softmax or sigmoid is fed to a cross-entropy that applies its own; empty where none is.

    The loss is traced, not evaluated. A cross-entropy is known by the logarithm of a sum of exponentials, or as a
    function of JAX's or optax's that takes logits.

    Arguments:
        loss: ``(params, batch) -> scalar``.
        params: Pytree of floating-point arrays.
        batch: Pytree of arrays.
    """
    places: list[str] = []

    def rule(
        q: Equation, inputs: Sequence[Any], tags: Sequence[Any], outputs: Sequence[Any], found: Sequence[Any] | None
    ) -> Sequence[Any]:
        n, name = len(outputs), q.name
        if name in SHARES:
            return ["share"] * n
        if (name in LOGITS and "share" in tags) or (name == "log" and "exponential" in tags):
            places.append(q.place or "a line that is not known")
        if found is not None:
            return found
        if name == "exp":
            return ["exponential" if "share" in tags else "positive"] * n
        if name == "div" and tags[0] == tags[1] == "positive":  # exponentials over their sum
            return ["share"] * n
        if name in (*_KEEP, *_SUMS):
            kept = [t for t in tags if t is not None and (t != "share" or name in _KEEP)]
            return [kept[0] if kept else None] * n
        return [None] * n

    closed = jax.make_jaxpr(loss)(params, batch)

    def trace(*arrays: Any) -> None:
        interpret(closed, arrays, [None] * len(arrays), rule)

    jax.eval_shape(trace, *jax.tree.leaves((params, batch)))
    return places[0] if places else ""
