"""Best approximations in the largest error: Remez' exchange for polynomials."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from attractor.checks import in_range
from attractor.registry import part

Values = Float[np.ndarray, " n"]


class Minimax(NamedTuple):
    """A polynomial of least largest error."""

    coefficients: Float[np.ndarray, " degree+1"]  # of 1, x, x² …
    error: float  # the largest over the grid
    lower: float  # no polynomial of the degree has a smaller one there


def remez(
    f: Callable[[Values], Values],
    degree: int,
    low: float,
    high: float,
    *,
    relative: bool = False,
    points: int = 2_001,
    max_exchanges: int = 50,
) -> Minimax:
    r"""The polynomial p that minimizes $\max |f - p|$, or $\max |1 - p / f|$, over a grid of Chebyshev points.

    On $d + 2$ points the errors $f - p = \pm E$ of alternating sign determine p and E, and |E| is a lower bound for
    all polynomials; the points move to the extrema of the error, one between each two of its changes of sign, until
    the largest is that bound.

    Arguments:
        f: A continuous function of an array.
        degree: d, at least 0.
        low: The interval's left end.
        high: Its right end, above ``low``.
        relative: Whether the error is divided by f, which then must not be zero.
        points: Of the grid, at least ``degree + 2``.
        max_exchanges: Stop after so many, at least 1.

    Raises:
        ValueError: for a number out of range, or values of f that are not finite or, for relative errors, zero.

    Paper: AutoNumerics-Zero (Real et al., 2023), as a baseline; the method is Remez', 1934.
    """
    in_range("degree", degree, 0)
    in_range("points", points, degree + 2)
    in_range("max_exchanges", max_exchanges, 1)
    in_range("high - low", high - low, 0.0, open_low=True)
    t = -np.cos(np.pi * np.arange(points) / (points - 1))
    x = low + (high - low) * (t + 1) / 2
    values = np.asarray(f(x), float)
    if values.shape != x.shape or not np.isfinite(values).all():
        raise ValueError(f"f: expected {points} finite values, got shape {values.shape}")
    scale = values if relative else np.ones(points)
    if not scale.all():
        raise ValueError("f: expected values other than zero, by which errors are divided; or take relative=False")
    basis = np.polynomial.chebyshev.chebvander(t, degree) / scale[:, None]
    chosen = np.round(np.linspace(0, points - 1, degree + 2)).astype(int)
    rounding = 1e-14 * np.abs(values / scale).max()
    signs = (-1.0) ** np.arange(degree + 2)
    for _ in range(max_exchanges):
        *coefficients, level = np.linalg.solve(np.c_[basis[chosen], signs], (values / scale)[chosen])
        error = values / scale - basis @ coefficients
        if np.abs(error).max() <= abs(level) * (1 + 1e-9) + rounding:
            break
        runs = np.split(np.arange(points), np.flatnonzero(np.diff(np.sign(error)) != 0) + 1)
        peaks = np.array([run[np.abs(error[run]).argmax()] for run in runs])
        if len(peaks) < degree + 2:  # only rounding is left
            break
        while len(peaks) > degree + 2:  # drop the lower end: the signs still alternate
            peaks = peaks[1:] if abs(error[peaks[0]]) < abs(error[peaks[-1]]) else peaks[:-1]
        chosen = peaks
    series = np.polynomial.Chebyshev(coefficients, [low, high])  # pyright: ignore[reportPossiblyUnboundVariable]
    power = series.convert(kind=np.polynomial.Polynomial, domain=[-1, 1], window=[-1, 1]).coef
    full = np.zeros(degree + 1)
    full[: len(power)] = power
    return Minimax(full, float(np.abs(error).max()), abs(float(level)))  # pyright: ignore[reportPossiblyUnboundVariable]


def _example() -> tuple[float, float]:
    """Of x³ on [-1, 1] by degree 2 it is 3 x / 4, with an error of 1 / 4."""
    found = remez(lambda x: x**3, 2, -1.0, 1.0)
    return float(np.abs(np.array([*found.coefficients, found.error]) - [0, 0.75, 0, 0.25]).max()), 1e-5


part("solver", "remez", example=lambda: _example)(remez)
