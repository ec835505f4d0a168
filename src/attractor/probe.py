"""Probes: measurements taken along the way, at the recording interval only."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray, PyTree

Goal = Literal["min", "max"]


class Probe(eqx.Module):
    """A measurement ``measure(problem, x, key) -> scalar or array`` and the direction in which it is better.

    A function with a fourth argument, ``measure(problem, x, key, state)``, also sees the method's state: its batch
    size, its damping, its step length. An optax transformation's state is the method's state.

    Arguments:
        measure: The function; its arrays, if it is a Module or an `equinox.Partial`, are program arguments. A
            `functools.partial` or a lambda is compared by identity instead: a new one compiles the program again.
        goal: ``"min"`` (the default) or ``"max"``: which way `attractor.compare` should tune it.

    Raises:
        ValueError: if ``goal`` is neither.

    !!! example
        ```python
        def batch_size(problem, x, key, state):
            return state.batch

        run(problem, adadagrad(0.1), steps=100, probes={"batch size": batch_size})
        ```
    """

    measure: Callable[..., Array]
    goal: Goal = eqx.field(static=True, default="min")
    takes_state: bool = eqx.field(static=True, init=False)

    def __post_init__(self) -> None:
        self.takes_state = _takes_state(self.measure)

    def __check_init__(self) -> None:
        if self.goal not in ("min", "max"):
            raise ValueError(f"goal: expected 'min' or 'max', got {self.goal!r}")

    def __call__(self, problem: Any, x: PyTree, key: PRNGKeyArray, state: PyTree = None) -> Array:
        return self.measure(problem, x, key, state) if self.takes_state else self.measure(problem, x, key)

    @classmethod
    def on(cls, data: PyTree, function: Callable[[PyTree, PyTree], Array], goal: Goal = "min") -> "Probe":
        """``function(x, data)``, for instance an accuracy on held-out data."""
        return cls(eqx.Partial(_on_data, function, data), goal)


def _on_data(function: Callable[..., Array], data: PyTree, problem: Any, x: PyTree, key: PRNGKeyArray) -> Array:
    return function(x, data)


def _takes_state(measure: Callable[..., Any]) -> bool:
    """Whether there is a fourth positional argument that has to be given, or one named ``state``."""
    if isinstance(measure, eqx.Partial):  # it hides the signature of what it is a part of
        measure = functools.partial(measure.func, *measure.args, **measure.keywords)
    try:
        parameters = inspect.signature(measure).parameters.values()
    except (TypeError, ValueError):  # builtins and some C functions hide their signature
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 3 and (positional[3].default is inspect.Parameter.empty or positional[3].name == "state")


def as_probe(probe: Any) -> Probe:
    """A `Probe`, from a `Probe` or a function ``(problem, x, key) -> array``, or one that takes ``state`` as well."""
    if isinstance(probe, Probe):
        return probe
    if callable(probe):
        return Probe(probe)  # pyright: ignore[reportArgumentType]
    raise TypeError(f"probe: expected a Probe or a function (problem, x, key) -> array, got {type(probe).__name__}")
