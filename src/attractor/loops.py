"""Any training loop as a problem for `attractor.compare`: PyTorch, Flax, scikit-learn, or plain Python.

```python
import numpy as np
from attractor import Loop, LogUniform, compare

def descend(x, learning_rate):
    return x - learning_rate * 2 * x

def train(make_optimizer, seed):
    x = np.random.default_rng(seed).normal(size=3)
    for _ in range(20):
        x = descend(x, **make_optimizer.config)
        yield {"loss": float(x @ x)}

found = compare(Loop(train), {"descent": (descend, {"learning_rate": LogUniform(1e-3, 1.0)})}, seeds=3, budget=4)
```
"""

import inspect
import math
import re
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attractor.engine import RESERVED
from attractor.method import Method
from attractor.outcomes import Outcome
from attractor.plan import Plan, decisive
from attractor.probe import Goal
from attractor.trace import SECONDS, describe
from attractor.transformations import is_transformation

RISING = {
    "accuracy", "acc", "score", "auc", "auroc", "f1", "precision", "recall", "reward", "return", "returns", "r2", "iou",
    "map", "bleu", "psnr", "ssim",
}  # fmt: skip
HOPELESS = "stopped as hopeless"
END = object()
AXES = ("step", SECONDS)  # keys of a record that are no measurements


class LoopError(ValueError):
    """A loop that cannot be compared, whatever the method: it yields no dicts, or not the metric."""


@dataclass(frozen=True)
class Loop:
    """A problem that is a training loop of the user's own, in any framework.

    Arguments:
        train: A generator function ``train(make_optimizer, seed)`` that builds a model, trains it with what
            ``make_optimizer`` (a `MakeOptimizer`) gives, and yields a dict of numbers at every recorded step, such as
            ``{"loss": 0.3, "accuracy": 0.9}``. Whatever is random in it has to follow from ``seed`` alone, so that
            methods are compared on the same data order and the same first weights. Two keys have a meaning:
            ``"step"``, a whole number, increasing (default: 1, 2, 3 …), and ``"wall_seconds"``, its own clock (default:
            the time spent in the generator). A measurement that a later dict leaves out keeps its last value.
        metric: Which measurement decides; default: the first of the first dict.
        goal: ``"min"`` or ``"max"``; default: by the metric's name, ``"max"`` for accuracies, scores, rewards …

    Raises:
        ValueError: if ``train`` does not take two arguments, or ``goal`` is neither.
    """

    train: Callable[..., Any]
    metric: str | None = None
    goal: Goal | None = None

    def __post_init__(self) -> None:
        try:
            inspect.signature(self.train).bind(None, 0)
        except TypeError as error:
            raise ValueError(
                f"train: expected a function train(make_optimizer, seed) that yields dicts; {self.train!r}: {error}"
            ) from error
        if self.goal not in ("min", "max", None):
            raise ValueError(f"goal: expected 'min' or 'max', got {self.goal!r}")

    @property
    def name(self) -> str:
        """The function's."""
        return getattr(self.train, "__name__", type(self.train).__name__)


def goal_of(measurement: str) -> Goal:
    """The direction in which a measurement is better, by the words of its name."""
    return "max" if RISING & set(re.split(r"[^a-z0-9]+", measurement.lower())) else "min"


@dataclass(frozen=True)
class MakeOptimizer:
    """What a loop makes its optimizer with: one method in one configuration.

    ``make_optimizer(model.named_parameters())`` is a `torch.optim.Optimizer`; without arguments, a registered name or a
    factory of optax transformations gives the transformation. Any other factory is called as
    ``factory(*arguments, **config)``, and gives what it gives. A method with a schedule (``"adamw+cosine"``) has to
    know how many steps the optimizer takes: ``make_optimizer(…, steps=n)``, which the others leave aside.

    Attributes:
        name: The method's, in the comparison.
        config: Its hyper-parameters.
        factory: What makes it.
        registered: Its registered name, if that is how it was given.
    """

    name: str
    config: dict[str, Any]
    factory: Callable[..., Any]
    registered: str | None = None

    def __call__(self, *arguments: Any, steps: int | None = None, **keywords: Any) -> Any:
        if steps is not None and "steps" in inspect.signature(self.factory).parameters:
            keywords["steps"] = steps
        if arguments and (self.registered or complete(self.factory, self.config)):
            return self._in_torch(*arguments, **keywords)
        return self.factory(*arguments, **self.config, **keywords)

    def _in_torch(self, params: Any, *arguments: Any, **keywords: Any) -> Any:
        from attractor import torch as ours  # PyTorch is an extra

        if self.registered:  # PyTorch's own, where it has one
            return ours.optimizer(self.registered, params, *arguments, **self.config, **keywords)
        made = self.factory(**self.config)
        if is_transformation(made) or isinstance(made, Method):
            return ours.Optimizer(params, made, *arguments, **keywords)
        return self.factory(params, *arguments, **self.config, **keywords)


def complete(factory: Callable[..., Any], config: Mapping[str, Any]) -> bool:
    """Whether the configuration is all that a factory has to be given."""
    try:
        inspect.signature(factory).bind(**config)
    except TypeError:
        return False
    return True


@dataclass(frozen=True)
class Unit:
    """One run: a method in its ``index``-th configuration, under one seed.

    ``bar`` says, by step, what its best value must be by then (the smaller the better) for the run to go on.
    """

    make: MakeOptimizer
    index: int
    seed: int
    bar: dict[int, float]

    @property
    def place(self) -> tuple[str, int, int]:
        """Which it is among those of a comparison."""
        return self.make.name, self.index, self.seed

    def __str__(self) -> str:
        return f"{self.make.name} ({describe(self.make.config)}), seed {self.seed}"


def execute(loop: Loop, unit: Unit, how: Plan) -> Outcome:
    """Run a loop once. What it raises is an outcome; so is a first record that is no dict of numbers with the metric.

    A run in which the metric, or what chooses configurations, is not finite has diverged, and ends there.
    """
    outcome = Outcome()
    try:
        records = loop.train(unit.make, unit.seed)
        if isinstance(records, Mapping) or not isinstance(records, Iterable):
            raise LoopError(
                f"train: expected a generator of dicts, got {type(records).__name__} from {loop.name}; "
                "it has to `yield {…}` at every recorded step"
            )
        _follow(iter(records), outcome, unit, how)
    except LoopError as error:
        outcome.failure, outcome.refused = str(error), True
    except (Exception, SystemExit) as error:  # of the user's code, whatever it is
        said = str(error).strip().split("\n")[0]
        outcome.failure = f"{type(error).__name__}: {said}" if said else type(error).__name__
        outcome.place = _place(error, loop)
    if not outcome.at and not outcome.failure:
        outcome.failure = f"{loop.name} yielded nothing"
    return outcome


def _follow(records: Iterator[Any], outcome: Outcome, unit: Unit, how: Plan) -> None:
    """Take records until they end, or diverge, or are hopeless, or enough."""
    spent, best = 0.0, math.inf
    metric = tuned_on = ""
    while how.steps is None or len(outcome.at) < how.steps:
        begun = time.perf_counter()
        record = next(records, END)
        spent += time.perf_counter() - begun
        if record is END:
            return
        if outcome.at:
            numbers = _numbers(record)
        else:
            try:
                numbers = _numbers(record)
                metric, tuned_on = _understood(numbers, unit, how)
            except (ValueError, TypeError) as error:
                raise LoopError(str(error)) from error
        step = numbers.pop("step", len(outcome.at) + 1)
        if step != int(step) or (outcome.at and step <= outcome.at[-1]):
            raise ValueError(f"step: expected whole numbers, increasing, got {step:g} after {outcome.at[-1:]}")
        outcome.seconds.append(numbers.pop(SECONDS, spent))
        for name in dict.fromkeys([*outcome.values, *numbers]):
            column = outcome.values.setdefault(name, [math.nan] * len(outcome.at))
            column.append(numbers.get(name, column[-1] if column else math.nan))
        outcome.at.append(int(step))
        for name in (metric, tuned_on):
            if not math.isfinite(value := outcome.values[name][-1]):
                outcome.failure = f"{name} is {value}"
        best = min(best, outcome.values[tuned_on][-1] * (1 if (how.goal or goal_of(metric)) == "min" else -1))
        if best > unit.bar.get(outcome.at[-1], math.inf):
            outcome.failure = HOPELESS
        if outcome.failure:
            break
    if isinstance(records, Generator):
        records.close()


def _understood(numbers: Mapping[str, float], unit: Unit, how: Plan) -> tuple[str, str]:
    """Which of the first record's numbers decide, after a look at their names."""
    names = [name for name in numbers if name not in AXES]
    if taken := (RESERVED | set(unit.make.config)) & set(names):
        raise ValueError(
            f"train: {sorted(taken)[0]!r} is the name of an axis or of a hyper-parameter; yield it under another name"
        )
    return decisive(names, how.metric, how.tuned_on)


def _numbers(record: Any) -> dict[str, float]:
    if not isinstance(record, Mapping):
        raise TypeError(f"train: expected it to yield dicts of numbers, got {type(record).__name__}")
    numbers = {}
    for name, value in record.items():
        try:
            numbers[str(name)] = float(value.item() if hasattr(value, "item") else value)
        except (TypeError, ValueError, RuntimeError) as error:  # PyTorch's of a tensor with several numbers
            raise ValueError(f"train: expected a number for {name!r}, got {value!r} ({error})") from error
    return numbers


def _place(error: BaseException, loop: Loop) -> str:
    """The innermost line of the user's file that raised, else the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    code = getattr(inspect.unwrap(getattr(loop.train, "func", loop.train)), "__code__", None)
    frame = ([f for f in frames if code and f.filename == code.co_filename] or frames)[-1]
    return f"{frame.filename}:{frame.lineno}"
