"""Watch a run: one line in a JAX loop keeps a record that costs next to nothing, and explains what happened."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PyTree

from attractor.diagnosis.explain import explain
from attractor.diagnosis.findings import Diagnosis
from attractor.diagnosis.recorder import Recorder
from attractor.diagnosis.rules import judge
from attractor.diagnosis.signs import NAN, Layer, Signs, median
from attractor.diagnosis.state.batches import examples, input_signs, inputs_of
from attractor.diagnosis.state.layers import groups, layer_names, squares

LOOKS = 1024  # kept by layer; when there are more, every second of the older half is dropped
FORGET = 0.99  # what is left of a cost after a step without it
SAMPLE = 16_384  # numbers of a batch that its size is taken of, whole examples, where it is in this machine's memory
TOGETHER = 64  # scalars of a device that are read at once
MEASURED = 64  # looks from one to the next that the device is waited for, to know what a look takes


class Monitor:
    """Keeps a record of a training loop and says what it shows.

    The loss of every step (where steps take 0.2 ms or more) is kept on the device and read later, many at once. Norms
    of gradients, weights and updates, by layer, are one compiled function, called as often as the budget allows.

    Arguments:
        budget: Share of the loop's time that it may take, in (0, 1].
        capacity: Steps recorded; older ones are thinned out.
        clock: Seconds; for tests.

    Raises:
        ValueError: if a number is out of range.

    !!! example
        ```python
        monitor = attractor.Monitor()
        for batch in loader:
            loss, grads = value_and_grad(params, batch)
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            monitor(loss, params=params, grads=grads, updates=updates, batch=batch)
        print(monitor.diagnosis())
        ```
    """

    def __init__(self, budget: float = 0.05, *, capacity: int = 10_000, clock: Callable[[], float] = time.perf_counter):
        self.recorder = Recorder(capacity, budget, clock=clock, read=_read)
        self.steps = 0
        self._looks: list[tuple[int, Any]] = []
        self.looks = 0  # taken so far
        self._cost = 0.0  # seconds of a look
        self._norms: Callable[..., Array] | None = None
        self._names: list[str] = []
        self._inputs: int | None = None  # which array of a batch
        self._size_cost = 0.0  # seconds that its size takes
        self._own = 0.0  # seconds of a call without a look, smoothed
        self._called = self._resume = -math.inf
        self._sizes: list[int] = []
        self._given: tuple[bool, ...] = ()
        self._numbers: dict[str, float] = {}

    def __call__(
        self,
        loss: Any,
        *,
        params: PyTree = None,
        grads: PyTree = None,
        updates: PyTree = None,
        batch: PyTree = None,
        step: int | None = None,
        **values: Any,
    ) -> None:
        """Record a step. All but the loss is optional, and should then be given, or not, at every step alike.

        Arguments:
            loss: A scalar.
            params: Pytree with floating-point arrays.
            grads: The gradient, like the parameters.
            updates: What is added to the parameters in this step.
            batch: Pytree of arrays, examples along the first axis.
            step: Its number, more than the last one's; default: counted from 0.
            **values: More curves, scalars by name with underscores: ``validation_loss``, ``learning_rate``, …

        Raises:
            ValueError: if steps go back, or if gradients or updates are not like the parameters.
        """
        start = self.recorder.clock()
        step = self.steps if step is None else step
        if start < self._resume and not values:  # steps of microseconds: not even every loss is kept
            self.steps = step + 1
            return
        self.recorder.add(step, loss=loss, **{name.replace("_", " "): value for name, value in values.items()})
        self.steps = step + 1
        looks = not (params is None and grads is None and updates is None and batch is None)
        if looks and self.recorder.due(start):
            self._look(step, (params, grads, updates), batch)
        else:
            room = self.recorder.budget / 2 * (start - self._called) - self._own
            if batch is not None and self._size_cost <= room:
                self._measure(step, batch)
            self._size_cost *= FORGET  # so that it is tried again
            now = self.recorder.clock()
            self._own = FORGET * self._own + (1 - FORGET) * (now - start)
            self._resume = start + self._own / self.recorder.budget
            self.recorder.spent(now - start, now)
        self._called = start

    def _measure(self, step: int, batch: PyTree) -> None:
        """Record the size of a batch's inputs: at every step where there is time, as a spike is one step's."""
        start = self.recorder.clock()
        if self._inputs is not None:
            self.recorder.add(step, **{"input size": _size(jax.tree.leaves(batch)[self._inputs])})
        self._size_cost = self.recorder.clock() - start

    def _look(self, step: int, trees: tuple[PyTree, PyTree, PyTree], batch: PyTree) -> None:
        start = self.recorder.clock()
        first = self._norms is None
        if first:
            self._start(trees, batch)
            self.recorder.curves()  # compiles what reads the losses, too
        lists = [None if tree is None else _leaves(tree) for tree in trees]
        for name, leaves in zip(("params", "grads", "updates"), lists, strict=True):
            if leaves is not None and len(leaves) != len(self._names):
                raise ValueError(f"{name}: expected {len(self._names)} floating-point arrays, got {len(leaves)}")
        self._measure(step, batch)
        measured = first or self.looks == 1 or self.looks % MEASURED == 0
        if measured:  # what the device still has to do for the loop is not this look's
            jax.block_until_ready(lists)
            start = self.recorder.clock()
        look = self._norms(lists)  # pyright: ignore[reportOptionalCall]
        if measured:
            jax.block_until_ready(look)
            self._cost = self.recorder.clock() - start
        self.looks += 1
        self._looks.append((step, look))
        if len(self._looks) > LOOKS:
            half = LOOKS // 2
            self._looks[:half] = self._looks[:half:2]
        # The first look compiles: once in a run, as the loop's own step does.
        self.recorder.spent(0.0 if first else max(self._cost, self.recorder.clock() - start))

    def _start(self, trees: tuple[PyTree, ...], batch: PyTree) -> None:
        """What is known from the first look on: names and sizes of layers, which array of a batch holds the inputs."""
        like = eqx.filter(next((tree for tree in trees if tree is not None), None), eqx.is_inexact_array)
        self._names = names = layer_names(like)
        leaves = jax.tree.leaves(like)
        self._sizes = [sum(leaves[i].size for i in own) for own in groups(names).values()]
        self._given = tuple(tree is not None for tree in trees)
        if batch is not None:
            self._numbers = {"batch size": float(examples(batch)), **input_signs([batch])}
            inputs = inputs_of(batch)
            self._inputs = next((i for i, leaf in enumerate(jax.tree.leaves(batch)) if leaf is inputs), None)

        @jax.jit
        def norms(lists: list[list[Array] | None]) -> Float[Array, "3 layers"]:
            """By layer, the squares of weights, gradients and updates."""
            none = jnp.full(len(groups(names)), jnp.nan)
            parts = [none if leaves is None else squares(leaves, names) for leaves in lists]
            return jnp.stack(parts).astype(jnp.float32)

        self._norms = norms

    def signs(self) -> Signs:
        """What the record shows, as numbers. Waits for the device."""
        steps, curves = self.recorder.curves()
        signs = Signs("run", steps, curves, numbers=dict(self._numbers))
        if not self._looks:
            signs.notes.append("gradients, weights and updates: give them to the monitor, by name")
            return signs
        at = np.asarray([step for step, _ in self._looks])
        seen = np.asarray(jax.device_get([look for _, look in self._looks]), float)
        weight, gradient, update = seen.transpose(1, 0, 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.sqrt(update / weight)
            found = {
                "weight norm": np.sqrt(weight.sum(1)),
                "gradient norm": np.sqrt(gradient.sum(1)),
                "update ratio": np.sqrt(update.sum(1) / weight.sum(1)),
            }
        rows = np.searchsorted(steps, at)
        kept = (rows < len(steps)) & (steps[np.minimum(rows, len(steps) - 1)] == at)
        for name, values in found.items():
            if not np.isnan(values).all():
                signs.curves[name] = np.full(len(steps), NAN)
                signs.curves[name][rows[kept]] = values[kept]
        _, has_gradient, has_update = self._given
        for i, (name, size) in enumerate(zip(groups(self._names), self._sizes, strict=True)):
            layer = Layer(size, trained=True)
            layer.weight = float(np.sqrt(weight[-1, i] / size))
            if has_gradient:
                layer.reached = bool((np.nan_to_num(gradient[:, i], nan=1.0) > 0).any())
                layer.gradient = median(np.sqrt(gradient[:, i] / size))
            if has_update:
                layer.update = median(ratio[:, i])
                layer.trained = bool((np.nan_to_num(update[:, i], nan=1.0) > 0).any()) or layer.reached is False
            signs.layers[name] = layer
        return signs

    def diagnosis(self) -> Diagnosis:
        """The findings so far."""
        return judge(self.signs())

    @property
    def record(self) -> xr.Dataset:
        """The curves over ``step``; NaN where a value was not taken."""
        signs = self.signs()
        return xr.Dataset({name: ("step", values) for name, values in signs.curves.items()}, {"step": signs.steps})

    def explain(self, step: int | None = None) -> str:
        """In words, what came before the loss of a step.

        Arguments:
            step: Default: that of the largest spike.

        Raises:
            ValueError: if it was not recorded, or if no spike is on record.
        """
        return explain(self.signs(), step)


def _read(values: Sequence[Any]) -> list[float]:
    """Numbers as floats; those on a device many at once, as one at a time takes ten times as long."""
    found = list(values)
    held = [i for i, v in enumerate(values) if isinstance(v, jax.Array)]
    for start in range(0, len(held), TOGETHER):
        some = held[start : start + TOGETHER]
        padded = [values[i] for i in some] + [values[some[-1]]] * (TOGETHER - len(some))  # one program for all
        for i, number in zip(some, np.asarray(_together(*padded), float), strict=False):
            found[i] = number
    return [float(v) for v in found]


@jax.jit
def _together(*scalars: Array) -> Float[Array, " n"]:
    return jnp.stack([jnp.ravel(s)[0].astype(jnp.promote_types(s.dtype, jnp.float32)) for s in scalars])


def _size(inputs: Any) -> Any:
    """Root mean square of a batch's inputs: of some evenly spaced examples, or on the device that holds them."""
    if isinstance(inputs, jax.Array) and next(iter(inputs.sharding.device_set)).platform != "cpu":
        return _root_mean_square(inputs)
    values = np.asarray(inputs)
    values = values[:: -(-values.size // max(SAMPLE, values[0].size))].astype(np.float32)
    return math.sqrt(float(np.vdot(values, values)) / values.size)


@jax.jit
def _root_mean_square(x: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.mean(x.astype(jnp.float32) ** 2))


def _leaves(tree: PyTree) -> list[Array]:
    return [a for a in jax.tree.leaves(tree) if hasattr(a, "dtype") and _is_inexact(a.dtype)]


@functools.cache  # asked at every look, of every array
def _is_inexact(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.inexact))
