"""Diagnose a state of training: a loss, parameters, a few batches, and the optimizer that is to move them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.diagnosis.findings import Diagnosis
from attractor.diagnosis.rules import judge
from attractor.diagnosis.signs import NAN, Layer, Signs, median
from attractor.diagnosis.state.activations import observe
from attractor.diagnosis.state.batches import examples, input_signs, parts, suspects, take
from attractor.diagnosis.state.layers import groups, layer_names, squares
from attractor.diagnosis.state.optimizers import as_optimizer
from attractor.diagnosis.state.origin import origin
from attractor.diagnosis.state.outputs import probabilities_as_logits
from attractor.diagnosis.state.sharpness import sharpness_signs
from attractor.diagnosis.state.trials import try_remedies
from attractor.landscape import gradient_noise_scale
from attractor.progress import task
from attractor.transformations import update

Loss = Callable[[PyTree, PyTree], Any]


def diagnose(
    loss: Callable[[Any, Any], Any],
    params: PyTree,
    batches: Any,
    *,
    optimizer: Any = None,
    learning_rate: Scalar | Callable[[Any], Any] | None = None,
    state: PyTree = None,
    losses: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    validation: Any = None,
    confirm: bool = False,
    key: PRNGKeyArray | None = None,
    steps: int = 100,
) -> Diagnosis:
    """What stands out in a state of training, each finding with its number, its threshold, and what to try.

    Arguments:
        loss: ``loss(params, batch)``, a real scalar: what is minimized.
        params: Pytree with floating-point arrays: a dictionary, an Equinox module, what ``init`` of Flax gives, …
        batches: One batch (an array, a tuple, a dictionary of arrays), or a list or loader of several, of which up to
            eight are taken. Examples lie along the first axis. The inputs, whose scale is judged, are the first array
            of real numbers in it, of the first entry of a tuple.
        optimizer: An optax transformation, a factory such as `optax.adam`, or its name. Without one nothing is said of
            the step.
        learning_rate: For a factory or a name; alone it is that of gradient descent.
        state: The optimizer's state; default: a fresh one. Without it nothing is said of Adam's stability.
        losses: Parts of the loss by name, functions like it, whose gradients may be in conflict.
        validation: Held-out batches.
        confirm: Whether to try what the findings recommend, in short runs with and without.
        key: Of random starts; default: a fixed one.
        steps: Of each of those runs, at least 10.

    Raises:
        TypeError: if the loss is no function or gives no real scalar, if what is in the batches is no array, or if the
            optimizer is none.
        ValueError: if there is no floating-point parameter or no batch, if shapes change from batch to batch, or if a
            number is out of range.

    !!! example
        ```python
        found = attractor.diagnose(loss, params, loader, optimizer=optax.adam(1e-3), state=opt_state)
        print(found)
        found.save("diagnosis.html")
        ```
    """
    in_range("steps", steps, 10)
    taken = take(batches)
    arrays, of_arrays = _of_arrays(loss, params)
    _check_loss("loss", of_arrays, arrays, taken[0])
    if losses is not None and len(losses) < 2:
        raise ValueError(f"losses: expected at least two, got {len(losses)}")
    each = {name: _of_arrays(f, params)[1] for name, f in (losses or {}).items()}
    for name, f in each.items():
        _check_loss(f"losses[{name!r}]", f, arrays, taken[0])
    held = take(validation) if validation is not None else []
    opt = as_optimizer(optimizer, learning_rate)
    if opt is None and (state is not None or confirm):
        raise ValueError(f"optimizer: expected one beside {'confirm' if state is None else 'state'}, got None")
    state = _check_state(opt, arrays, state)
    key = jr.key(0) if key is None else key

    signs = Signs("state", np.zeros(1))
    with task("diagnosis", 8, "looks") as advance:
        gradients, seconds = _gradients(signs, of_arrays, arrays, taken, opt, state, key)
        advance(1)
        if not gradients:
            return judge(signs)
        _fill(signs, _try(signs, "activations", lambda: observe(of_arrays, arrays, taken)) or {})
        advance(2)
        signs.twice = _try(signs, "outputs", lambda: probabilities_as_logits(of_arrays, arrays, taken[0])) or ""
        _noise(signs, of_arrays, arrays, taken, gradients)
        advance(1)
        if each:
            signs.numbers["conflict"] = _conflict(each, arrays, taken)
        found = _try(signs, "suspect labels", lambda: suspects(of_arrays, arrays, taken))
        if found is not None:
            signs.culprits["suspect labels"], total = found
            signs.numbers["suspect labels"] = len(found[0]) / total
        if held:
            value = eqx.filter_jit(of_arrays)
            signs.curves["validation loss"] = np.asarray([np.mean([float(value(arrays, b)) for b in held])])
        advance(1)
        given = (of_arrays, arrays, taken, opt, state, gradients[-1], seconds, key, signs.notes)
        signs.numbers |= _try(signs, "sharpness", lambda: sharpness_signs(*given)) or {}
        advance(3)
    diagnosis = judge(signs)
    if confirm and opt is not None:
        try_remedies(diagnosis, of_arrays, arrays, taken, opt, state, steps)
    return diagnosis


def _of_arrays(loss: Any, params: PyTree) -> tuple[PyTree, Loss]:
    """The floating-point arrays among the parameters, and the loss as a function of them alone."""
    if not callable(loss):
        raise TypeError(f"loss: expected a function (params, batch) -> scalar, got {type(loss).__name__}")
    params = jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray | np.floating) else a, params)
    arrays, rest = eqx.partition(params, eqx.is_inexact_array)
    if not jax.tree.leaves(arrays):
        raise ValueError(
            "params: expected floating-point arrays in it, found none; integers are not trained (convert them), and "
            "plain Python numbers are no arrays (jnp.asarray)"
        )

    def of_arrays(a: PyTree, batch: PyTree) -> Any:
        return loss(eqx.combine(a, rest), batch)

    return arrays, of_arrays


def _check_loss(name: str, loss: Loss, params: PyTree, batch: PyTree) -> None:
    out = jax.eval_shape(loss, params, batch)
    shape = getattr(out, "shape", None)
    if shape is None:
        raise TypeError(f"{name}: expected a scalar alone, got a {type(out).__name__}; return the loss without more")
    if shape != () or not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a real scalar, got shape {shape} and {out.dtype}; take its mean, say")


def _check_state(optimizer: Any, params: PyTree, state: PyTree) -> PyTree:
    if optimizer is None:
        return None
    fresh = optimizer.init(params)
    if state is None:
        return fresh
    if jax.tree.structure(state) != jax.tree.structure(fresh):
        raise ValueError(
            "state: expected the optax state of this optimizer for the floating-point arrays of params, as "
            "optimizer.init(eqx.filter(params, eqx.is_inexact_array)) makes it; its structure is another"
        )
    return state


def _try(signs: Signs, what: str, look: Callable[[], Any]) -> Any:
    """A look that may not be possible for every loss: then why not is noted, and the others go on."""
    try:
        return look()
    except Exception as error:  # whatever a user's loss raises under a transformation it was not written for
        signs.notes.append(f"{what}: {str(error).strip().splitlines()[0] if str(error).strip() else repr(error)}"[:200])
        return None


def _gradients(
    signs: Signs,
    loss: Loss,
    params: PyTree,
    batches: Sequence[PyTree],
    optimizer: Any,
    state: PyTree,
    key: PRNGKeyArray,
) -> tuple[list[PyTree], float]:
    """Losses, gradients and updates on every batch, as curves and by layer.

    Returns:
        The gradients, none if something is not finite, and the seconds that one takes.
    """
    names = layer_names(params)

    @jax.jit
    def look(params: PyTree, batch: PyTree, state: PyTree) -> tuple[Any, ...]:
        value, g = jax.value_and_grad(loss)(params, batch)
        offered = {"value": value, "value_fn": lambda p: loss(p, batch), "key": key}

        def moved(g: PyTree) -> Array:
            return squares(update(optimizer, g, state, params, {**offered, "grad": g})[0], names)

        updates = None if optimizer is None else (moved(g), moved(_anything(params)))
        return value, g, squares(g, names), updates, squares(params, names)

    seen, seconds = [], 0.0
    for batch in batches:
        start = time.perf_counter()
        seen.append(jax.block_until_ready(look(params, batch, state)))
        seconds = time.perf_counter() - start  # the last one's, as the first one compiles
    values, by_layer = np.asarray([float(s[0]) for s in seen]), np.asarray([s[2] for s in seen], float)
    weights = np.asarray(seen[0][4], float)
    signs.curves = {"loss": values.mean(keepdims=True), "weight norm": np.sqrt(weights.sum(keepdims=True))}
    signs.numbers["batch size"] = examples(batches[0])
    signs.numbers |= input_signs(batches)
    leaves = jax.tree.leaves(params)
    for (name, own), w, g in zip(groups(names).items(), weights, by_layer.T, strict=True):
        size = sum(leaves[i].size for i in own)
        layer = Layer(size, trained=True, reached=bool((g > 0).any()), weight=float(np.sqrt(w / size)))
        layer.gradient = float(np.sqrt(np.median(g) / size))
        signs.layers[name] = layer
    bad = ~np.isfinite(values) | ~np.isfinite(by_layer).all(1)
    if bad.any():
        first = int(bad.argmax())
        signs.curves["loss"] = values[[first]]
        where = _try(signs, "origin", lambda: origin(loss, params, batches[first]))
        for layer in signs.layers.values():  # nobody can say whether a gradient arrives that is not finite
            layer.reached = None
        signs.origin = where or "an operation that could not be found"
        signs.operation = signs.origin.partition(" ")[0]
        return [], seconds
    signs.curves["gradient norm"] = np.asarray([np.median(np.sqrt(by_layer.sum(1)))])
    if optimizer is not None:
        moved = np.asarray([s[3][0] for s in seen], float)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios, total = np.sqrt(moved / weights), np.sqrt(moved.sum(1) / weights.sum())
        signs.curves["update ratio"] = np.asarray([np.median(total)])
        free = np.asarray(seen[0][3][1]) > 0
        # Where nothing moves, the rate is zero at present (a warm-up's first step): no layer is frozen for that.
        for layer, ratio, is_free in zip(signs.layers.values(), ratios.T, free | ~free.any(), strict=True):
            layer.update, layer.trained = median(ratio), bool(is_free)
    return [s[1] for s in seen], seconds


def _anything(params: PyTree) -> PyTree:
    """A gradient that is nowhere zero, to see what an optimizer would move if one arrived."""
    return jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), params)


def _fill(signs: Signs, seen: Mapping[str, Layer]) -> None:
    """Join what layers put out to what is known of their parameters, in the order of the forward pass."""
    known, signs.layers = signs.layers, {}
    for name, layer in seen.items():
        own = known.pop(name, None)
        if own is not None:
            own.output, own.dead, own.saturated, own.rank = layer.output, layer.dead, layer.saturated, layer.rank
        signs.layers[name] = own or layer
    signs.layers |= known


def _noise(signs: Signs, loss: Loss, params: PyTree, batches: Sequence[PyTree], gradients: list[PyTree]) -> None:
    """The noise scale from the gradients of the batches, or of parts of a single one."""
    size = examples(batches[0])
    if len(gradients) < 2:
        cut = parts(batches[0])
        if len(cut) < 2:
            signs.notes.append("noise scale: it takes several batches, or one with an even number of examples")
            return
        grad = jax.jit(jax.grad(loss))
        size = size // len(cut)
        gradients = _try(signs, "noise scale", lambda: [grad(params, part) for part in cut]) or []
    if len(gradients) >= 2:
        scale = jax.jit(lambda g: gradient_noise_scale(jax.tree.map(lambda *a: jnp.stack(a), *g), size).batch)
        signs.numbers["noise scale"] = float(scale(gradients))


def _conflict(losses: Mapping[str, Loss], params: PyTree, batches: Sequence[PyTree]) -> float:
    """The least cosine between the mean gradients of two of the losses."""

    @jax.jit
    def each(params: PyTree, batch: PyTree) -> list[PyTree]:
        return [jax.grad(f)(params, batch) for f in losses.values()]

    sums = [np.zeros(0)] * len(losses)
    for batch in batches:
        found = [np.concatenate([np.ravel(a) for a in jax.tree.leaves(g)]).astype(float) for g in each(params, batch)]
        sums = [g + s if s.size else g for g, s in zip(found, sums, strict=True)]
    unit = [g / np.linalg.norm(g) for g in sums if np.linalg.norm(g) > 0]
    return min((float(a @ b) for i, a in enumerate(unit) for b in unit[:i]), default=NAN)
