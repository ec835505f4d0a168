"""Batches as a user has them: taken from what is given, checked, and what can be said of the data alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from attractor.diagnosis.state.layers import dotted

MOST = 8  # batches looked at
COLUMNS = 4096  # input features looked at, evenly spaced where there are more
TARGETS = ("y", "target", "targets", "label", "labels", "output", "outputs")  # parts of a dictionary that are no inputs
OUTLYING = 12.0  # interquartile ranges above the median at which a loss is far out
UNLIKELY = 4.0  # nats: a label to which the model gives less than 2 %
FITTED = 0.7  # nats: the median below which a classifier fits its examples


def take(batches: Any, limit: int = MOST) -> list[PyTree]:
    """Up to ``limit`` batches of equal shapes.

    Arguments:
        batches: One batch (an array, a tuple, a dictionary or another pytree of arrays), or a list or iterator of
            several.

    Raises:
        ValueError: if there is none, if they have no arrays, or if their shapes differ.
        TypeError: if what is in them is no array.
    """
    if isinstance(batches, list):
        taken = batches[:limit]
    elif _is_iterable(batches):
        taken = list(islice(iter(batches), limit))
    else:
        taken = [batches]
    if not taken:
        raise ValueError(
            "batches: expected at least one, got none: the list or loader is empty, or it is an iterator that was "
            "already used up; make a new one"
        )
    taken = [_arrays(batch) for batch in taken]
    shapes = [[(dotted(path), jnp.shape(leaf)) for path, leaf in _leaves(batch)] for batch in taken]
    if not shapes[0]:
        raise ValueError("batches: expected arrays in them, the first has none")
    for i, other in enumerate(shapes):
        if other != shapes[0]:
            a, b = next(((a, b) for a, b in zip(shapes[0], other, strict=False) if a != b), (shapes[0], other))
            raise ValueError(
                f"batches: expected equal shapes, but number {i} has {_told(b)} where the first has {_told(a)}. A last "
                "batch that is smaller: leave it out (drop_last=True); one batch of several arrays: a tuple, as a list "
                "is several batches"
            )
    if any(0 in shape for _, shape in shapes[0]):
        raise ValueError(f"batches: expected at least one example, got the shapes {shapes[0]}")
    return taken


def _told(part: Any) -> str:
    return f"{part[1]} at {part[0] or 'the top'}" if isinstance(part, tuple) else f"{len(part)} arrays"


def _leaves(batch: PyTree) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(batch)[0]


def _is_iterable(batches: Any) -> bool:
    one = isinstance(batches, tuple | Mapping | str | eqx.Module) or hasattr(batches, "shape")
    return not one and (isinstance(batches, Iterable) or hasattr(batches, "__getitem__"))


def _arrays(batch: PyTree) -> PyTree:
    def array(path: Any, leaf: Any) -> Any:
        if isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | bool | complex):
            if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "OUS":
                raise TypeError(f"batches: expected arrays of numbers, {dotted(path) or 'it'} has dtype {leaf.dtype}")
            return jnp.asarray(leaf)
        kind = f"{type(leaf).__module__.split('.')[0]}.{type(leaf).__name__}"
        hint = "; for PyTorch: attractor.torch.diagnose" if kind.startswith("torch") else ""
        raise TypeError(f"batches: expected arrays, got a {kind} at {dotted(path) or 'the top'}{hint}")

    return jax.tree_util.tree_map_with_path(array, batch)


def examples(batch: PyTree) -> int:
    """How many examples a batch has: the length of its first array that has an axis; 1 where there is none."""
    return next((leaf.shape[0] for leaf in jax.tree.leaves(batch) if jnp.ndim(leaf)), 1)


def has_examples(leaf: Any, size: int) -> bool:
    """Whether an array has an axis of examples, the first; the key of a random generator has none."""
    return bool(jnp.ndim(leaf)) and leaf.shape[0] == size


def resized(batch: PyTree, extra: int) -> PyTree:
    """Shapes of a batch with more examples; leaves that have no axis of examples stay."""
    size = examples(batch)

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        rest = (size + extra, *leaf.shape[1:]) if has_examples(leaf, size) else leaf.shape
        return jax.ShapeDtypeStruct(rest, leaf.dtype)

    return jax.tree.map(shape, batch)


def stack(batches: Sequence[PyTree]) -> PyTree:
    """Batches of equal shapes as one pytree, along a new first axis."""

    def joined(*leaves: Any) -> Array:
        keys = jnp.issubdtype(leaves[0].dtype, jax.dtypes.extended)
        return jnp.stack(leaves) if keys else jnp.asarray(np.stack([np.asarray(leaf) for leaf in leaves]))

    return jax.tree.map(joined, *batches)


def parts(batch: PyTree) -> list[PyTree]:
    """A batch cut into eight, four or two equal ones; itself alone where that does not go."""
    size = examples(batch)
    m = next((m for m in (8, 4, 2) if size % m == 0), 1)
    each = size // m

    def cut(i: int) -> PyTree:
        return jax.tree.map(lambda a: a[i * each : (i + 1) * each] if has_examples(a, size) else a, batch)

    return [cut(i) for i in range(m)] if m > 1 else [batch]


def inputs_of(batch: PyTree) -> Any:
    """The inputs in a batch: its first array of real numbers, of the first entry of a tuple; `None`: there is none.

    Targets are never taken for inputs: the later entries of a tuple, and ``y``, ``targets``, ``labels`` of a mapping.
    """
    if isinstance(batch, tuple) and len(batch):
        batch = batch[0]
    if isinstance(batch, Mapping):
        batch = {k: v for k, v in batch.items() if str(k).lower() not in TARGETS}
    real = [x for x in jax.tree.leaves(batch) if jnp.issubdtype(jnp.result_type(x), jnp.floating) and jnp.ndim(x)]
    return real[0] if real else None


def input_signs(batches: Sequence[PyTree]) -> dict[str, float]:
    """``input spread``, ``widest feature`` and ``input level``, as `Signs.numbers` has them; empty without real inputs.

    A feature is one entry of an example; its scale is its standard deviation over the examples. Features that do not
    vary are left out of the spread.
    """
    found = [x for x in (inputs_of(b) for b in batches) if x is not None]
    if not found:
        return {}
    x = np.concatenate([np.asarray(f, np.float32).reshape(f.shape[0], -1) for f in found])
    every = -(-x.shape[1] // COLUMNS)
    x = x[:, ::every].astype(float)
    signs = {"input level": float(np.sqrt(np.mean(x**2)))}
    scale = x.std(0)
    varying = scale > 1e-6 * np.maximum(np.abs(x).max(0), 1e-30)
    if len(x) > 1 and varying.sum() > 1:
        signs["input spread"] = float(scale[varying].max() / np.median(scale[varying]))
        signs["widest feature"] = float(every * np.argmax(np.where(varying, scale, 0)))
    return signs


def suspects(
    loss: Callable[[PyTree, PyTree], Float[Array, ""]], params: PyTree, batches: Sequence[PyTree]
) -> tuple[list[int], int]:
    """Examples whose label contradicts a model that fits the others, counted over all batches; and of how many.

    The loss is taken of every example alone. For labels that are classes (integers, or one of k) an example is suspect
    where its loss exceeds 4 nats (the model gives its label less than 2 %) while half of all are below 0.7; for other
    targets where it is more than 12 interquartile ranges above the median.

    Arguments:
        loss: ``(params, batch) -> scalar``, a mean over the batch.
        params: Pytree of floating-point arrays.
        batches: Of equal shapes.

    Raises:
        ValueError: if the loss of a batch is not the mean of those of its examples.
    """
    size = examples(batches[0])
    axes = jax.tree.map(lambda a: 0 if has_examples(a, size) else None, batches[0])

    def alone(batch: PyTree) -> Array:
        one = jax.tree.map(lambda a, axis: a if axis is None else a[None], batch, axes, is_leaf=lambda a: a is None)
        return loss(params, one)

    each = jax.jit(lambda batch: (jax.vmap(alone, in_axes=(axes,))(batch), loss(params, batch)))
    values = [jax.device_get(each(batch)) for batch in batches]
    for single, joint in values:
        if not np.isclose(single.mean(), joint, rtol=0.02, atol=1e-6):
            raise ValueError("the loss of a batch is not the mean of the losses of its examples")
    losses = np.concatenate([single for single, _ in values])
    if _classes(batches[0]):
        limit = UNLIKELY if np.median(losses) < FITTED else np.inf
    else:
        low, middle, high = np.quantile(losses, [0.25, 0.5, 0.75])
        limit = middle + OUTLYING * (high - low)
    return np.flatnonzero(losses > limit).tolist(), len(losses)


def _classes(batch: PyTree) -> bool:
    """Whether the targets are classes: integers with an entry an example, or rows of one 1 and else 0."""
    if isinstance(batch, tuple) and len(batch) > 1:
        target = jax.tree.leaves(batch[1])
    elif isinstance(batch, Mapping):
        target = [leaf for key, v in batch.items() if str(key).lower() in TARGETS for leaf in jax.tree.leaves(v)]
    else:
        return False
    if not target or not jnp.ndim(target[0]):
        return False
    y = np.asarray(target[0])
    return y.dtype.kind in "iub" or bool(y.ndim == 2 and np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all())
