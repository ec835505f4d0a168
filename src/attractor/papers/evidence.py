"""Evidence: what an experiment measured, against a threshold that was set before, and what follows from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

Outcome = Literal["holds", "fails", "inconclusive", "void", "error"]
OUTCOMES: tuple[Outcome, ...] = ("holds", "fails", "inconclusive", "void", "error")


@runtime_checkable
class Bounded(Protocol):
    """A number with bounds, such as `attractor.stats.Interval` (not imported here: the catalogue loads without JAX)."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


Bounds = tuple[float, float, float]  # value, low, high


def bounds(value: "float | Bounded") -> Bounds:
    """``(value, low, high)``; an exact number is its own bounds."""
    if isinstance(value, Bounded):
        return float(value.value), float(value.low), float(value.high)
    number = float(value)  # pyright: ignore[reportArgumentType]
    return number, number, number


@dataclass(frozen=True)
class Evidence:
    """What a claim's experiment measured, and the threshold that was set before.

    Attributes:
        value: A number, or one with confidence bounds.
        at_most: The claim holds if the upper bound is at most this …
        at_least: … or the lower bound at least this …
        within: … or both bounds lie in this range, for "as good as"; exactly one of the three is given.
        given: Preconditions of the experiment by name, such as ``{"Adam reaches the target": True}``. If one is not
            met, the experiment does not speak.
        cases: Of several measured numbers, all of them by name; see `of_cases`.
        note: Context in one line, shown beside the verdict.
    """

    value: "float | Bounded"
    at_most: float | None = None
    at_least: float | None = None
    within: tuple[float, float] | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    cases: "Mapping[str, float | Bounded]" = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if sum(t is not None for t in (self.at_most, self.at_least, self.within)) != 1:
            raise ValueError("at_most, at_least, within: give exactly one threshold")
        if self.within is not None and not self.within[0] < self.within[1]:
            raise ValueError(f"within: expected (low, high) with low < high, got {self.within}")

    @classmethod
    def of_cases(
        cls,
        cases: "Mapping[str, float | Bounded]",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        within: tuple[float, float] | None = None,
        given: Mapping[str, Any] | None = None,
        note: str = "",
    ) -> "Evidence":
        """The worst of several cases, all of which must be on the right side of one threshold; all are kept.

        Raises:
            ValueError: if there is no case, or not exactly one threshold.
        """
        if not cases:
            raise ValueError("cases: expected at least one, got none")
        kept = {"given": given or {}, "cases": dict(cases), "note": note}

        def badness(one: Evidence) -> tuple[int, float]:
            """A case that fails is worse than an undecided one, and then the one with the farther unfavorable bound."""
            value, low, high = one.bounds
            smallest, largest = one.range
            distance = math.inf if math.isnan(value) else max(smallest - low, high - largest)
            return ("holds", "inconclusive", "fails").index(one.outcome), distance

        each = [cls(value, at_most=at_most, at_least=at_least, within=within) for value in cases.values()]
        return replace(max(each, key=badness), **kept)

    @property
    def bounds(self) -> Bounds:
        """``(value, low, high)``."""
        return bounds(self.value)

    @property
    def range(self) -> tuple[float, float]:
        """Where the number must lie."""
        if self.within is not None:
            return self.within
        return (-math.inf, self.at_most) if self.at_most is not None else (self.at_least or 0.0, math.inf)

    @property
    def outcome(self) -> Outcome:
        """``holds``, ``fails`` (the whole interval is on the wrong side), ``inconclusive``, or ``void``."""
        if not all(self.given.values()):
            return "void"
        value, low, high = self.bounds
        if math.isnan(value) and math.isnan(low):
            return "fails"  # an exact result that is not a number
        if math.isnan(value):
            return "inconclusive"
        smallest, largest = self.range
        if smallest <= low and high <= largest:
            return "holds"
        return "fails" if low > largest or high < smallest else "inconclusive"

    def clearly_worse_than(self, other: "Evidence") -> bool:
        """Whether the whole interval lies farther on the wrong side than all of the other's."""
        value, low, high = self.bounds
        if math.isnan(value):
            return True
        _, other_low, other_high = other.bounds
        smallest, largest = self.range
        above = self.at_least is None and low > max(other_high, largest)
        below = self.at_most is None and high < min(other_low, smallest)
        return above or below


def finite(number: float) -> float | None:
    """A number as JSON can hold it: `None` where it is not finite."""
    return number if math.isfinite(number) else None


def case_data(cases: "Mapping[str, float | Bounded]") -> dict[str, list[Any]]:
    """Cases as JSON-ready ``{name: [value, low, high]}``."""
    return {name: [finite(v) for v in bounds(value)] for name, value in cases.items()}
