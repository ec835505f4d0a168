"""PyTorch: a monitor of a training loop, and a look at the state of a training.

```python
import torch
from attractor.torch import Monitor

model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
monitor = Monitor(model, optimizer)
for _ in range(100):
    x = torch.randn(16, 3)
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    monitor(loss)
print(monitor.diagnosis())
```
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attractor.checks import in_range
from attractor.diagnosis.explain import explain
from attractor.diagnosis.findings import Diagnosis
from attractor.diagnosis.hooks import (
    Look,
    first_tensor,
    lengths,
    numbers,
    origin,
    probabilities_as_logits,
    rms,
    tensors,
)
from attractor.diagnosis.recorder import Recorder
from attractor.diagnosis.rules import judge
from attractor.diagnosis.signs import Layer, Signs, median
from attractor.diagnosis.state.batches import input_signs

LOAN = 1e-3  # seconds that measures at every step may be ahead of their share, or behind
UNSEEN = 1.5  # what a measure takes over what is timed of it: hooks that are called, operations that are intercepted
FORGET = 0.99  # what is left of a cost after a step without it
FIRST = 8  # steps that are looked at in any case where looks do not go by the clock, and
LAST = 5  # looks that a unit has to sleep through to be called dead
RANKS = 8  # looks, of which one finds ranks, the dearest of all
EARLY = 32  # values of a layer that are kept from the start, as many as from the end
SAMPLE = 16_384  # numbers of a batch that its size is taken of, whole examples


class Monitor:
    """Watches a training loop through hooks on the model and the optimizer, and says what is wrong with it.

    At every step it keeps the loss, whether what the model puts out is finite, and the size of the inputs, as far as
    half of its ``budget`` allows: the size is left out first (and taken afterwards where the loss has jumped), and
    where steps are so short that even the loss takes more, most of them pass unseen. At looks, spaced by the rest of
    the budget, it measures what nonlinearities put out, gradients, weights and updates by layer, and the noise of the
    gradient, from pairs of consecutive steps. All that is timed, but for the first look, which is due at once. Forward
    passes in eval mode or without gradients are not counted. A loss on an accelerator is read many steps later, with
    others, so that nothing has to be waited for; where one is not finite, its origin is then not known (with ``every``
    it is read at every step).

    Arguments:
        model: What is trained.
        optimizer: What trains it.
        budget: Share of the loop's time that it may take, in (0, 1].
        every: Look at the first eight steps and every so many instead, at least 1: such a record does not depend on
            the clock. For a run of less than a second, which has few looks otherwise.
        capacity: Steps kept; older ones are thinned out.
        clock: Seconds; for tests.

    Raises:
        TypeError: if the model or the optimizer is none.
        ValueError: if the optimizer has none of the model's parameters, or a number is out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        budget: float = 0.05,
        every: int | None = None,
        capacity: int = 10_000,
        clock: Callable[[], float] = time.perf_counter,
    ):
        check(model, optimizer)
        if every is not None:
            in_range("every", every, 1.0)
        self._model, self._optimizer, self._every = model, optimizer, every
        self._recorder = Recorder(capacity, budget, clock=clock, read=_floats)
        self._step = 0
        self._layers: dict[str, _History] = {}
        self._look: Look | None = None
        self.looks = 0  # taken so far
        self._looked = self._called = self._sized = False  # in this step
        self._own = 0.0  # seconds of this step that were not a look's
        self._ended = self._recorder.clock()  # when the last step did
        self._credit = 0.0  # seconds that measures at every step may still take
        self._away = False  # whether steps pass unseen
        self._size_cost = 0.0  # seconds of the inputs' size
        self._usual = math.nan  # loss of late
        self._twice = ""
        self._classes = 0
        self._stepped = False  # since the last forward pass, the optimizer did
        self._cleared: list[bool] = []  # of this step, whether gradients were none or zero before they came
        self._kept: list[float] = []  # of looks, whether they never were
        self._watched: Any = None  # the handle of what finds that out
        self._modules: dict[str, list[Tensor]] = {}  # parameters by module, at the look
        self._inputs: tuple[tuple, dict[str, Any]] = (), {}
        self._gradients: tuple[int, list[Tensor], float] | None = None  # of the last look and their square: the noise
        embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
        self._tables = {id(p) for m in embeddings for p in m.parameters()}
        self._before: dict[Tensor, Tensor] = {}  # the parameters, before the step of a look
        self._pairs: list[float] = []
        self._spread = self._widest = self._level = math.nan
        self._batches: list[int] = []
        self._origin = self._operation = ""
        self._optimizer_hooks = [
            optimizer.register_step_pre_hook(self._step_begins),
            optimizer.register_step_post_hook(self._after_step),
        ]
        self._model_hooks = [
            model.register_forward_pre_hook(self._before_forward, with_kwargs=True),
            model.register_forward_hook(self._after_forward, always_call=True),
        ]

    def __call__(self, loss: Tensor | float, validation_loss: float | None = None) -> None:
        """Count a step; call it once a step, after ``backward``.

        Arguments:
            loss: Of this step.
            validation_loss: Where there is one.

        Raises:
            ValueError: if the loss is not a single number.
        """
        if self._away and validation_loss is None:
            self._step += 1
            self._over(0.0)
            return
        started, seen = self._recorder.clock(), loss if isinstance(loss, Tensor) else None
        if isinstance(loss, Tensor):
            if loss.numel() != 1:
                raise ValueError(f"loss: expected a single number, got shape {tuple(loss.shape)}; take its mean first")
            at_once = loss.device.type == "cpu" or self._every is not None
            loss = loss.item() if at_once else loss.detach().clone()
        if not isinstance(loss, Tensor) and not self._away:
            self._watch(loss)
        if self._looked and seen is not None and not self._twice:
            self._twice = probabilities_as_logits(seen)
        self._recorder.add(self._step, loss=loss)
        if validation_loss is not None:
            self._recorder.add(self._step, **{"validation loss": float(validation_loss)})
        self._step += 1
        self._looked = self._called = False
        self._own += self._recorder.clock() - started
        # More than a loan is not ours: another program had the processor, or a library was loaded.
        self._over(min(UNSEEN * self._own, LOAN))

    def _watch(self, loss: float) -> None:
        """Look at once for what made a loss not finite, or jump."""
        if not math.isfinite(loss) and not self._origin:
            self._search()
            self._origin = self._origin or "the loss, for what the model puts out is finite,"
        if abs(loss) > 2 * self._usual and not self._sized:
            self._measure_size()
        usual = abs(loss) if math.isnan(self._usual) else 0.9 * self._usual + 0.1 * abs(loss)
        self._usual = usual if math.isfinite(usual) else self._usual

    def _search(self) -> None:
        """Find the origin of what is not finite; once in a run, so that its time does not count."""
        started = self._recorder.clock()
        self._operation, self._origin = origin(self._model, *self._inputs)
        self._own -= self._recorder.clock() - started

    def _over(self, own: float) -> None:
        """A step is over, of which half of the budget's share may be used for measures at every step."""
        now = self._recorder.clock()
        self._recorder.delay(own)
        self._credit = min(self._credit + self._recorder.budget / 2 * (now - self._ended), LOAN) - own
        self._away = self._every is None and self._credit < (0.0 if self._away else -LOAN)
        self._ended, self._own, self._sized = now, 0.0, False

    def diagnosis(self) -> Diagnosis:
        """What is wrong so far, the likeliest cause first."""
        return judge(self.signs())

    def signs(self) -> Signs:
        """What was seen so far."""
        steps, curves = self._recorder.curves()
        curves = {"loss": np.zeros(0)} | curves
        size = median(self._batches)
        numbers = {"batch size": size, "input level": self._level}
        numbers |= {"input spread": self._spread, "widest feature": self._widest}
        if self._classes:
            numbers["classes"] = self._classes
        if self._kept:
            numbers["kept gradients"] = float(np.mean(self._kept))
        if self._pairs:
            # Of the gradient's square, what two batches have in common; the first half of a run, for at its end there
            # is noise alone.
            half = self._pairs[: max(len(self._pairs) // 2, 1)]
            share, error = float(np.mean(half)), float(np.std(half, ddof=1) / len(half) ** 0.5) if len(half) > 3 else 1
            for name, found in {"noise scale": share, "least noise scale": share + 2 * error}.items():
                numbers[name] = size * max(1 - found, 0) / found if found > 0 else math.inf
        ordered = self._in_order()
        trained = _trained(self._optimizer)
        modules = dict(self._model.named_modules())
        layers = {name: self._layers[name].layer(modules.get(name), trained) for name in ordered}
        notes = [] if self._step else ["no step was counted: call the monitor with the loss, once a step"]
        return Signs("run", steps, curves, layers, numbers, self._origin, self._operation, self._twice, notes=notes)

    def explain(self, step: int | None = None) -> str:
        """In words, what came before the loss of a step.

        Arguments:
            step: Default: that of the largest spike.

        Raises:
            ValueError: if it was not recorded, or if no spike is on record.
        """
        return explain(self.signs(), step)

    def close(self) -> None:
        """Take the hooks off the model and the optimizer."""
        for handle in (*self._optimizer_hooks, *self._model_hooks):
            handle.remove()
        self._unwatch()

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def _due(self) -> bool:
        if self._every is None:
            return self._recorder.due()
        return self._step < FIRST or self._step % self._every == 0

    def _before_forward(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if self._away or self._called or not (model.training and torch.is_grad_enabled()):
            return
        started = self._recorder.clock()
        self._called, self._inputs = True, (args, kwargs)
        fresh, self._stepped = self._stepped, False
        if self._every is not None or self._credit >= self._size_cost:
            self._measure_size()
            self._size_cost = min(self._recorder.clock() - started, LOAN / 4)
        self._size_cost *= FORGET  # so that it is tried again
        if not self._due():
            self._own += self._recorder.clock() - started
            return
        self._looked = True
        self._await_gradients(fresh)
        if self.looks % RANKS == 0:
            self._modules = self._by_module()
        self._see_inputs(args, kwargs)
        self._look = Look(model, self._recorder.clock, ranks=self.looks % RANKS == 0)
        self.looks += 1
        self._look.__enter__()
        self._took(started)

    def _after_forward(self, model: nn.Module, args: tuple, output: Any) -> None:
        if self._away:
            return
        look = self._look
        if look is None and (self._origin or not (model.training and torch.is_grad_enabled())):
            return
        started = self._recorder.clock()
        if look is not None:
            self._look = None
            look.__exit__()
        found = first_tensor(output)
        # Before the optimizer carries it into the weights; elsewhere than on the CPU it would have to be waited for.
        readable = found is not None and found.device.type == "cpu" and not self._origin and (look or self._room())
        if found is not None and readable and not math.isfinite(found.detach().sum().item()):
            self._search()
        if look is None:
            self._own += self._recorder.clock() - started
            return
        look.finished(found)
        if found is not None and found.ndim > 1:
            self._classes = found.shape[1]
        for name, layer in look.layers.items():
            self._layers.setdefault(name, _History()).saw(layer, look.asleep.get(name))
        self._took(started - look.seconds)

    def _await_gradients(self, fresh: bool) -> None:
        """Watch whether the last parameter's gradient is cleared between two steps of the optimizer.

        In the usual order it is cleared before or after the forward pass; a part of an accumulated step, and a gradient
        that another optimizer's loss left behind, are not mistaken for a gradient that stays: it has to be there
        whenever one comes.
        """
        own = [p for p in self._model.parameters() if p.requires_grad and id(p) in _trained(self._optimizer)]
        self._unwatch()
        if fresh and own:
            last = own[-1]

            def coming(_: Tensor) -> None:
                self._cleared.append(last.grad is None or not bool(last.grad.any()))

            self._watched = last.register_hook(coming)

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._watched.remove()
            self._kept += [float(not any(self._cleared))] if self._cleared else []
        self._watched, self._cleared = None, []

    def _room(self) -> bool:
        return self._every is not None or self._credit >= 0

    def _measure_size(self) -> None:
        self._sized = True
        args, kwargs = self._inputs
        x = first_tensor(args)
        x = first_tensor(kwargs) if x is None and kwargs else x
        if x is not None:
            self._recorder.add(self._step, **{"input size": _size(x)})

    def _see_inputs(self, args: tuple, kwargs: dict[str, Any]) -> None:
        given = [t for t in tensors((args, kwargs)) if t.ndim]
        if given:
            self._batches.append(len(given[0]))
        x = first_tensor((args, kwargs))
        if x is None or not x.ndim or self.looks % RANKS > 1:
            return
        seen = input_signs([x.detach().float().cpu().numpy()])
        spread = seen.get("input spread", math.nan)
        if not (math.isnan(spread) or spread <= self._spread):
            self._spread, self._widest = spread, seen.get("widest feature", math.nan)
        self._level = seen["input level"] if math.isnan(self._level) else self._level

    def _step_begins(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        closure = kwargs.get("closure", args[-1] if len(args) > 1 else None)  # the first is the optimizer
        if closure is None:
            return self._before_step() if self._looked or self._gradients is not None else None
        pending = [True]

        def watched() -> Any:  # there are gradients once the closure was called
            loss = closure()
            if pending:
                pending.clear()
                self._before_step()
            return loss

        return (optimizer, watched), {name: value for name, value in kwargs.items() if name != "closure"}

    @torch.no_grad()
    def _before_step(self) -> None:
        started = self._recorder.clock()
        self._unwatch()
        given = ((p, p.grad) for p in self._model.parameters() if p.grad is not None)
        grads: dict[Tensor, Tensor] = {p: g.to_dense() if g.is_sparse else g for p, g in given}
        own, last, self._gradients = list(grads.values()), self._gradients, None
        pairs = last[1] if last is not None and last[0] == self._step - 1 and len(own) == len(last[1]) else []
        # A row of a table that a batch does not touch says nothing of noise.
        dense = [i for i, p in enumerate(grads) if id(p) not in self._tables] if pairs else []
        common = [torch.sum(own[i] * pairs[i], dtype=torch.float32) for i in dense]
        read = numbers([*lengths(own), *common])
        squares = dict(zip(grads, (x**2 for x in read[: len(own)]), strict=True))
        square = sum(squares.values())
        noisy = sum(x**2 for p, x in zip(grads, read, strict=False) if id(p) not in self._tables)
        if last is not None and dense:
            both = (noisy + last[2]) / 2
            if both > 0 and math.isfinite(both):
                self._pairs.append(sum(read[len(own) :]) / both)
        if self._looked:
            self._before = {p: p.detach().clone() for p in self._model.parameters()}
            self._gradients = self._step, [g.detach().clone() for g in own], noisy
            for name, mine in self._modules.items():
                arrived = sum(squares.get(p, 0.0) for p in mine)
                self._layers.setdefault(name, _History()).gradient(arrived, sum(p.numel() for p in mine))
            self._recorder.add(self._step, **{"gradient norm": math.sqrt(square)})
        self._took(started)

    def _after_step(self, *_: Any) -> None:
        self._stepped = True
        if self._before:
            self._see_update()

    @torch.no_grad()
    def _see_update(self) -> None:
        started = self._recorder.clock()
        moved, weights, before = 0.0, 0.0, self._before
        changes = [p - old for p, old in before.items()]
        read = [x**2 for x in numbers([*lengths(changes), *lengths(list(before.values()))])]
        change, size = (dict(zip(before, part, strict=True)) for part in (read[: len(before)], read[len(before) :]))
        for name, own in self._modules.items():
            by, of = (sum(squares.get(p, 0.0) for p in own) for squares in (change, size))
            self._layers.setdefault(name, _History()).update(by, of)
            if any(p.requires_grad for p in own):
                moved, weights = moved + by, weights + of
        self._before = {}
        norms = {"weight norm": math.sqrt(weights), "learning rate": float(self._optimizer.param_groups[0]["lr"])}
        if weights > 0:
            norms["update ratio"] = math.sqrt(moved / weights)
        self._recorder.add(self._step, **norms)
        self._took(started)

    def _took(self, started: float) -> None:
        # Of the first look nothing is charged: it is once in a run, and finds no library loaded.
        self._recorder.spent(UNSEEN * (self._recorder.clock() - started) * (self.looks > 1))

    def _by_module(self) -> dict[str, list[Tensor]]:
        found: dict[str, list[Tensor]] = {n: [*m.parameters(recurse=False)] for n, m in self._model.named_modules()}
        return {name or "model": own for name, own in found.items() if own}

    def _in_order(self) -> list[str]:
        """Layers as they ran; those that were not seen running stand after the module before them."""
        ordered = [name for name, history in self._layers.items() if history.ran]
        names = list(self._by_module())
        for i, name in enumerate(names):
            if name in self._layers and name not in ordered:
                previous = next((n for n in reversed(names[:i]) if n in ordered), None)
                ordered.insert(ordered.index(previous) + 1 if previous else 0, name)
        return ordered


class _History:
    """What looks saw of one layer: the first values, and the latest."""

    def __init__(self) -> None:
        self.ran = self.normalized = False
        self.looks: dict[str, list[float]] = {}
        self.size = 0
        self.asleep: deque[Tensor] = deque(maxlen=LAST)

    def _add(self, name: str, value: float) -> None:
        if not math.isnan(value):
            values = self.looks.setdefault(name, [])
            values.append(value)
            if len(values) > 2 * EARLY:
                del values[EARLY]

    def saw(self, layer: Layer, asleep: Tensor | None) -> None:
        self.ran, self.normalized = True, layer.normalized
        if asleep is not None:
            self.asleep.append(asleep)
        for name in ("output", "dead", "saturated", "rank"):
            self._add(name, getattr(layer, name))

    def gradient(self, squares: float, size: int) -> None:
        self.size = size
        self._add("gradient", math.sqrt(squares / size))

    def update(self, change: float, size: float) -> None:
        self._add("weight", math.sqrt(size / self.size) if self.size else math.nan)
        self._add("update", math.sqrt(change / size) if size > 0 else (math.inf if change > 0 else 0.0))

    def dead(self) -> float:
        """The share of units that slept through the last few batches: a unit that is not dead may sleep through one."""
        masks = [mask for mask in self.asleep if mask.shape == self.asleep[-1].shape]
        return float(torch.stack(masks).all(0).float().mean()) if masks else math.nan

    def layer(self, module: nn.Module | None, trained: set[int]) -> Layer:
        first = {name: values[0] for name, values in self.looks.items()}
        last = {name: values[-1] for name, values in self.looks.items()}
        own = [] if module is None else list(module.parameters(recurse=False))
        return Layer(
            size=sum(p.numel() for p in own),
            trained=any(p.requires_grad and id(p) in trained for p in own) if own else None,
            reached=any(g > 0 for g in self.looks["gradient"]) if "gradient" in self.looks else None,
            weight=last.get("weight", math.nan),
            gradient=median(self.looks.get("gradient", ())),
            first_gradient=median(self.looks.get("gradient", ())[:4]),
            update=median(self.looks.get("update", ())),
            output=first.get("output", math.nan),
            normalized=self.normalized,
            dead=self.dead(),
            first_dead=first.get("dead", math.nan),
            saturated=median(self.looks.get("saturated", ())[-3:]),
            first_saturated=first.get("saturated", math.nan),
            rank=last.get("rank", math.nan),
        )


def _size(x: Tensor) -> float | Tensor:
    """Root mean square of a batch's inputs; of some evenly spaced examples where it is large. It is not waited for."""
    n = x.numel()
    few = x.detach()[:: -(-n // max(SAMPLE, n // len(x)))] if x.ndim and n > SAMPLE else x.detach()
    if few.device.type != "cpu" and n:
        return torch.linalg.vector_norm(few, dtype=torch.float32) / few.numel() ** 0.5
    if few.dtype is not torch.float32 or not n:
        return rms(few)
    flat = few.reshape(-1)  # a third of the time of a norm
    return math.sqrt(torch.dot(flat, flat).item() / len(flat))


def _floats(values: Sequence[Any]) -> list[float]:
    """What was recorded as floats: what is held on an accelerator all at once."""
    found = list(values)
    held = [i for i, v in enumerate(values) if isinstance(v, Tensor)]
    for i, number in zip(held, numbers([values[i] for i in held]), strict=True):
        found[i] = number
    return [float(v) for v in found]


def check(model: Any, optimizer: Any) -> None:
    """Refuse what cannot be watched, by name."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer: expected a torch.optim.Optimizer, got {type(optimizer).__name__}")
    if not _trained(optimizer) & {id(p) for p in model.parameters()}:
        raise ValueError(
            "optimizer: expected one with parameters of the model, got none of them; "
            "was the model copied, moved or made anew after the optimizer?"
        )


def _trained(optimizer: torch.optim.Optimizer) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}
