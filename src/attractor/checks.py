"""Checks of arguments: errors that name the argument and the accepted range; the type of what is checked most."""

import math
from typing import Any

import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

# A hyper-parameter: a plain number in a call, an array when a sweep is compiled.
Scalar = float | Float[Array, ""]
Count = int | Int[Array, ""]


def in_range(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise a `ValueError` unless ``low <= value <= high`` (strictly where a side is open) and it is finite.

    Traced values and schedules pass: their numbers are not known here (`attractor.run` checks each configuration
    before it compiles). Arrays are checked entry by entry.

    Arguments:
        name: The argument's name, for the error.
        value: A number, an array, or a schedule.
        low: Smallest accepted value.
        high: Largest accepted value.
        open_low: Whether ``low`` itself is refused.
        open_high: Whether ``high`` itself is refused.
    """
    if isinstance(value, Tracer) or callable(value):
        return
    number = np.asarray(value, dtype=float)
    above = number > low if open_low else number >= low
    below = number < high if open_high else number <= high
    if not bool((above & below & np.isfinite(number)).all()):
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if open_high or high == math.inf else "]"
        raise ValueError(f"{name}: expected a finite number in {left}{low:g}, {high:g}{right}, got {value!r}")
