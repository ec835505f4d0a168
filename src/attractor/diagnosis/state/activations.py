"""What the layers and nonlinearities of a model put out, seen inside its loss: nobody has to rewrite the model."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Array, Float, PyTree

from attractor.diagnosis.signs import NAN, Layer
from attractor.diagnosis.state.batches import resized
from attractor.diagnosis.state.interpreter import Equation, interpret
from attractor.diagnosis.state.layers import layer_names
from attractor.landscape import soft_rank

# Functions by which a nonlinearity is known; its inside is not looked at again.
NONLINEARITIES = ("relu", "relu6", "silu", "swish", "gelu", "elu", "selu", "celu", "leaky_relu", "softplus", "mish",
                  "squareplus", "hard_tanh", "hard_sigmoid", "hard_silu", "log_sigmoid", "soft_sign")  # fmt: skip
RANGES = {"tanh": (-1.0, 1.0), "logistic": (0.0, 1.0)}
MARGIN = 0.01  # what counts as an end of a range, as a share of it
ROWS, COLUMNS = 512, 512  # of the features that a rank is computed of, evenly spaced where there are more
# Equations that move numbers and leave them as they are.
_MOVES = ("reshape", "transpose", "broadcast_in_dim", "squeeze", "convert_element_type", "copy", "expand_dims",
          "reduce_precision", "rev", "optimization_barrier")  # fmt: skip
_OPAQUE = ("scan", "while", "cond")
_MIXES = ("dot_general", "conv_general_dilated")


class Tag(NamedTuple):
    """What a value is made of: a parameter alone, and which; the output of a layer or nonlinearity; the batch."""

    leaf: int | None = None
    layer: str | None = None
    unit: str | None = None
    batch: bool = False


@dataclass
class Event:
    """A value worth looking at: the output of a layer with parameters, or of a nonlinearity."""

    name: str
    layer: bool
    shape: tuple[int, ...]
    ends: tuple[float, float] | None = None
    channels_first: bool = False
    value: Any = None
    axis: int | None = 0  # along which the examples lie; None where they do not
    inputs: int | None = None  # of a product with weights: numbers each output is made of; None where there is none


class _Watch:
    """The rule for `interpret` that collects events; layers appear in the order of the forward pass."""

    def __init__(self, names: Sequence[str]):
        self.names = names
        self.events: list[Event] = []
        self.order: list[str] = []
        self.last_mix = 0  # how many events there were at the last product with weights
        self._channels: tuple[int, bool] = (0, False)
        self._at: dict[str, int] = {}

    def __call__(
        self, q: Equation, inputs: Sequence[Any], tags: Sequence[Any], outputs: Sequence[Any], found: Sequence | None
    ) -> Sequence[Tag]:
        known = [t or Tag() for t in tags]
        # A parameter that meets the batch: here the layer is in the forward pass.
        batch = any(t.batch for t in known)
        leaves = list(dict.fromkeys(t.leaf for t in known if t.leaf is not None))
        if batch:
            self.order += [n for n in (self.names[i] for i in leaves) if n not in self.order]
        hidden = any(b in NONLINEARITIES for b in q.blocks)
        if q.name in NONLINEARITIES and q.inner and batch and not hidden:
            self._nonlinearity(q, outputs[0], q.name, None)
            return [Tag(batch=True)] * len(outputs)
        if found is not None:
            return [t or Tag() for t in found]
        name = q.eqn.primitive.name
        if name in _OPAQUE or (name in _MIXES and leaves):
            self.last_mix = len(self.events)
        if name == "conv_general_dilated":
            out = q.eqn.params["dimension_numbers"].out_spec
            self._channels = (len(out), out[1] < min(out[2:], default=len(out)))
        layer = None
        if len(outputs) == 1 and batch and leaves and name not in _OPAQUE:
            layer = self._layer(self.names[leaves[0]], [t.layer for t in known], outputs[0], _inputs(q, inputs))
        elif len(inputs) == 1 and name in _MOVES:
            layer = known[0].layer
        # A variance that is kept from below zero on its way to a root is no rectifier.
        if name in ("sqrt", "rsqrt", "pow") and known[0].unit:
            self.events = [e for e in self.events if e.name != known[0].unit]
            self._at = {e.name: i for i, e in enumerate(self.events) if e.layer}
        constants = name == "add" and any(isinstance(a, Literal) for a in q.eqn.invars)
        unit = next((t.unit for t in known if t.unit), None) if name in _MOVES or constants else None
        if batch and not hidden and len(outputs) == 1:
            if name == "max" and any(_zero(a) for a in q.eqn.invars):
                unit = self._nonlinearity(q, outputs[0], "relu", None)
            elif name in RANGES and not _gates(q):
                self._nonlinearity(q, outputs[0], name, RANGES[name])
        only = leaves[0] if len(leaves) == 1 and not batch else None
        return [Tag(only, layer, unit, batch)] * len(outputs)

    def _layer(self, name: str, before: Sequence[str | None], value: Any, inputs: int | None) -> str | None:
        if not jnp.issubdtype(value.dtype, jnp.floating) or not value.ndim:
            return None
        event = Event(name, True, tuple(value.shape), None, self._first(value), value, inputs=inputs)
        if name not in self._at:
            self._at[name] = len(self.events)
            self.events.append(event)
        elif name in before:  # its bias, or its gain: the output is what comes out last
            event.inputs = inputs or self.events[self._at[name]].inputs
            self.events[self._at[name]] = event
        else:  # the same weights once more (tied): the first use counts
            return None
        return name

    def _nonlinearity(self, q: Equation, value: Any, kind: str, ends: tuple[float, float] | None) -> str | None:
        # One number an example is no layer.
        if not jnp.issubdtype(value.dtype, jnp.floating) or sum(d > 1 for d in value.shape) < 2:
            return None
        at = q.place.split(" (")[0]
        name = f"{at} {kind}" if at else kind
        again = sum(1 for e in self.events if e.name == name or e.name.startswith(f"{name}, "))
        name = f"{name}, no. {again + 1}" if again else name
        self.order.append(name)
        self.events.append(Event(name, False, tuple(value.shape), ends, self._first(value), value))
        return name

    def _first(self, value: Any) -> bool:
        """Whether channels come before the places of an image, as in the convolution before."""
        return self._channels[1] and value.ndim == self._channels[0]


def _inputs(q: Equation, operands: Sequence[Any]) -> int | None:
    """How many numbers the outputs of a product are made of: more dimensions they cannot fill, in whatever layout.

    Groups of a convolution, and products side by side, have each their own.
    """
    name, params = q.eqn.primitive.name, q.eqn.params
    if name == "dot_general":
        (contracted, _), (beside, _) = params["dimension_numbers"]
        shape = operands[0].shape
        return math.prod(shape[i] for i in (*contracted, *beside))
    if name == "conv_general_dilated":
        shape, spec = operands[1].shape, params["dimension_numbers"].rhs_spec  # outputs, inputs, places
        return params["feature_group_count"] * math.prod(shape[i] for i in spec[1:])
    return None


def _zero(atom: Any) -> bool:
    return isinstance(atom, Literal) and np.ndim(atom.val) == 0 and bool(atom.val == 0)


def _gates(q: Equation) -> bool:
    """Whether a sigmoid or tanh is a factor, or the inside of a smooth rectifier: its ends are no fault there."""
    return any(c.primitive.name == "mul" for c in q.consumers) or any(
        c.primitive.name == "add" and any(isinstance(a, Literal) for a in c.invars) for c in q.consumers
    )


def _events(closed: ClosedJaxpr, arrays: Sequence[Any], names: Sequence[str]) -> _Watch:
    watch = _Watch(names)
    tags = [Tag(leaf=i) if i < len(names) else Tag(batch=True) for i in range(len(arrays))]
    interpret(closed, arrays, tags, watch)
    # What comes after the last product with weights are outputs, not hidden units: they may well be at their ends.
    watch.events = [e for i, e in enumerate(watch.events) if e.layer or i < watch.last_mix]
    kept = {e.name for e in watch.events if not e.layer} | set(names)
    watch.order = [n for n in watch.order if n in kept]
    return watch


def _layout(loss: Callable, params: PyTree, batch: PyTree, names: Sequence[str]) -> list[Event]:
    """The events without their values. Examples lie along the axis that grows when the batch does: traced, not run."""

    def shapes(extra: int) -> _Watch:
        sized = resized(batch, extra)
        closed = jax.make_jaxpr(loss)(params, sized)
        held: list[_Watch] = []

        def trace(*arrays: Any) -> None:
            held.append(_events(closed, arrays, names))

        jax.eval_shape(trace, *jax.tree.leaves((params, sized)))
        return held[0]

    watch = shapes(0)
    events = watch.events
    try:
        other = shapes(1).events
    except Exception:  # a loss that has its batch size written in it: the first axis, as usual
        return events
    if [e.name for e in other] == [e.name for e in events]:
        for event, grown in zip(events, other, strict=True):
            pairs = enumerate(zip(event.shape, grown.shape, strict=False))
            axes = [i for i, (a, b) in pairs if a != b]
            event.axis = axes[0] if len(axes) == 1 else None
    return events


def _look(event: Event) -> dict[str, Array]:
    """Numbers of a value: mean square, extremes per unit, share at the ends, rank."""
    x = event.value.astype(jnp.promote_types(event.value.dtype, jnp.float32))
    seen = {"square": jnp.mean(x**2)}
    if event.axis is None or event.axis >= x.ndim or x.ndim < 2:
        return seen
    x = jnp.moveaxis(x, event.axis, 0)
    x = jnp.moveaxis(x, 1, -1) if event.channels_first else x
    rows = x.reshape(-1, x.shape[-1])  # the units of an image or a sequence are the same at all places
    if not event.layer:
        seen |= {"low": rows.min(0), "high": rows.max(0)}
    if event.ends is not None:
        low, high = event.ends
        width = MARGIN * (high - low)
        seen["saturated"] = jnp.mean((rows <= low + width) | (rows >= high - width))
    n, d = rows.shape
    some = rows[:: -(-n // ROWS), :: -(-d // COLUMNS)]
    possible = min(some.shape[0] - 1, some.shape[1], event.inputs or some.shape[1])
    if possible >= 4:
        seen["rank"] = soft_rank(some).effective / possible
    return seen


def observe(
    loss: Callable[[PyTree, PyTree], Float[Array, ""]], params: PyTree, batches: Sequence[PyTree]
) -> dict[str, Layer]:
    """Layers and nonlinearities in the order of the forward pass, with what they put out on the batches.

    The loss is evaluated equation by equation in one compiled program. A nonlinearity is ``max(x, 0)``, tanh, a sigmoid
    that is no gate, or a named function of `jax.nn`, before the last product with weights; it is named by its line. A
    layer is where a parameter meets the batch. Functions inside scans, loops and branches are not looked into.

    Arguments:
        loss: ``(params, batch) -> scalar``.
        params: Pytree of floating-point arrays.
        batches: Of equal shapes, examples along the first axis.

    Returns:
        Layers with ``output`` (root mean square), ``dead`` (share of units that are constant over all examples),
        ``saturated`` and ``rank`` (over the dimensions that as many inputs and units can fill); NaN where it does not
        apply. Of the parameters only the order is known here.
    """
    names = layer_names(params)
    layout = _layout(loss, params, batches[0], names)
    closed = jax.make_jaxpr(loss)(params, batches[0])
    order: list[str] = []

    @jax.jit
    def looks(arrays: Sequence[Array]) -> list[dict[str, Array]]:
        watch = _events(closed, arrays, names)
        order[:] = watch.order
        for event, known in zip(watch.events, layout, strict=True):
            event.axis = known.axis
        return [_look(event) for event in watch.events]

    seen = [jax.device_get(looks(jax.tree.leaves((params, batch)))) for batch in batches]
    layers = {name: Layer() for name in [*order, *(n for n in dict.fromkeys(names) if n not in order)]}
    for event, each in zip(layout, zip(*seen, strict=True), strict=True):
        layer = layers[event.name]
        layer.output = float(np.sqrt(np.mean([s["square"] for s in each])))
        if "low" in each[0]:
            low, high = np.min([s["low"] for s in each], 0), np.max([s["high"] for s in each], 0)
            rounding = 10 * np.finfo(low.dtype).eps * np.maximum(abs(low), abs(high))
            layer.dead = float(np.mean(high - low <= rounding))
        layer.saturated = float(np.mean([s.get("saturated", NAN) for s in each]))
        layer.rank = float(np.mean([s.get("rank", NAN) for s in each]))
    return layers
