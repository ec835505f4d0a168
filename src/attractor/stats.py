"""Intervals: what is known about a number that was measured more than once."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.stats import binomtest

Law = Literal["linear", "power"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence bounds, ``low <= value <= high``; exact numbers have all three equal."""

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: ArrayLike) -> "Interval":
        """A number without uncertainty."""
        v = float(np.asarray(value))
        return cls(v, v, v)

    def __str__(self) -> str:
        if self.low == self.high or math.isnan(self.value):
            return f"{self.value:.4g}"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(
    statistic: Callable[..., Float[np.ndarray, " draws"]],
    *samples: ArrayLike,
    draws: int = 4_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of a statistic of paired samples.

    Arguments:
        statistic: Takes one array ``(draws, n)`` per sample and reduces the last axis.
        *samples: Arrays of equal length n; the same indices are drawn from each, which keeps the pairing.
        draws: Bootstrap resamples.
        confidence: Coverage of the interval, in (0, 1).
        seed: Of the resampling; fixed, so that a rerun gives the same bounds.

    Raises:
        ValueError: if the samples are empty or of unequal length.
    """
    arrays = [np.asarray(s, dtype=float) for s in samples]
    lengths = {a.shape for a in arrays}
    if len(lengths) != 1 or arrays[0].ndim != 1 or arrays[0].size == 0:
        raise ValueError(f"samples: expected one-dimensional arrays of one length >= 1, got shapes {sorted(lengths)}")
    index = np.random.default_rng(seed).integers(0, arrays[0].size, (draws, arrays[0].size))
    with np.errstate(all="ignore"):
        value = float(statistic(*(a[None] for a in arrays))[0])
        drawn = np.asarray(statistic(*(a[index] for a in arrays)), dtype=float)
    if np.isnan(drawn).any():
        # 0/0 or inf - inf in a resample: nothing bounds the statistic.
        return Interval(value, -math.inf, math.inf)
    tail = (1 - confidence) / 2
    # 'lower'/'higher' never interpolate, so that an infinite draw stays infinite instead of turning into a NaN.
    low = float(np.quantile(drawn, tail, method="lower"))
    high = float(np.quantile(drawn, 1 - tail, method="higher"))
    return Interval(value, min(low, value), max(high, value))


def mean(sample: ArrayLike) -> Interval:
    """Bootstrap interval of the mean."""
    return bootstrap(lambda s: s.mean(-1), sample)


def median(sample: ArrayLike) -> Interval:
    """Bootstrap interval of the median."""
    return bootstrap(lambda s: np.median(s, -1), sample)


def proportion(hits: int, trials: int) -> Interval:
    """Share of hits with its exact (Clopper-Pearson) binomial interval."""
    bounds = binomtest(hits, trials).proportion_ci(method="exact")
    return Interval(hits / trials, float(bounds.low), float(bounds.high))


def paired_difference(a: ArrayLike, b: ArrayLike) -> Interval:
    """Bootstrap interval of ``mean(a - b)``, pairs kept together."""
    return bootstrap(lambda x, y: (x - y).mean(-1), a, b)


def paired_ratio(a: ArrayLike, b: ArrayLike) -> Interval:
    """Bootstrap interval of ``median(a) / median(b)``, pairs kept together."""
    return bootstrap(lambda x, y: np.median(x, -1) / np.median(y, -1), a, b)


@dataclass(frozen=True)
class Rate:
    """How fast a metric converges.

    Attributes:
        law: ``"linear"`` ($C\\rho^t$) or ``"power"`` ($C t^{-p}$), whichever leaves the smaller residual.
        value: The factor rho per step for ``"linear"``, the exponent p for ``"power"``, with its interval.
        residuals: Root mean square residual of each law in ``log(metric)``.
    """

    law: Law
    value: Interval
    residuals: dict[Law, float]

    def __str__(self) -> str:
        form = "C·ρ^t, ρ" if self.law == "linear" else "C·t^(−p), p"
        fits = ", ".join(f"{law} {r:.3g}" for law, r in self.residuals.items())
        return f"{self.law}: {form} = {self.value} (rms residual in log: {fits})"


def fit_rate(steps: ArrayLike, values: ArrayLike) -> Rate:
    """Fit both laws to n curves by least squares on ``log(values)``.

    The interval is over curves (a bootstrap of the mean slope) when there are several, and from the regression's
    standard error when there is one. Step 0 and values that are not positive and finite are left out.

    Raises:
        ValueError: if a curve has fewer than three usable points.
    """
    t, curves = np.asarray(steps, float), np.atleast_2d(np.asarray(values, float))
    slopes: dict[Law, list[tuple[float, float, float]]] = {"linear": [], "power": []}
    for curve in curves:
        usable = (t > 0) & np.isfinite(curve) & (curve > 0)
        if usable.sum() < 3:
            raise ValueError(
                "metric: a rate needs at least three recorded steps with a positive, finite value after step 0; "
                "record more often (every=…) or subtract the optimum"
            )
        y = np.log(curve[usable])
        abscissae: dict[Law, np.ndarray] = {"linear": t[usable], "power": np.log(t[usable])}
        for law, x in abscissae.items():
            centered = x - x.mean()
            slope = float(centered @ y / (centered @ centered))
            residual = y - y.mean() - slope * centered
            error = math.sqrt(residual @ residual / max(len(x) - 2, 1) / (centered @ centered))
            slopes[law].append((slope, error, math.sqrt(float(np.mean(residual**2)))))
    residuals: dict[Law, float] = {law: float(np.mean([r for _, _, r in fits])) for law, fits in slopes.items()}
    law: Law = "linear" if residuals["linear"] <= residuals["power"] else "power"
    fits = slopes[law]
    if len(fits) > 1:
        slope = mean([s for s, _, _ in fits])
    else:
        s, error, _ = fits[0]
        slope = Interval(s, s - 1.96 * error, s + 1.96 * error)
    if law == "linear":
        return Rate(law, Interval(math.exp(slope.value), math.exp(slope.low), math.exp(slope.high)), residuals)
    return Rate(law, Interval(-slope.value, -slope.high, -slope.low), residuals)
