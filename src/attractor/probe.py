"""Probes: measurements taken along the way, at the recording interval only."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray, PyTree

Goal = Literal["min", "max"]


class Probe(eqx.Module):
    """A measurement ``measure(problem, x, key) -> scalar or array`` and the direction in which it is better.

    Arguments:
        measure: The function; its arrays, if it is a Module or an `equinox.Partial`, are program arguments. A
            `functools.partial` or a lambda is compared by identity instead: a new one compiles the program again.
        goal: ``"min"`` (the default) or ``"max"``: which way `attractor.compare` should tune it.

    Raises:
        ValueError: if ``goal`` is neither.
    """

    measure: Callable[[Any, PyTree, PRNGKeyArray], Array]
    goal: Goal = eqx.field(static=True, default="min")

    def __check_init__(self) -> None:
        if self.goal not in ("min", "max"):
            raise ValueError(f"goal: expected 'min' or 'max', got {self.goal!r}")

    def __call__(self, problem: Any, x: PyTree, key: PRNGKeyArray) -> Array:
        return self.measure(problem, x, key)

    @classmethod
    def on(cls, data: PyTree, function: Callable[[PyTree, PyTree], Array], goal: Goal = "min") -> "Probe":
        """``function(x, data)``, for instance an accuracy on held-out data."""
        return cls(eqx.Partial(_on_data, function, data), goal)


def _on_data(function: Callable[..., Array], data: PyTree, problem: Any, x: PyTree, key: PRNGKeyArray) -> Array:
    return function(x, data)


def as_probe(probe: Any) -> Probe:
    """A `Probe`, from a `Probe` or a function ``(problem, x, key) -> array``."""
    if isinstance(probe, Probe):
        return probe
    if callable(probe):
        return Probe(probe)  # pyright: ignore[reportArgumentType]
    raise TypeError(f"probe: expected a Probe or a function (problem, x, key) -> array, got {type(probe).__name__}")
