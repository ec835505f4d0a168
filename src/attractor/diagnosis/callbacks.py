"""The monitor as a callback of Lightning's trainer, and of Hugging Face's.

```python
import lightning
from attractor.diagnosis.callbacks import LightningMonitor

watch = LightningMonitor(report="why.html")
lightning.Trainer(callbacks=[watch]).fit(model, data)
print(watch.diagnosis())
```
"""

import importlib
import math
import sys
import warnings
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attractor.checks import in_range
from attractor.diagnosis.columns import curve_of
from attractor.diagnosis.findings import Diagnosis
from attractor.extras import missing

if TYPE_CHECKING:
    from torch import nn

    from attractor.diagnosis.torch import Monitor


class Watch:
    """What both callbacks share: a monitor that is told of each step with the validation that followed it.

    The class of the framework is put under it when an object is made, so that neither framework is needed to import
    this module.

    Arguments:
        budget: Share of the training's time that it may take, in (0, 1].
        report: Where to write the findings at the end: a page (``….html``) or ``….json``.

    Raises:
        ImportError: without the framework.
        ValueError: for a budget or a name that is not accepted.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> "Watch":
        return object.__new__(_over(cls))

    def __init__(self, *, budget: float = 0.05, report: str | None = None):
        super().__init__()
        in_range("budget", budget, 0.0, 1.0, open_low=True)
        if report is not None and Path(report).suffix.lower() not in (".html", ".htm", ".json"):
            raise ValueError(f"report: expected a name that ends in .html or .json, got {report!r}")
        self.budget, self.report = budget, report
        self.monitor: Monitor | None = None
        self._loss: Any = None  # of the last step, of which the monitor is told when the next one begins
        self._validation: float | None = None
        self._warned = False

    def __reduce__(self) -> Any:  # a copy, for another process, has seen nothing
        own = next(c for c in type(self).__mro__ if c in (LightningMonitor, TrainerMonitor))
        return partial(own, budget=self.budget, report=self.report), ()

    @staticmethod
    def framework() -> type:
        """The class of the framework, imported."""
        raise NotImplementedError

    def diagnosis(self) -> Diagnosis:
        """What is wrong so far, the likeliest cause first.

        Raises:
            RuntimeError: before the training has begun.
        """
        if self.monitor is None:
            raise RuntimeError("there is nothing to say yet: no training has begun with this callback")
        self._tell()
        return self.monitor.diagnosis()

    def _start(self, model: "nn.Module", optimizers: list[Any]) -> "Monitor":
        from attractor.diagnosis.torch import Monitor

        self._stop()
        own = {id(p) for p in model.parameters()}
        # Wrappers such as accelerate's have no hooks of their own; what they wrap has.
        bare = [getattr(o, "optimizer", o) for o in optimizers]
        theirs = [o for o in bare if any(id(p) in own for group in o.param_groups for p in group["params"])]
        self.monitor = Monitor(model, (theirs or bare)[0], budget=self.budget)
        return self.monitor

    def _count(self, loss: Any) -> None:
        self._tell()
        self._loss = loss

    def _tell(self) -> None:
        """Count the last step, if that has not been done."""
        if self.monitor is not None and self._loss is not None:
            self.monitor(self._loss, self._validation)
        self._loss = self._validation = None

    def _validated(self, metrics: dict[str, Any]) -> None:
        """Take the validation's loss from what the framework recorded."""
        found = [float(v) for name, v in metrics.items() if curve_of(name) == "validation loss"]
        if found and math.isfinite(found[0]):
            self._validation = found[0]

    def _stop(self) -> None:
        self._tell()
        if self.monitor is not None:
            self.monitor.close()

    def _finish(self) -> None:
        self._stop()
        if self.monitor is not None and self.report is not None:
            self.diagnosis().save(self.report)

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(text, stacklevel=3)


@cache
def _over(cls: type) -> type:
    """A callback's class with the framework's beneath it."""
    base = cls.framework()  # pyright: ignore[reportAttributeAccessIssue]
    return cls if issubclass(cls, base) else type(cls.__name__, (cls, base), {"__module__": cls.__module__})


class LightningMonitor(Watch):
    """A callback for Lightning's ``Trainer`` that watches the training and explains it.

    It follows the first network that a training step calls: the module itself, or a part such as ``self.net``; one
    optimizer, and the loss that ``training_step`` returns. A validation loss is found among the logged metrics by its
    name, such as ``val_loss``. Needs the extra ``attractor[lightning]``.

    Arguments and errors are those of `Watch`.
    """

    @staticmethod
    def framework() -> type:
        """Lightning's ``Callback``, of the package that the program uses."""
        packages = ["lightning.pytorch", "pytorch_lightning"]
        packages.sort(key=lambda name: name not in sys.modules)
        return _first_of(packages, "Callback", "lightning")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Wait for the first network that is called."""
        self._losses: list[Any] = []
        if not trainer.is_global_zero:
            return
        handles: list[Any] = []

        def called(module: Any, *_: Any) -> None:
            if module.training and handles:
                for handle in handles:
                    handle.remove()
                handles.clear()
                self._start(module, list(trainer.optimizers))

        candidates = [m for m in (pl_module, *pl_module.children()) if next(m.parameters(), None) is not None]
        handles += [m.register_forward_pre_hook(called) for m in candidates]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count a step, once its optimizer has moved."""
        if self.monitor is None:
            return
        loss = outputs.get("loss") if hasattr(outputs, "get") else outputs
        if loss is None:
            self._warn("LightningMonitor: training_step returned no loss, so these steps are not counted")
            return
        # Lightning gives each part of an accumulated step its share of the mean.
        self._losses.append(loss.detach() if hasattr(loss, "detach") else loss)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch:
            self._count(sum(self._losses))
            self._losses = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The step before, and the validation after it, are complete."""
        self._tell()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep the validation's loss for the step before; that of Lightning's check before the first is dropped."""
        self._validated(trainer.callback_metrics)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the hooks off, and write the report."""
        self._finish()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The same where the training fails."""
        self._finish()


class TrainerMonitor(Watch):
    """A callback for Hugging Face's ``Trainer`` that watches the training and explains it.

    The loss is the one in the model's output; where there is none (label smoothing, a loss of one's own), the logged
    one, as often as it is logged. Gradients are seen as the optimizer gets them: clipped, where ``max_grad_norm`` is
    set. Needs the extra ``attractor[transformers]``.

    Arguments and errors are those of `Watch`.
    """

    @staticmethod
    def framework() -> type:
        """The ``TrainerCallback`` of transformers."""
        return _first_of(["transformers"], "TrainerCallback", "transformers")

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Put the hooks on."""
        self._losses: list[Any] = []
        self._summed = False
        if not state.is_world_process_zero:
            return
        model = given["model"]
        self._start(model, [given["optimizer"]])
        self._handle = model.register_forward_hook(self._forward, with_kwargs=True)

    def _forward(self, model: Any, args: Any, given: dict[str, Any], output: Any) -> None:
        loss = output.get("loss") if hasattr(output, "get") else None
        if model.training and loss is not None and loss.requires_grad:
            self._losses.append(loss.detach())
            # Then each part of an accumulated step is divided by the examples of all, and their sum is the mean.
            self._summed = given.get("num_items_in_batch") is not None

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """The step before, and the validation after it, are complete."""
        self._tell()

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Count a step."""
        if self._losses:
            total = sum(self._losses)
            self._count(total if self._summed else total / len(self._losses))
            self._losses = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **given: Any) -> None:
        """Count a step by the logged loss, where the model gives none."""
        if self._loss is None and logs and "loss" in logs and self.monitor is not None:
            self._count(float(logs["loss"]))

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, Any] | None = None, **given: Any
    ) -> None:
        """Keep the validation's loss for the step before."""
        self._validated(metrics or {})

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Take the hooks off, and write the report."""
        if self.monitor is not None:
            self._handle.remove()
        self._finish()


def _first_of(packages: list[str], name: str, extra: str) -> type:
    for package in packages:
        try:
            return getattr(importlib.import_module(package), name)
        except ModuleNotFoundError as error:
            if error.name not in (package, package.partition(".")[0]):
                raise
    raise missing(" or ".join(packages), extra)
