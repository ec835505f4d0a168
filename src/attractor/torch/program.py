"""The compiled step of one group of parameters: what crosses between PyTorch and JAX, and the program in between."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import torch
from jaxtyping import PyTree
from torch import Tensor

from attractor.masks import operator_on_parts
from attractor.torch.together import Interpreter, Layout
from attractor.transformations import as_transformation, update

ELSEWHERE = {
    "value_fn": "the loss at other points",
    "obj_fn": "the loss at other points",
    "grad_fn": "gradients at other points",
    "per_example": "the gradient of every example",
}


class Unavailable(ValueError):
    """A transformation asks for what PyTorch's loop does not give."""


class Program:
    """A transformation with its state, and its step on a group's tensors.

    Arguments:
        make: Makes the transformation, given hyper-parameters that may be traced.
        hyper: Their values.
        named: ``(name, tensor)`` of every parameter, in the group's order.

    Attributes:
        curvature: Whether the transformation multiplies by the Hessian.

    Raises:
        ValueError: for tensors that JAX cannot hold, or a transformation that cannot work in PyTorch's loop.
    """

    def __init__(self, make: Callable[..., Any], hyper: Mapping[str, float], named: Sequence[tuple[str, Tensor]]):
        self._order = sorted(range(len(named)), key=lambda i: named[i][0])  # JAX's, of a dict
        self._names = [named[i][0] for i in self._order]
        self.home = home([tensor for _, tensor in named])
        # A copy: transformations may keep the parameters they are given, and PyTorch will overwrite these.
        params = {name: jnp.array(to_jax(name, t.detach().to(self.home)), copy=True) for name, t in named}
        self._make, self.curvature = make, False
        self._graph: tuple[list[Tensor], list[Tensor]] = [], []  # of the step's gradients, for hvp
        self._layout = Layout(params)
        self._slots = [[Slots(self._layout, part, self.home) for part in self._layout.parts] for _ in range(2)]
        state = jax.tree.map(jnp.asarray, as_transformation(make(**hyper)).init(params))
        self._like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
        self._pack, self._unpack = jax.jit(self._packed), jax.jit(self._unpacked)
        self._arrays: list[jax.Array] = self._pack(state)
        # The last step's parameters are where the next are written: fresh memory costs as much as the arithmetic.
        self._moved = jax.tree.map(jnp.zeros_like, self._layout.pack(params))
        self._step = jax.jit(self._traced, donate_argnums=(2, 3), keep_unused=True)
        self._try(hyper)

    def step(
        self, tensors: Sequence[Tensor], key: jax.Array, turn: tuple[int, int], hyper: Mapping, extra: Mapping
    ) -> None:
        """Move those of the group's tensors that have a gradient; to the transformation the others' is zero."""
        tensors = [tensors[i] for i in self._order]
        grads = [t.grad for t in tensors]
        if self.curvature and not any(g is not None and g.requires_grad for g in grads):
            raise ValueError(
                "hvp: this method multiplies by the Hessian, which PyTorch can only if the gradients can be "
                "differentiated themselves; call loss.backward(create_graph=True) before step()"
            )
        if self.curvature:
            self._graph = tensors, [torch.zeros(()) if g is None else g for g in grads]
        arrays = [self._gather(slots, of) for slots, of in zip(self._slots, (tensors, grads), strict=True)]
        rest = {"hyper": dict(hyper), "key": key, "turn": turn, "extra": dict(extra)}
        self._arrays, self._moved = self._step(*arrays, self._arrays, self._moved, rest)
        jax.block_until_ready(self._moved)  # what JAX reads is about to change under its feet
        self._graph = [], []
        self._scatter(self._moved, tensors)

    @property
    def state(self) -> PyTree:
        """The transformation's own state."""
        return self._unpack(self._arrays)

    @state.setter
    def state(self, state: PyTree) -> None:
        self._arrays = self._pack(state)

    def _gather(self, slots: list["Slots"], tensors: Sequence[Tensor | None]) -> list[jax.Array]:
        """The arrays of the layout, of tensors or absent gradients."""
        for part in slots:
            part.fill(tensors)
        names, like = self._names, self._layout.like
        alone = []
        for i in self._layout.alone:
            t = tensors[i]
            found = jnp.zeros(like[i].shape, like[i].dtype) if t is None else to_jax(names[i], t.to(self.home))
            alone.append(found)
        return [*(to_jax("parameters", part.flat) for part in slots), *alone]

    def _scatter(self, arrays: list[jax.Array], tensors: list[Tensor]) -> None:
        """New values, to the tensors that have a gradient."""
        flat = [torch.from_dlpack(a) for a in arrays]
        values = dict(zip(self._layout.alone, flat[len(self._layout.parts) :], strict=True))
        for part, t in zip(self._layout.parts, flat, strict=False):
            pieces = t.split([self._layout.like[i].size for i in part])
            values |= zip(part, pieces, strict=True)
        moved = [i for i, t in enumerate(tensors) if t.grad is not None]
        to = [tensors[i] for i in moved]
        new = [values[i].view(tensors[i].shape) for i in moved]
        torch._foreach_copy_(to, new)  # pyright: ignore[reportPrivateImportUsage]

    def _traced(self, params: list, grads: list, arrays: list, memory: list, rest: dict[str, Any]) -> Any:
        """What is compiled."""
        # The barrier keeps a state that merely stores what it is given from sharing memory with PyTorch.
        params, grads = jax.lax.optimization_barrier((params, grads))
        layout = self._layout
        like = jax.tree.unflatten(layout.structure, layout.like)
        program, shapes = jax.make_jaxpr(self._update, return_shape=True)(like, like, self._like, rest)
        if jax.tree.structure(shapes[1]) != jax.tree.structure(self._like):
            raise TypeError(f"transformation: its update changes its state's structure, to {shapes[1]}")
        interpreter = Interpreter(layout)
        args = [*interpreter.spread(params), *interpreter.spread(grads)]
        parts, _ = self._parts(self._like)
        arrays = list(arrays)
        for part in parts:
            n = layout.number if layout.fits(part) else 1
            args += interpreter.spread(arrays[:n]) if layout.fits(part) else arrays[:1]
            del arrays[:n]
        found = interpreter.run(program.jaxpr, program.consts, [*args, *jax.tree.leaves(rest)])
        new = interpreter.join(found[: len(layout.like)], layout.like)
        state, found = [], found[len(layout.like) :]
        for part in parts:
            like = jax.tree.leaves(part)
            here, found = found[: len(like)], found[len(like) :]
            if layout.fits(part):
                state += interpreter.join(here, like)
            else:
                state.append(interpreter.value(here[0], like[0].shape).astype(like[0].dtype))
        return state, new  # in the order of the arguments whose memory they take

    def _update(self, x: PyTree, grads: PyTree, state: PyTree, rest: dict[str, Any]) -> tuple[PyTree, PyTree]:
        """The step on the tree."""
        offered = {
            "key": functools.reduce(jr.fold_in, rest["turn"], rest["key"]),
            "grad": grads,
            "hvp": operator_on_parts(self._hvp, x),
            **rest["extra"],
            **self._refusing,
        }
        transformation = as_transformation(self._make(**rest["hyper"]))
        updates, state = update(transformation, grads, state, x, offered)
        return optax.apply_updates(x, updates), state

    def _hvp(self, v: PyTree) -> PyTree:
        """The Hessian times ``v``, by PyTorch, at the step's gradients."""
        self.curvature = True
        like = jax.tree.unflatten(self._layout.structure, self._layout.like)
        return jax.pure_callback(self._products, like, v, vmap_method="sequential")

    def _products(self, v: dict[str, Any]) -> dict[str, np.ndarray]:
        at, slopes = self._graph
        to = [to_torch(v[name]).to(g.device) for name, g in zip(self._names, slopes, strict=True)]
        curved = [i for i, g in enumerate(slopes) if g.requires_grad]  # the others do not depend on the parameters
        free = [i for i, t in enumerate(at) if t.requires_grad]  # the others are frozen: nothing moves them
        found = torch.autograd.grad(
            [slopes[i] for i in curved],
            [at[i] for i in free],
            [to[i] for i in curved],
            retain_graph=True,
            materialize_grads=True,
        )
        products = {i: torch.zeros_like(t) for i, t in enumerate(at)} | dict(zip(free, found, strict=True))
        return {name: to_numpy(products[i]) for i, name in enumerate(self._names)}

    def _try(self, hyper: Mapping[str, float]) -> None:
        """Trace a step: who cannot work here is told now, and what is missing."""
        shapes = self._layout.arrays()
        rest = {"hyper": dict(hyper), "key": jr.key(0), "turn": (0, 0)}
        refusing = {name: functools.partial(_refuse, name) for name in ELSEWHERE}
        value = {"value": jnp.float32(0)}
        failed: Exception | None = None
        for extra, self._refusing in (({}, {}), (value, {}), (value, refusing)):
            try:
                self._step.eval_shape(shapes, shapes, self._arrays, shapes, rest | {"extra": extra})
                break
            except (Unavailable, jax.errors.ConcretizationTypeError):
                raise
            except Exception as error:
                failed = error
        else:
            assert failed is not None
            raise failed
        if self._refusing:
            self._refusing = {}
            raise failed or AssertionError

    def _parts(self, state: PyTree) -> tuple[list[PyTree], Any]:
        """A state's subtrees that are laid out as the parameters, and its other leaves."""
        return jax.tree.flatten(state, is_leaf=self._layout.fits)

    def _packed(self, state: PyTree) -> list[jax.Array]:
        fits = self._layout.fits
        return [a for part in self._parts(state)[0] for a in (self._layout.pack(part) if fits(part) else [part])]

    def _unpacked(self, arrays: list[jax.Array]) -> PyTree:
        parts, structure = self._parts(self._like)
        arrays, found = list(arrays), []
        for part in parts:
            n = self._layout.number if self._layout.fits(part) else 1
            found.append(self._layout.unpack(arrays[:n]) if self._layout.fits(part) else arrays[0])
            del arrays[:n]
        return jax.tree.unflatten(structure, found)


class Slots:
    """A tensor that holds a part's leaves end to end, and the views of it where they lie."""

    def __init__(self, layout: Layout, part: list[int], device: torch.device):
        sizes = [layout.like[i].size for i in part]
        self._part = part
        self.flat = to_torch(jnp.zeros(sum(sizes), layout.like[part[0]].dtype)).to(device).clone()
        views = self.flat.split(sizes)
        self._views = [view.view(layout.like[i].shape) for i, view in zip(part, views, strict=True)]

    def fill(self, tensors: Sequence[Tensor | None]) -> None:
        """Copy the leaves' tensors here; zero where there is none."""
        found = [t for t in (tensors[i] for i in self._part) if t is not None]
        views = self._views
        if len(found) < len(views):
            views = [view for view, i in zip(views, self._part, strict=True) if tensors[i] is not None]
            self.flat.zero_()
        if found:
            torch._foreach_copy_(views, found)  # pyright: ignore[reportPrivateImportUsage]


def _refuse(name: str, *_: Any, **__: Any) -> NoReturn:
    raise Unavailable(
        f"{name}: this method asks for {ELSEWHERE[name]}, which a PyTorch loop does not give; "
        "run it in JAX (attractor.run), or choose a method that needs gradients or hvp only"
    )


def home(tensors: Sequence[Tensor]) -> torch.device:
    """Where JAX works on these tensors: their device if it has that one, else the CPU, with a warning.

    Raises:
        ValueError: if they lie on several devices.
    """
    devices = {t.device for t in tensors}
    if len(devices) > 1:
        raise ValueError(f"params: on {', '.join(sorted(map(str, devices)))}; give each device a group of its own")
    device = devices.pop() if devices else torch.device("cpu")
    if device.type == "cpu":
        return device
    try:
        jax.dlpack.from_dlpack(torch.zeros(1, device=device))
    except Exception as error:  # what JAX raises depends on what it lacks: the plugin, the driver, the device
        warnings.warn(
            f"JAX has no {device} ({error}): every step copies parameters and gradients to the CPU and back; "
            "install JAX for this device, such as jax[cuda13]",
            stacklevel=2,
        )
        return torch.device("cpu")
    return device


def to_jax(name: str, tensor: Tensor) -> jax.Array:
    """A tensor as JAX's array, without a copy where it is contiguous."""
    if not tensor.is_floating_point():
        raise ValueError(f"params: expected floating-point tensors, got {tensor.dtype} ({name})")
    if tensor.dtype == torch.float64 and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(f"params: float64 ({name}) needs jax.config.update('jax_enable_x64', True)")
    try:
        return jax.dlpack.from_dlpack(tensor.detach().contiguous())
    except Exception as error:
        raise ValueError(f"params: JAX cannot take {name}, on {tensor.device}, over DLPack: {error}") from error


def to_torch(array: Any) -> Tensor:
    """JAX's array as a tensor, without a copy."""
    return torch.from_dlpack(jnp.asarray(array))


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A tensor as NumPy's array, bfloat16 too."""
    return np.asarray(jax.dlpack.from_dlpack(tensor.detach().contiguous()))
