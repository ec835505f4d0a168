"""The setting of a run of claims: which seeds are drawn, and what may be remembered under it."""

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeVar

SHIFT = 100_000  # between the seeds of two replications; experiments draw fewer
STREAM = 10_000  # between the streams of one replication
MORE = 4  # --more-seeds takes so many times the seeds

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Setting:
    """What a run of claims is made under.

    Attributes:
        replication: Shifts every seed; settings are found on replication 0.
        factor: Multiplies the number of seeds.
    """

    replication: int = 0
    factor: int = 1
    drawn: list[bool] = field(default_factory=list, compare=False, repr=False)  # not empty once a seed was asked for


_setting: ContextVar[Setting] = ContextVar("_setting", default=Setting())  # noqa: B039  (replaced, never changed)
_caches: list[dict] = []


@contextlib.contextmanager
def under(setting: Setting) -> Iterator[list[bool]]:
    """Run claims under a setting; yields a list that is not empty once a seed was drawn."""
    token = _setting.set(replace(setting, drawn=[]))
    try:
        yield _setting.get().drawn
    finally:
        _setting.reset(token)


def seeds(n: int, stream: int = 0) -> list[int]:
    """``n`` seeds of this replication: 0 … n-1 at first, others in every replication.

    Arguments:
        n: How many, at least 1; more come where ``--more-seeds`` asks for them.
        stream: Another stream gives other seeds.

    Raises:
        ValueError: for ``n < 1``.
    """
    if n < 1:
        raise ValueError(f"n: expected at least one seed, got {n}")
    setting = _setting.get()
    setting.drawn.append(True)
    first = SHIFT * setting.replication + STREAM * stream
    return [first + i for i in range(n * setting.factor)]


def seed(stream: int = 0) -> int:
    """One seed of this replication, for data, starts and anything that is drawn once; ``stream`` itself at first."""
    setting = _setting.get()
    setting.drawn.append(True)
    return SHIFT * setting.replication + stream


def cached(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Remember results, by arguments and by replication: `functools.cache` for what depends on seeds.

    Problems are compared by content, so that ``tune(ridge(), optax.adam)`` is computed once however often it is asked.
    """
    known: dict[Hashable, tuple[Result, bool]] = {}
    _caches.append(known)

    @functools.wraps(function)
    def remembered(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        outer = _setting.get()
        key = (outer, tuple(map(_key, args)), tuple((k, _key(v)) for k, v in sorted(kwargs.items())))
        if key not in known:
            with under(outer) as drawn:
                value = function(*args, **kwargs)
            known[key] = value, bool(drawn)
        value, drew = known[key]
        if drew:
            outer.drawn.append(True)
        return value

    return remembered


def forget() -> None:
    """Drop all that `cached` functions remember."""
    for known in _caches:
        known.clear()


def _key(value: Any) -> Hashable:
    """Something to compare an argument by: its content where it holds arrays."""
    try:
        hash(value)
    except TypeError:
        return _content(value)
    return value


def _content(value: Any) -> Hashable:
    import jax
    import numpy as np

    leaves, structure = jax.tree.flatten(value)
    parts = [
        (a.shape, str(a.dtype), np.asarray(a).tobytes()) if isinstance(a, np.ndarray | jax.Array) else a for a in leaves
    ]
    return structure, tuple(parts)
