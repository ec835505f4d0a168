"""Try what a finding recommends: short runs from the same parameters, on the same batches, with and without it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from attractor.diagnosis.findings import Diagnosis, Trial
from attractor.diagnosis.signs import Signs
from attractor.diagnosis.state.batches import inputs_of, stack
from attractor.progress import task
from attractor.transformations import update

USUAL = 1e-3  # update over weights


class Remedy(NamedTuple):
    """A change to a run: its words, a factor of the updates, a limit of the gradient norm, and the kind of batches."""

    words: str
    rate: float = 1.0
    clip: float = float("inf")
    batches: str = "one"


def remedies(signs: Signs, batches: int) -> dict[str, Remedy]:
    """What a short run can try, by the name of the finding; nothing where the loss is not finite.

    Arguments:
        signs: Of a state.
        batches: How many there are.
    """
    if "update ratio" not in signs.curves:
        return {}
    norm, moved = (float(signs.curves[name][0]) for name in ("gradient norm", "update ratio"))
    # Powers of ten that bring the sharpness below its threshold, or else the update to its usual size.
    excess = signs.number("sharpness") / signs.number("threshold")
    excess = max(excess if np.isfinite(excess) else moved / USUAL, 10.0)
    smaller, larger = 10 ** np.ceil(np.log10(excess)), 10 ** max(np.round(np.log10(USUAL / max(moved, 1e-12))), 1)
    clipped = Remedy("gradient norm clipped to 1", clip=min(1.0, norm / 2))
    known = {
        "step too large": Remedy(f"a learning rate {smaller:.0f} times smaller", rate=float(1 / smaller)),
        "step too small": Remedy(f"a learning rate {larger:.0f} times larger", rate=float(larger)),
        "exploding gradients": clipped,
        "spike": clipped,
        "badly scaled inputs": Remedy("standardized inputs", batches="standardized"),
    }
    if batches > 1:
        known["noisy gradients"] = Remedy(f"gradients accumulated over {batches} batches", batches="all")
    return known


def try_remedies(
    diagnosis: Diagnosis,
    loss: Callable[[PyTree, PyTree], Float[Array, ""]],
    params: PyTree,
    batches: Sequence[PyTree],
    optimizer: Any,
    state: PyTree,
    steps: int,
) -> None:
    """Fill in the trials of the findings that have a remedy which a short run can try.

    All runs start from the parameters and the state as they are and take the batches in turn. Rates and limits are
    numbers of one compiled program.

    Arguments:
        diagnosis: Its findings are changed.
        loss: ``(params, batch) -> scalar``.
        params: Pytree of floating-point arrays.
        batches: Of equal shapes.
        optimizer: An optax transformation.
        state: Its state.
        steps: Of each run.
    """
    known = remedies(diagnosis.signs, len(batches))
    found = [f for f in diagnosis if f.name in known]
    if not found:
        return
    stacked = stack(batches)
    last = max(steps // 10, 1)

    def run(joint: bool) -> Callable[..., Array]:
        def step(carry: Any, i: Array, rate: Array, clip: Array, stacked: PyTree) -> tuple[Any, Array]:
            params, state = carry
            batch = jax.tree.map(lambda a: a[i % len(batches)], stacked)

            def mean(p: PyTree) -> Array:
                return jax.lax.map(lambda b: loss(p, b), stacked).mean() if joint else loss(p, batch)

            value, g = jax.value_and_grad(mean)(params)
            factor = jnp.minimum(1.0, clip / jnp.maximum(optax.tree.norm(g), 1e-30))
            g = jax.tree.map(lambda a: (a * factor).astype(a.dtype), g)
            offered = {"value": value, "grad": g, "value_fn": mean, "key": jax.random.key(0)}
            u, state = update(optimizer, g, state, params, offered)
            u = jax.tree.map(lambda a: (a * rate).astype(a.dtype), u)
            return (optax.apply_updates(params, u), state), loss(params, batch)

        def whole(params: PyTree, state: PyTree, rate: Array, clip: Array, stacked: PyTree) -> Array:
            indices = jnp.arange(steps)
            return jax.lax.scan(lambda c, i: step(c, i, rate, clip, stacked), (params, state), indices)[1]

        return jax.jit(whole)

    programs = {joint: run(joint) for joint in (False, True)}

    def end(remedy: Remedy) -> float:
        data = standardized(stacked) if remedy.batches == "standardized" else stacked
        losses = programs[remedy.batches == "all"](params, state, remedy.rate, remedy.clip, data)
        return float(np.mean(np.asarray(losses)[-last:]))

    with task("remedies", len(found) + 1, "runs") as advance:
        without = end(Remedy("none"))
        advance(1)
        for finding in found:
            remedy = known[finding.name]
            finding.trial = Trial(remedy.words, without, end(remedy), steps)
            advance(1)


def standardized(stacked: PyTree) -> PyTree:
    """The same batches, stacked along the first axis, with inputs of mean zero and variance one over all examples."""
    inputs = inputs_of(stacked)
    if inputs is None:
        return stacked
    mean, deviation = inputs.mean((0, 1)), inputs.std((0, 1))
    better = (inputs - mean) / jnp.where(deviation > 0, deviation, 1)
    return jax.tree.map(lambda a: better if a is inputs else a, stacked)
