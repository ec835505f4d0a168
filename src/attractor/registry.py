"""Names: what the command line and `compare` know methods and problems by, with their search spaces."""

import functools
import importlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import optax
from scipy.stats import qmc

from attractor.checks import in_range
from attractor.method import Method, as_method, kind, ranges
from attractor.names import unknown
from attractor.schedules import SCHEDULES

# Modules that register methods; imported on first use, so that the core does not depend on the rooms.
ROOMS = (
    "nn", "linalg", "optim", "second_order", "games", "blackbox", "distributed", "credit", "landscape", "operators",
    "physics", "dynamics", "rl", "generative", "categories", "representation",
)  # fmt: skip


@runtime_checkable
class Dimension(Protocol):
    """One searched hyper-parameter: a map from the unit interval to its values."""

    def at(self, u: float) -> Any:
        """The value at position ``u`` in [0, 1)."""
        ...


@dataclass(frozen=True)
class LogUniform:
    """Values between ``low`` and ``high``, uniform in the logarithm; ``0 < low < high``."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"low, high: expected 0 < low < high, got {self.low}, {self.high}")

    def at(self, u: float) -> float:
        return float(self.low * (self.high / self.low) ** u)

    def __str__(self) -> str:
        return f"{self.low:g}…{self.high:g} log"


@dataclass(frozen=True)
class Uniform:
    """Values between ``low`` and ``high``, uniform."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low, high: expected finite low < high, got {self.low}, {self.high}")

    def at(self, u: float) -> float:
        return float(self.low + (self.high - self.low) * u)

    def __str__(self) -> str:
        return f"{self.low:g}…{self.high:g}"


@dataclass(frozen=True)
class Choice:
    """One of a few values; unless they are floats, each value compiles a program of its own."""

    values: Sequence[Any]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values: expected at least one value, got none")

    def at(self, u: float) -> Any:
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def __str__(self) -> str:
        return " | ".join(map(str, self.values))


Space = Mapping[str, Dimension]


def sample(space: Space, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """``n`` quasi-random configurations (scrambled Sobol points) of a search space; ``n`` empty ones if it is empty.

    Raises:
        ValueError: if ``n < 1``.
    """
    if n < 1:
        raise ValueError(f"n: expected at least one configuration, got {n}")
    if not space:
        return [{}]
    # Sobol points come in powers of two; the first n of the next one are taken.
    points = qmc.Sobol(len(space), rng=seed).random_base2(math.ceil(math.log2(n)))[:n]
    return [{name: dim.at(u) for (name, dim), u in zip(space.items(), point, strict=True)} for point in points]


@dataclass(frozen=True)
class MethodEntry:
    """A registered method.

    Attributes:
        name: As typed on the command line.
        factory: ``factory(**hyperparameters)`` gives a `Method` or an optax transformation.
        space: What `compare` searches.
        paper: Slug of the catalogue row, or `None`.
        room: Where it lives.
        example: Hyper-parameters without a default that are not searched either.
        bad: ``{hyper-parameter: a value it must refuse}``, held by the contract tests.
    """

    name: str
    factory: Callable[..., Any]
    space: Space
    paper: str | None = None
    room: str = ""
    example: Mapping[str, Any] = field(default_factory=dict)
    bad: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Method:
        """One with every searched hyper-parameter in the middle of its range."""
        return as_method(self.factory(**{**{k: d.at(0.5) for k, d in self.space.items()}, **self.example}))

    @property
    def kind(self) -> str:
        """The kind of problem it needs, by name."""
        return kind(self.make()).__name__

    @property
    def summary(self) -> str:
        """First line of its docstring."""
        return (inspect.getdoc(self.factory) or "").split("\n", 1)[0]


@dataclass(frozen=True)
class ProblemEntry:
    """A registered problem: ``factory()`` builds it with its defaults; `compare` starts from the rest."""

    name: str
    factory: Callable[..., Any]
    metric: str | None = None
    steps: int = 1_000
    target: float | None = None

    @property
    def summary(self) -> str:
        """First line of its docstring."""
        return (inspect.getdoc(self.factory) or "").split("\n", 1)[0]


PART_KINDS = ("layer", "activation", "operator", "integrator", "forecaster", "sampler", "solver")


@dataclass(frozen=True)
class PartEntry:
    """A registered part that is no method: see `part`."""

    kind: str
    name: str
    part: Any
    example: Callable[[], Any]


_methods: dict[str, MethodEntry] = {}
_parts: dict[str, PartEntry] = {}
_problems: dict[str, ProblemEntry] = {}


Factory = TypeVar("Factory", bound=Callable[..., Any])


def _outside(factory: Callable[..., Any]) -> dict[str, Any]:
    """Values just outside of what a `Method` declares to accept; none for other factories."""
    if not (isinstance(factory, type) and issubclass(factory, Method)):
        return {}
    values = {name: accepted.outside() for name, accepted in ranges(factory).items()}
    return {name: value for name, value in values.items() if value is not None}


def method(
    name: str,
    space: Space | None = None,
    *,
    paper: str | None = None,
    room: str = "",
    example: Mapping[str, Any] | None = None,
    bad: Mapping[str, Any] | None = None,
) -> Callable[[Factory], Factory]:
    """Register a factory of methods, or a `Method` itself; as a decorator, or called on a library's factory.

    Arguments:
        name: Lower case, words joined by hyphens.
        space: Search space for `compare`; none means there is nothing to tune.
        paper: Slug of its catalogue row.
        room: Package it belongs to; default: read off the factory's module.
        example: Hyper-parameters without a default that are not searched either.
        bad: Values the factory must refuse, by hyper-parameter; those that a `Method` declares with
            `attractor.method.hyper` are known.

    Raises:
        ValueError: if the name is taken by another factory.
    """

    def register(factory: Factory) -> Factory:
        if name in _methods and _methods[name].factory is not factory:
            raise ValueError(f"name: a method called {name!r} is already registered")
        where = room or getattr(factory, "__module__", "").removeprefix("attractor.").split(".")[0]
        refused = _outside(factory) | dict(bad or {})
        _methods[name] = MethodEntry(name, factory, space or {}, paper, where, example or {}, refused)
        return factory

    return register


def problem(
    name: str, *, metric: str | None = None, steps: int = 1_000, target: float | None = None
) -> Callable[[Callable], Callable]:
    """Register a factory of problems, with the metric, steps and target that ``attractor compare`` uses by default."""

    def register(factory: Callable[..., Any]) -> Callable[..., Any]:
        if name in _problems and _problems[name].factory is not factory:
            raise ValueError(f"name: a problem called {name!r} is already registered")
        _problems[name] = ProblemEntry(name, factory, metric, steps, target)
        return factory

    return register


def part(kind: str, name: str, *, example: Callable[[], Any]) -> Callable[[Any], Any]:
    """Register a part that is no method, with an example that its contract tests try; use it as a decorator.

    | kind | what ``example()`` gives | what the part promises |
    |---|---|---|
    | layer | ``(module, arguments)`` | dtype, `jax.vmap`, `jax.jit`, finite gradients, half precision |
    | activation | ``(function, arguments)`` | the same |
    | operator | ``(module, input)``, ``input(n)`` a periodic function on n points, ``(channels, n)`` | the same function on another grid |
    | integrator | ``(step, order)``, ``step(field, x, dt)`` | its order on a known equation |
    | forecaster | ``forecast(history, horizon)`` | shape, determinism, equivariance to shifts |
    | sampler | ``draw(key, n)``, ``(n, d)`` | shape, determinism in the key, finite |
    | solver | ``solve() -> (error, tolerance)`` on a small generic instance | an error within the tolerance |

    Arguments:
        kind: One of the above.
        name: Lower case, words joined by hyphens.
        example: Called by the tests only.

    Raises:
        ValueError: for an unknown kind, or a name that is taken.
    """  # noqa: E501
    if kind not in PART_KINDS:
        raise unknown("kind", kind, PART_KINDS, f"kind is one of {', '.join(PART_KINDS)}")

    def register(what: Any) -> Any:
        if name in _parts and _parts[name].part is not what:
            raise ValueError(f"name: a part called {name!r} is already registered")
        _parts[name] = PartEntry(kind, name, what, example)
        return what

    return register


@functools.cache
def _load() -> None:
    for room in ("problems", *ROOMS):
        importlib.import_module(f"attractor.{room}")


def methods() -> dict[str, MethodEntry]:
    """All registered methods by name."""
    _load()
    return dict(sorted(_methods.items()))


def problems() -> dict[str, ProblemEntry]:
    """All registered problems by name."""
    _load()
    return dict(sorted(_problems.items()))


def parts(kind: str | None = None) -> dict[str, PartEntry]:
    """All registered parts by name, or those of one kind."""
    _load()
    return {name: entry for name, entry in sorted(_parts.items()) if kind in (None, entry.kind)}


def find_method(name: str) -> MethodEntry:
    """The method of that name; a `ValueError` with a suggestion when there is none.

    ``adamw+cosine`` is AdamW under a schedule, ``adamw+constant+wsd`` under the better of two: see `scheduled`.
    """
    base, *shapes = name.split("+")
    if base not in methods():
        raise unknown("method", base, methods(), "`attractor methods` lists them")
    entry = _methods[base]
    if not shapes:
        return entry
    factory = scheduled(entry.factory, *shapes)
    return replace(
        entry, name=name, factory=factory, space=space_of(factory), example={**entry.example, "steps": 1_000}
    )


def find_problem(name: str) -> ProblemEntry:
    """The problem of that name; a `ValueError` with a suggestion when there is none."""
    if name not in problems():
        raise unknown("problem", name, problems(), "`attractor problems` lists them")
    return _problems[name]


def costs() -> dict[str, dict[str, Any]]:
    """What ``benchmarks/optimizers.py`` has measured, by method; none where nothing is on record."""
    path = Path(__file__).with_name("data") / "measured.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


LEARNING_RATE = LogUniform(1e-4, 1.0)


@dataclass(frozen=True)
class Scheduled:
    """What `scheduled` makes: ``self(learning_rate=…, steps=…, **others)`` gives the method, its rate a schedule."""

    factory: Callable[..., Any]
    shapes: tuple[str, ...]
    steps: int | None = None

    def __call__(
        self,
        *,
        learning_rate: Any,
        steps: int | None = None,
        schedule: str | None = None,
        decay_share: Any = 0.2,
        **others: Any,
    ) -> Any:
        in_range("learning_rate", learning_rate, 0.0)
        steps = steps or self.steps
        if steps is None:
            raise ValueError("steps: a schedule needs how many steps the optimizer takes; say scheduled(…, steps=…)")
        shape = schedule or self.shapes[0]
        share = {"decay_share": decay_share} if shape == "wsd" else {}
        return self.factory(learning_rate=SCHEDULES[shape](learning_rate, steps, **share), **others)

    @property
    def __name__(self) -> str:
        return "+".join([getattr(self.factory, "__name__", type(self.factory).__name__), *self.shapes])

    @property
    def space(self) -> Space:
        """What is searched beside the factory's own space."""
        among = {"schedule": Choice(self.shapes)} if len(self.shapes) > 1 else {}
        return {**among, **({"decay_share": Uniform(0.05, 1.0)} if "wsd" in self.shapes else {})}


def scheduled(factory: Callable[..., Any], *shapes: str, steps: int | None = None) -> Scheduled:
    """A factory whose learning rate follows a schedule, for `compare`; by name, ``"adamw+cosine"``.

    The rate that is searched is the highest one. Under several shapes the choice between them is searched too, a
    program for each, and under ``wsd`` the share of the steps over which the rate decays.

    Arguments:
        factory: A registered one, or another, that takes a schedule as its ``learning_rate``.
        shapes: ``"constant"``, ``"cosine"`` (half a wave down to zero) or ``"wsd"`` (warm-up over a twentieth of the
            steps, stable, linear decay: `attractor.schedules.warmup_stable_decay_schedule`).
        steps: How many steps the optimizer takes, at least 1; `None`: those of the comparison.

    Raises:
        ValueError: for an unknown shape, a ``steps`` out of range, or a factory that takes no schedule.

    !!! example
        ```python
        compare(problem, {"adamw": "adamw", "cosine": "adamw+cosine", "mine": scheduled(my_optimizer, "wsd")})
        ```
    """
    if not shapes:
        raise ValueError(f"shapes: expected at least one of {', '.join(SCHEDULES)}, got none")
    for shape in shapes:
        if shape not in SCHEDULES:
            raise unknown("schedule", shape, SCHEDULES, f"a schedule is one of {', '.join(SCHEDULES)}")
    if steps is not None:
        in_range("steps", steps, 1)
    rate = inspect.signature(factory).parameters.get("learning_rate")
    if rate is None or not (rate.annotation is rate.empty or "Callable" in str(rate.annotation)):
        name = getattr(factory, "__name__", factory)
        raise ValueError(f"factory: {name!r} takes no schedule as its learning_rate; compare it without one")
    return Scheduled(factory, shapes, steps)


def with_horizon(factory: Any, steps: int) -> Any:
    """The factory, told that so many steps will be taken if it is `scheduled` and does not know it; else as it is."""
    return replace(factory, steps=steps) if isinstance(factory, Scheduled) and factory.steps is None else factory


def space_of(factory: Any) -> dict[str, Dimension]:
    """The search space of a factory: its registered one, less what a `functools.partial` has already fixed.

    An unregistered factory with a ``learning_rate`` is searched over that alone.

    Raises:
        ValueError: for an unregistered factory without one, saying how to give its space.
    """
    if isinstance(factory, Method | optax.GradientTransformation):
        return {}
    if isinstance(factory, Scheduled):
        return {**space_of(factory.factory), **factory.space}
    fixed: set[str] = set()
    while isinstance(factory, functools.partial):
        names = list(inspect.signature(factory.func).parameters)
        fixed |= set(factory.keywords) | set(names[: len(factory.args)])
        factory = factory.func
    _load()
    for entry in _methods.values():
        if inspect.unwrap(entry.factory) is factory or entry.factory is factory:
            return {k: v for k, v in entry.space.items() if k not in fixed}
    parameters = inspect.signature(factory).parameters
    required = {k for k, p in parameters.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD} - fixed
    if required <= {"learning_rate"}:
        return (
            {"learning_rate": LEARNING_RATE} if "learning_rate" in parameters and "learning_rate" not in fixed else {}
        )
    raise ValueError(
        f"methods: no search space is known for {getattr(factory, '__name__', factory)!r}, which needs "
        f"{', '.join(sorted(required))}; give (factory, {{'{sorted(required)[0]}': LogUniform(…)}}) instead"
    )
