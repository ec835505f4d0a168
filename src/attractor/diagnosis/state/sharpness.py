"""The sharpness of the loss against what the optimizer can bear, without a Hessian."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.diagnosis.state.batches import stack
from attractor.diagnosis.state.optimizers import Response, relative_curvature, respond
from attractor.landscape import extreme_eigenvalues

ITERATIONS = 20  # of Lanczos' method
PATIENCE = 30.0  # seconds that it may take before some batches are left out


def sharpness_signs(
    loss: Callable[[PyTree, PyTree], Float[Array, ""]],
    params: PyTree,
    batches: Sequence[PyTree],
    optimizer: Any,
    state: PyTree,
    gradient: PyTree,
    seconds: float,
    key: PRNGKeyArray,
    notes: list[str],
) -> dict[str, float]:
    """``sharpness``, the largest eigenvalue of the Hessian of the mean loss, preconditioned as the optimizer does it.

    With ``threshold`` where that of the optimizer is known; otherwise the reason joins ``notes``, and the eigenvalue
    is that of the Hessian as it is.

    Arguments:
        loss: ``(params, batch) -> scalar``.
        params: Pytree of floating-point arrays.
        batches: Of equal shapes; as many as half a minute is enough for.
        optimizer: An optax transformation, or `None`.
        state: Its state.
        gradient: Of one batch.
        seconds: That a gradient takes.
        key: Of Lanczos' start.
        notes: To add to.
    """
    few = batches[: max(int(PATIENCE / (2 * ITERATIONS * max(seconds, 1e-9))), 1)]
    if len(few) < len(batches):
        notes.append(f"sharpness on {len(batches) - len(few)} of {len(batches)} batches: a look at all would take long")
    answer = _response(optimizer, params, state, gradient, loss, batches[0], notes)
    stacked = stack(few)

    @jax.jit
    def largest(params: PyTree, scale: PyTree, stacked: PyTree) -> Array:
        def product(v: PyTree) -> PyTree:
            def add(total: PyTree, batch: PyTree) -> tuple[PyTree, None]:
                one = jax.jvp(lambda p: jax.grad(loss)(p, batch), (params,), (v,))[1]
                return jax.tree.map(jnp.add, total, one), None

            total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, v), stacked)
            return jax.tree.map(lambda a: a / len(few), total)

        return extreme_eigenvalues(relative_curvature(scale, product), params, key=key, iterations=ITERATIONS)[1]

    numbers = {"sharpness": float(largest(params, answer.scale, stacked))}
    if not math.isfinite(numbers["sharpness"]):
        notes.append("sharpness: a second derivative of the loss is not finite")
        return {}
    return numbers | ({"threshold": answer.threshold} if math.isfinite(answer.threshold) else {})


def _response(
    optimizer: Any, params: PyTree, state: PyTree, gradient: PyTree, loss: Any, batch: PyTree, notes: list[str]
) -> Response:
    unknown = Response(math.nan, jax.tree.map(jnp.ones_like, params))
    if optimizer is None:
        return unknown
    value = jax.jit(loss)  # for those that ask for it, line searches
    offered = {"grad": gradient, "value_fn": lambda p: value(p, batch)}
    try:
        answer = respond(optimizer, params, state, gradient, offered)
    except (TypeError, ValueError):
        answer = unknown
    if math.isnan(answer.threshold):
        notes.append(
            "stability of the step: the threshold of this optimizer is not known (it is for gradient descent, for "
            "momentum, and for Adam with the state of at least ten steps)"
        )
    return answer
