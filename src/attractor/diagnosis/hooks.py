"""Looks into a PyTorch model's forward pass: what its nonlinearities put out, and where a number stops being finite."""

import contextlib
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from attractor.diagnosis.signs import NAN, Layer

ROWS = 128  # of a layer's outputs, for its rank

# Nonlinearities by name, with the ends of their range.
_BOUNDED = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "hardtanh": (-1.0, 1.0), "hardsigmoid": (0.0, 1.0)}
_FREE = ("relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus", "relu6", "selu", "celu")
_NAMES: dict[Any, str] = {}
for _name in (*_BOUNDED, *_FREE):
    for _home in (torch, torch.Tensor, F, torch._C._nn):  # pyright: ignore[reportAttributeAccessIssue]
        for _spelled in (_name, f"{_name}_"):
            if hasattr(_home, _spelled):
                _NAMES[getattr(_home, _spelled)] = _name
_RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)


class Look:
    """One forward pass, watched: enter it before the model is called and leave it after.

    Modules and nonlinearities fill `layers` as they run, in their order; what a module does inside, such as
    ``F.relu``, is named after it. Their numbers are there once it has `finished`: all are read at once, ranks apart, so
    that an accelerator is waited for once.

    Arguments:
        model: Whose pass it is.
        clock: Seconds.
        ranks: Whether ranks are found, which takes the most time.
    """

    def __init__(self, model: nn.Module, clock: Callable[[], float] = time.perf_counter, ranks: bool = True):
        self.layers: dict[str, Layer] = {}
        self.asleep: dict[str, Tensor] = {}  # by nonlinearity, which units are constant over the batch
        self.last: Tensor | None = None  # what the last nonlinearity gave, and its name
        self.last_name = ""
        self.seconds = 0.0  # that it took inside the pass
        self._model, self._clock, self._ranks = model, clock, ranks
        self._stack: list[str] = []
        self._handles: list[Any] = []
        self._unread: list[tuple[Layer, str, Tensor, float]] = []  # where a number goes, and by what it is multiplied
        self._mode = _Nonlinearities(self)

    def __enter__(self) -> "Look":
        for name, module in self._model.named_modules():
            if module is not self._model:
                self._handles.append(module.register_forward_pre_hook(self._entered(name)))
                self._handles.append(module.register_forward_hook(self._left(name), always_call=True))
        self._mode.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._mode.__exit__(*(failure or (None, None, None)))
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _entered(self, name: str) -> Callable:
        def hook(module: nn.Module, inputs: Any) -> None:
            self._stack.append(name)

        return hook

    def _left(self, name: str) -> Callable:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if self._stack:
                self._stack.pop()
            output = first_tensor(output)
            if output is None or name in self.layers or not any(True for _ in module.parameters(recurse=False)):
                return
            started = self._clock()
            layer = self._layer(name, output, "Norm" in type(module).__name__)
            if self._ranks and _is_linear(module):
                layer.rank = effective_rank(output, _inputs(module))
            if isinstance(module, _RECURRENT):
                self._judge(name, output, _BOUNDED["tanh"])
            self.seconds += self._clock() - started

        return hook

    def _layer(self, name: str, output: Tensor, normalized: bool = False) -> Layer:
        layer = self.layers[name] = Layer(normalized=normalized)
        if output.numel():
            norm = torch.linalg.vector_norm(output.detach(), dtype=torch.float32)
            self._unread.append((layer, "output", norm, output.numel() ** -0.5))
        return layer

    def saw(self, kind: str, output: Tensor) -> None:
        """A nonlinearity ran."""
        started = self._clock()
        inside = self._stack[-1] if self._stack else ""
        name = inside or kind
        if name in self.layers:  # a function beside parameters, or one of several in a module
            name = next(n for i in range(1, 1000) if (n := f"{inside}.{kind}{i if i > 1 else ''}") not in self.layers)
        self._layer(name, output)
        self._judge(name, output, _BOUNDED.get(kind))
        self.last, self.last_name = output, name
        self.seconds += self._clock() - started

    @torch.no_grad()
    def _judge(self, name: str, output: Tensor, ends: tuple[float, float] | None) -> None:
        """Which units are the same for all inputs, and which values are at the ends of the range."""
        units, layer = as_rows(output), self.layers[name]
        if len(units) < 2:
            return
        low, high = units.amin(0), units.amax(0)
        size = torch.maximum(low.abs(), high.abs())
        same = (high - low) <= 1e-6 * size
        if ends is not None:  # a gate that is shut lets a little through still
            same |= size <= 1e-3
        self.asleep[name] = same
        self._unread.append((layer, "dead", same.float().mean(), 1.0))
        if ends is not None:
            margin = 0.01 * (ends[1] - ends[0])
            at_end = (units <= ends[0] + margin) | (units >= ends[1] - margin)
            self._unread.append((layer, "saturated", at_end.float().mean(), 1.0))

    def finished(self, output: Tensor | None) -> None:
        """Read what was measured. A nonlinearity that gives the model's own output is not judged: it may well be at an
        end.
        """
        read = numbers([x for _, _, x, _ in self._unread])
        for (layer, name, _, factor), value in zip(self._unread, read, strict=True):
            setattr(layer, name, factor * value)
        self._unread.clear()
        if output is not None and self.last is output:
            self.layers[self.last_name].saturated = self.layers[self.last_name].dead = NAN
            self.asleep.pop(self.last_name, None)
        self.last = None


class _Nonlinearities(TorchFunctionMode):
    def __init__(self, look: Look):
        super().__init__()
        self._look, self._inside = look, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = _NAMES.get(func)
        if kind is None or self._inside:
            return func(*args, **(kwargs or {}))
        self._inside = True  # F.relu calls torch.relu
        try:
            output = func(*args, **(kwargs or {}))
            if isinstance(output, Tensor):
                self._look.saw(kind, output)
        finally:
            self._inside = False
        return output


def _is_linear(module: nn.Module) -> bool:
    return getattr(getattr(module, "weight", None), "ndim", 0) >= 2 and not isinstance(module, nn.Embedding)


def _inputs(module: Any) -> int:
    """How many numbers the outputs of a linear map are made of: more dimensions they cannot fill."""
    shape, groups = module.weight.shape, getattr(module, "groups", 1)
    # A transposed convolution's inputs are counted over all groups already.
    return math.prod(shape[:1] + shape[2:]) if "Transpose" in type(module).__name__ else groups * math.prod(shape[1:])


_PROBABILITIES = {"SoftmaxBackward0": "softmax", "SigmoidBackward0": "sigmoid"}
_OF_LOGITS = ("LogSoftmaxBackward0", "BinaryCrossEntropyWithLogitsBackward0", "LogSigmoidBackward0")
_VIEWS = ("View", "Reshape", "UnsafeView", "Squeeze", "Unsqueeze", "Select", "Slice", "Transpose", "Permute", "Alias",
          "ToCopy", "T", "Clone", "Neg")  # fmt: skip
NODES = 200  # of a loss's graph that are walked through


def probabilities_as_logits(loss: Tensor) -> str:
    """A softmax or sigmoid that is fed to a cross-entropy which applies its own, in words; empty where none is.

    It is read off the graph of the loss, which stays after ``backward``, near its end.
    """
    nodes, seen = [loss.grad_fn], 0
    while nodes and seen < NODES:
        node, seen = nodes.pop(0), seen + 1
        if node is None:
            continue
        nodes += [n for n, _ in node.next_functions]
        if node.name() in _OF_LOGITS:
            before = node.next_functions[0][0]
            while before is not None and re.sub(r"Backward\d*$", "", before.name()) in _VIEWS:
                before = before.next_functions[0][0]
            if before is not None and before.name() in _PROBABILITIES:
                return f"a {_PROBABILITIES[before.name()]} before {node.name().removesuffix('Backward0')}"
    return ""


def as_rows(x: Tensor) -> Tensor:
    """Values by unit, ``(rows, units)``: channels of images are units, else the last axis is."""
    x = x.detach()
    if x.ndim < 2:
        return x.reshape(-1, 1)
    return (x.movedim(1, -1) if x.ndim >= 4 else x).flatten(0, -2)


@torch.no_grad()
def numbers(scalars: Sequence[Tensor]) -> list[float]:
    """Tensors of one number each as floats, all at once: so an accelerator is waited for once."""
    if len({x.device for x in scalars}) > 1:
        return [x.item() for x in scalars]
    return torch.stack([x.detach().reshape(()).float() for x in scalars]).tolist() if scalars else []


@torch.no_grad()
def lengths(arrays: Sequence[Tensor]) -> list[Tensor]:
    """The root of the sum of squares of each of them, where it is."""
    same = len({(x.dtype, x.device) for x in arrays}) == 1 and arrays[0].dtype is torch.float32
    if same:  # a few kernels for all
        return list(torch._foreach_norm([x.detach() for x in arrays]))  # pyright: ignore[reportPrivateImportUsage]
    return [torch.linalg.vector_norm(x.detach(), dtype=torch.float32) for x in arrays]


def length(x: Tensor) -> float:
    """The root of the sum of squares of all entries."""
    return torch.linalg.vector_norm(x.detach(), dtype=torch.float32).item()


def rms(x: Tensor) -> float:
    """Root mean square of all entries."""
    return length(x) / x.numel() ** 0.5 if x.numel() else NAN


@torch.no_grad()
def effective_rank(x: Tensor, most: int | None = None) -> float:
    """The effective rank of a layer's centered outputs over the largest possible one, on at most `ROWS` rows.

    Arguments:
        x: The outputs.
        most: Dimensions that they can fill besides; default: all.
    """
    rows = as_rows(x).float()
    rows = rows[:: max(len(rows) // ROWS, 1)][:ROWS]
    rows = rows / rows.abs().max().clamp(min=1e-30)
    possible = min(len(rows) - 1, rows.shape[1], rows.shape[1] if most is None else most)
    if possible < 4 or not bool(torch.isfinite(rows).all()):
        return NAN
    centered = (rows - rows.mean(0)).double()  # for the squares of singular values, which are quicker to have
    gram = centered @ centered.T if len(rows) <= rows.shape[1] else centered.T @ centered
    sigma = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    if float(sigma.sum()) <= 1e-12:
        return 0.0
    p = sigma / sigma.sum()
    return float(torch.exp(-(p * torch.log(p.clamp(min=1e-30))).sum())) / possible


def tensors(tree: Any) -> list[Tensor]:
    """All tensors of nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return [t for child in children for t in tensors(child)]


def first_tensor(tree: Any) -> Tensor | None:
    """The first of them that is floating-point."""
    if isinstance(tree, Tensor):  # the usual case, at every step
        return tree if tree.is_floating_point() else None
    return next((t for t in tensors(tree) if t.is_floating_point()), None)


class _Found(Exception):
    """The search is over."""


class _Finite(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operation = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if not _all_finite(output) and _all_finite((args, kwargs)):
            self.operation = str(func).removeprefix("aten.").split(".")[0]
            raise _Found
        return output


def _all_finite(tree: Any) -> bool:
    return all(not t.is_floating_point() or not t.numel() or bool(torch.isfinite(t).all()) for t in tensors(tree))


@torch.no_grad()
def origin(model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[str, str]:
    """The first operation that makes a forward pass not finite, and where that is, in words.

    The pass is made again, on copies of the buffers. Both are empty where everything is finite.
    """
    broken = [name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())]
    if broken:
        return "", f"the backward pass behind {broken[-1]}, which it made not finite,"
    if not _all_finite((args, kwargs)):
        return "", "the batch: its inputs are not finite, it"
    stack, handles = [], []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, n=name: stack.append(n)))
        handles.append(module.register_forward_hook(lambda *_: (stack.pop(), None)[1]))
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    mode = _Finite()
    try:
        with contextlib.suppress(_Found), torch.random.fork_rng(devices=[]), mode:
            torch.func.functional_call(model, buffers, args, kwargs)
    finally:
        for handle in handles:
            handle.remove()
    if not mode.operation:
        return "", ""
    where = stack[-1] if stack and stack[-1] else "the model itself"
    return mode.operation, f"the operation {mode.operation} in {where}"
