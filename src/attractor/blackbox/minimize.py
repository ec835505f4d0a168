"""`minimize_blackbox`: the smallest value of a plain Python function within a budget of calls.

Every search is a program that asks for values. What it asked and what it was told is written down call by call; a run
that was killed starts its search anew, which gets the values that are known from the journal and calls the function
from there on: no search has a state to save, and all resume exactly.
"""

import contextlib
import functools
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pandas as pd
from jax.extend.core import Primitive
from jax.interpreters import batching
from jaxtyping import ArrayLike, Float
from scipy.optimize import differential_evolution

from attractor import registry
from attractor.checks import in_range
from attractor.method import Method, kind
from attractor.names import unknown
from attractor.problem import Minimization
from attractor.progress import task
from attractor.registry import Dimension, Uniform

if TYPE_CHECKING:
    import plotly.graph_objects as go

Unit = Float[np.ndarray, "n d"]  # points in the unit cube
Values = Float[np.ndarray, " n"]
Ask = Callable[[Unit], Values]
Search = Callable[[Ask, int, int], None]  # (ask, dimension, seed): asks until `_Spent` ends it

EARLY = 10  # failures in a row, from the first call on, that end a run: the function itself is at fault


class _Spent(Exception):
    """The budget is."""


def _random(ask: Ask, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    while True:
        ask(rng.random((1, d)))


def _differential_evolution(ask: Ask, d: int, seed: int) -> None:
    def values(points: np.ndarray) -> np.ndarray:
        return ask(np.atleast_2d(points.T))

    for restart in range(1_000_000):
        # The tolerance and the polish would end a search or leave the population: the budget ends it here.
        differential_evolution(
            values, [(0.0, 1.0)] * d, maxiter=1_000_000, tol=0, rng=seed + restart, polish=False, vectorized=True,
            updating="deferred",
        )  # fmt: skip


def _cma(ask: Ask, d: int, seed: int) -> None:
    import cma  # takes a third of a second

    population = None
    for restart in range(1_000_000):
        options = {"bounds": [0, 1], "seed": seed + restart + 1, "verbose": -9, "verb_log": 0, "verb_disp": 0}
        strategy = cma.CMAEvolutionStrategy(
            [0.5] * d if restart == 0 else np.random.default_rng([seed, restart]).random(d), 0.3,
            options | ({"popsize": population} if population else {}),
        )  # fmt: skip
        while not strategy.stop():
            points = strategy.ask()
            strategy.tell(points, np.minimum(ask(np.asarray(points)), 1e300).tolist())  # it takes no infinity
        population = 2 * strategy.popsize


def _folded(u: jax.Array) -> jax.Array:
    """Reflection at the faces of the unit cube: all of space, so that no method needs to know the bounds."""
    return 1 - jnp.abs(1 - jnp.mod(u, 2.0))


# A value asked for in Python, in this thread; `jax.pure_callback` would ask from a thread of the device's, in which a
# function that uses JAX itself may wait forever. Without a rule for derivatives, what needs gradients is refused.
_asked = Primitive("asked")
_asked.def_impl(lambda u, *, values: jnp.asarray(values(u)))
batching.primitive_batchers[_asked] = lambda args, dims, *, values: (
    _asked.bind(jnp.moveaxis(args[0], dims[0], 0), values=values), 0
)  # fmt: skip


def _of_method(method: Method) -> Search:
    """A method of ours, one operation after another in this thread, so that the function may be anything."""

    def search(ask: Ask, d: int, seed: int) -> None:
        ended: _Spent | None = None

        def values(u: ArrayLike) -> np.ndarray:
            nonlocal ended
            u = np.asarray(u)
            told = np.full(u.size // d, np.inf)
            if ended is None:
                try:
                    told = ask(u.reshape(-1, d))
                except _Spent as end:  # once the step is done
                    ended = end
            return told.reshape(u.shape[:-1]).astype(u.dtype)

        def loss(u: jax.Array) -> jax.Array:
            return _asked.bind(_folded(u), values=values)

        with jax.enable_x64(True), jax.disable_jit():
            problem = Minimization(loss, jnp.full(d, 0.5))
            start, steps = jr.split(jr.key(seed))
            x = problem.init(start)
            state = method.init(problem, x, jr.fold_in(start, 1))
            for step in itertools.count():
                try:
                    x, state = method.step(problem, x, state, jr.fold_in(steps, step))
                except NotImplementedError as error:
                    if "'asked'" not in str(error):
                        raise
                    raise ValueError(
                        f"method: {method} needs gradients; expected one of {', '.join(_searches())}"
                    ) from None
                values(_folded(method.readout(x, state)))  # where it stands counts, too
                if ended is not None:
                    raise ended

    return search


SEARCHES: dict[str, Search] = {
    "cma-es": _cma,
    "differential-evolution": _differential_evolution,
    "random": _random,
}


def _searches() -> list[str]:
    return [*SEARCHES, *(name for name, entry in registry.methods().items() if entry.room == "blackbox")]


def _search(method: str | Method) -> Search:
    if isinstance(method, Method):
        if kind(method) is not Minimization:
            raise ValueError(f"method: expected one for a Minimization, got one for a {kind(method).__name__}")
        return _of_method(method)
    if method in SEARCHES:
        return SEARCHES[method]
    if method not in (known := _searches()):
        raise unknown("method", method, known, f"known are {', '.join(known)}, or a Method of your own")
    return _of_method(registry.methods()[method].make())


@dataclass(frozen=True)
class Box:
    """Where to search: names (or none) and a dimension each, from the unit interval to its values."""

    names: tuple[str, ...] | None
    dimensions: tuple[Dimension, ...]

    @classmethod
    def of(cls, bounds: Any) -> "Box":
        named = isinstance(bounds, Mapping)
        names = tuple(bounds) if named else None
        entries = list(bounds.values()) if named else list(bounds)
        if not entries:
            raise ValueError("bounds: expected at least one dimension, got none")
        dimensions = []
        for i, entry in enumerate(entries):
            if isinstance(entry, Dimension):
                dimensions.append(entry)
                continue
            try:
                low, high = (float(side) for side in entry)
                dimensions.append(Uniform(low, high))
            except (TypeError, ValueError):
                where = f"bounds[{names[i] if names else i!r}]"
                expected = "(low, high), finite with low < high, or a Uniform, LogUniform or Choice"
                raise ValueError(f"{where}: expected {expected}, got {entry!r}") from None
        return cls(names, tuple(dimensions))

    def at(self, u: Sequence[float] | Float[np.ndarray, " d"]) -> Any:
        values = [d.at(float(v)) for d, v in zip(self.dimensions, u, strict=True)]
        return dict(zip(self.names, values, strict=True)) if self.names else np.asarray(values)

    def __str__(self) -> str:
        names = self.names or range(len(self.dimensions))
        return ", ".join(f"{n}: {d}" for n, d in zip(names, self.dimensions, strict=True))


class _Journal:
    """What f was asked and said, in order: in memory, and a line each in a file."""

    def __init__(self, path: str | os.PathLike[str] | None, settings: dict[str, Any]):
        self.path = None if path is None else Path(path).expanduser()
        self.calls: list[dict[str, Any]] = []
        if self.path is None:
            return
        if self.path.exists():
            self._read(self.path, settings)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(settings) + "\n")

    def _read(self, path: Path, settings: dict[str, Any]) -> None:
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        try:
            head, *calls = [json.loads(line) for line in whole.splitlines()]
        except ValueError:
            raise ValueError(f"checkpoint: {path} is no journal of minimize_blackbox; name another file") from None
        if other := [key for key in settings if head.get(key) != settings[key]]:
            raise ValueError(f"checkpoint: {path} is of another run (other {', '.join(other)}); name another file")
        if torn:  # a line that a kill left unfinished
            path.write_bytes(whole + b"\n")
        self.calls = calls

    def add(self, u: np.ndarray, value: float, error: str | None) -> None:
        self.calls.append({"u": u.tolist(), "value": value, "error": error})
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(self.calls[-1]) + "\n")


@dataclass(frozen=True)
class BlackboxResult:
    """What `minimize_blackbox` found.

    Attributes:
        x: The best point: an array, or a dict where the bounds have names.
        value: f there.
        evaluations: A row a call, in order: a column for each coordinate, ``value`` (`inf` where it failed) and
            ``error`` (what it raised, or `None`).
        method: By which search.
    """

    x: Any
    value: float
    evaluations: pd.DataFrame
    method: str

    @property
    def failures(self) -> int:
        """Calls that raised, or gave no finite number."""
        return int(self.evaluations["error"].notna().sum())

    def best_so_far(self) -> Float[np.ndarray, " calls"]:
        """The smallest value after each call."""
        return np.minimum.accumulate(self.evaluations["value"].to_numpy())

    def plot(self) -> "go.Figure":
        """Every value, and the best so far, over calls."""
        import plotly.graph_objects as go

        values, best = self.evaluations["value"], self.best_so_far()
        calls, finite = np.arange(1, len(values) + 1), np.isfinite(values)
        figure = go.Figure(layout={"template": "plotly_white", "xaxis_title": "call", "yaxis_title": "value"})
        figure.add_scatter(x=calls[finite], y=values[finite], mode="markers", name="each call", opacity=0.4)
        seen = np.isfinite(best)
        return figure.add_scatter(x=calls[seen], y=best[seen], line_shape="hv", name="best so far")

    def __repr__(self) -> str:
        failed = f", {self.failures} failed" if self.failures else ""
        return f"{self.value:.6g} at {self.x} after {len(self.evaluations)} calls{failed} ({self.method})"


def minimize_blackbox(
    f: Callable[[Any], float],
    bounds: Sequence[Any] | Mapping[str, Any],
    *,
    method: str | Method = "cma-es",
    budget: int = 1000,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    workers: int | Callable[..., Iterator[Any]] = 1,
    progress: bool | None = None,
) -> BlackboxResult:
    """The smallest value of a plain Python function, by function values alone.

    A call that raises, or gives no finite number, counts as infinitely bad, and the search goes on.

    Arguments:
        f: ``f(x) -> float``, of an array, or of a dict where ``bounds`` has names. Any Python: a simulation, a
            training, another program.
        bounds: For each coordinate ``(low, high)``, or a `Uniform`, `LogUniform` or `Choice`; a sequence, or a mapping
            from names.
        method: ``"cma-es"`` (the package ``cma``, with restarts), ``"differential-evolution"`` (SciPy), ``"random"``, a
            registered method of `attractor.blackbox`, or a `Method` that uses function values only. Methods see the
            unit cube, reflected at its faces, and start in its middle: their lengths are shares of the bounds.
        budget: Calls of f, at least 1.
        seed: Of the search, at least 0.
        checkpoint: A file that keeps every call. With the same settings a run goes on where the file ends; with a
            larger budget it is extended.
        workers: Calls at once: a number of threads (for f that waits for another program), or a function like `map`,
            such as that of a `concurrent.futures.ProcessPoolExecutor`.
        progress: Whether a bar is shown; `None` shows one on a terminal after two seconds.

    Returns:
        A `BlackboxResult`.

    Raises:
        ValueError: for bounds, a method, a budget or a checkpoint that cannot be used.
        RuntimeError: if the first ten calls all fail, or all do; it says how the first did.

    !!! example
        ```python
        found = minimize_blackbox(lambda x: (x[0] - 0.3) ** 2 + abs(x[1]), [(-1, 1), (-1, 1)], budget=400)
        ```
    """
    in_range("budget", budget, 1)
    in_range("seed", seed, 0)
    box, search = Box.of(bounds), _search(method)
    name = method if isinstance(method, str) else repr(method)
    journal = _Journal(checkpoint, {"method": name, "seed": seed, "bounds": str(box)})
    known, asked = list(journal.calls), 0
    one = functools.partial(_call, f, box, bool(jax.config.read("jax_enable_x64")))

    with _mapped(workers) as mapped, task(name, budget, "call", progress) as advance:

        def ask(points: Unit) -> Values:
            nonlocal asked
            paid = points[: budget - asked]
            old = known[asked : asked + len(paid)]
            if [call["u"] for call in old] != paid[: len(old)].tolist():
                raise ValueError(
                    f"checkpoint: {journal.path} has other points than {name} asks for here, as when another machine "
                    "or version wrote it; go on there, or name another file"
                )
            advance(len(old))
            for u, (value, error) in zip(paid[len(old) :], mapped(one, paid[len(old) :]), strict=True):
                journal.add(u, value, error)
                advance(1)
                if len(journal.calls) == EARLY and all(call["error"] for call in journal.calls):
                    raise _all_failed(journal.calls)
            told = journal.calls[asked : asked + len(paid)]
            asked += len(paid)
            if len(paid) < len(points):
                raise _Spent
            return np.asarray([call["value"] for call in told])

        with contextlib.suppress(_Spent):  # as every search ends
            search(ask, len(box.dimensions), seed)
    calls = journal.calls[:budget]
    if all(call["error"] for call in calls):
        raise _all_failed(calls)
    best = min(calls, key=lambda call: call["value"])
    points = [box.at(call["u"]) for call in calls]
    columns = box.names or tuple(f"x{i}" for i in range(len(box.dimensions)))
    evaluations = pd.DataFrame(points).set_axis(list(columns), axis=1)
    evaluations["value"] = [float(call["value"]) for call in calls]
    evaluations["error"] = pd.Series([call["error"] for call in calls], dtype=object)
    return BlackboxResult(box.at(best["u"]), best["value"], evaluations, name)


def _call(f: Callable[[Any], float], box: Box, x64: bool, u: np.ndarray) -> tuple[float, str | None]:
    """f at a point, and what went wrong; a function of the module, so that it can be sent to another process."""
    try:
        with jax.disable_jit(False), jax.enable_x64(x64):
            value = float(f(box.at(u)))
    except Exception as error:  # whatever f raises is a result
        return math.inf, f"{type(error).__name__}: {error}"
    return (value, None) if math.isfinite(value) else (math.inf, f"no finite number: {value}")


def _all_failed(calls: Sequence[Mapping[str, Any]]) -> RuntimeError:
    return RuntimeError(f"f failed at all of its first {len(calls)} points; at the first: {calls[0]['error']}")


@contextlib.contextmanager
def _mapped(workers: Any) -> Iterator[Callable[..., Any]]:
    if callable(workers):
        yield workers
    elif workers == 1:
        yield map
    else:
        in_range("workers", workers, 1)
        with ThreadPoolExecutor(int(workers)) as pool:
            yield pool.map
