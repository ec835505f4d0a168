"""Intervals: what is known about a number that was measured more than once."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.stats import binom, binomtest, rankdata
from scipy.stats import norm as normal
from scipy.stats import t as student

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


SMALL = 8  # below so many samples resampling has too few values to draw from


def mean(sample: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean with its t-interval: exact coverage for normal data of any size, from two values on.

    One value bounds nothing: its interval is infinite. A sample with an infinite value has an infinite mean; the bound
    on the other side is that of its finite values.

    Arguments:
        sample: One-dimensional, at least one value.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: if the sample is empty or not one-dimensional.
    """
    (values,) = _samples(sample)
    with np.errstate(all="ignore"):
        value = float(values.mean())
    if math.isnan(value):
        return Interval(value, -math.inf, math.inf)
    low, high = _t_bounds(values[np.isfinite(values)], confidence)
    if math.isinf(value):
        constant = bool((values == value).all())
        return Interval(value, value if value < 0 or constant else low, value if value > 0 or constant else high)
    return Interval(value, low, high)


def _t_bounds(values: Float[np.ndarray, " n"], confidence: float) -> tuple[float, float]:
    if len(values) < 2:
        return -math.inf, math.inf
    half = (
        float(student.ppf((1 + confidence) / 2, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    )
    return float(values.mean()) - half, float(values.mean()) + half


def bootstrap(
    statistic: Callable[..., Float[np.ndarray, " draws"]],
    *samples: ArrayLike,
    draws: int = 4_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of any statistic of paired samples; for a mean, a ratio or a proportion use the functions of that name.

    From `SMALL` samples on a percentile bootstrap, expanded so that it covers as a t-interval would (Hesterberg, "What
    teachers should know about the bootstrap", 2015: the plain one is too narrow by the factor sqrt((n-1)/n) z/t).
    Below, the jackknife's standard error and Student's quantile; one sample bounds nothing.

    Arguments:
        statistic: Takes one array ``(draws, n)`` per sample and reduces the last axis.
        *samples: Arrays of equal length n; the same indices are drawn from each, which keeps the pairing.
        draws: Bootstrap resamples.
        confidence: Coverage of the interval, in (0, 1).
        seed: Of the resampling; fixed, so that a rerun gives the same bounds.

    Raises:
        ValueError: if the samples are empty or of unequal length.
    """
    arrays = _samples(*samples)
    n = arrays[0].size
    with np.errstate(all="ignore"):
        value = float(statistic(*(a[None] for a in arrays))[0])
        if n == 1:
            return Interval(value, -math.inf, math.inf)
        quantile = float(student.ppf((1 + confidence) / 2, n - 1))
        if n < SMALL:
            without = ~np.eye(n, dtype=bool)
            left_out = np.asarray(statistic(*(np.stack([a[row] for row in without]) for a in arrays)), dtype=float)
            half = quantile * math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
            if not math.isfinite(half):
                return Interval(value, -math.inf, math.inf)
            return Interval(value, value - half, value + half)
        index = np.random.default_rng(seed).integers(0, n, (draws, n))
        drawn = np.asarray(statistic(*(a[index] for a in arrays)), dtype=float)
    if np.isnan(drawn).any():
        # 0/0 or inf - inf in a resample: nothing bounds the statistic.
        return Interval(value, -math.inf, math.inf)
    tail = float(normal.cdf(-math.sqrt(n / (n - 1)) * quantile))
    # 'lower'/'higher' never interpolate, so that an infinite draw stays infinite instead of turning into a NaN.
    low = float(np.quantile(drawn, tail, method="lower"))
    high = float(np.quantile(drawn, 1 - tail, method="higher"))
    return Interval(value, min(low, value), max(high, value))


def median(sample: ArrayLike, confidence: float = 0.95) -> Interval:
    """The median with the sign test's interval: two order statistics, at least the coverage asked for, for any law.

    Fewer than six values cannot bound a median with 95 %: the interval is infinite.
    """
    (values,) = _samples(sample)
    unknown = np.isnan(values)
    with np.errstate(all="ignore"):
        value = float(np.median(values))
    # A value that is not a number may be anything: it counts against both bounds.
    low, high = (np.sort(np.where(unknown, filler, values)) for filler in (-math.inf, math.inf))
    cut = int(binom.ppf((1 - confidence) / 2, values.size, 0.5))  # values to leave out on either side
    if cut == 0:
        return Interval(value, -math.inf, math.inf)
    return Interval(value, float(low[cut - 1]), float(high[-cut]))


def proportion(hits: int, trials: int) -> Interval:
    """Share of hits with its exact (Clopper-Pearson) binomial interval."""
    bounds = binomtest(hits, trials).proportion_ci(method="exact")
    return Interval(hits / trials, float(bounds.low), float(bounds.high))


def paired_difference(a: ArrayLike, b: ArrayLike) -> Interval:
    """``mean(a - b)`` with its t-interval, pairs kept together."""
    x, y = _samples(a, b)
    with np.errstate(invalid="ignore"):
        return mean(x - y)


def paired_ratio(a: ArrayLike, b: ArrayLike) -> Interval:
    """How many times ``b`` is ``a``, typically: the geometric mean of ``a / b``, with the t-interval of its logarithm.

    Where a ratio is zero, infinite or not a number (a run that diverged, or never reached its target) there is no
    logarithm: then the median of the ratios, with the interval of `median`, which bounds both sides by values that
    were measured.
    """
    x, y = _samples(a, b)
    with np.errstate(all="ignore"):
        ratios = x / y
    if (np.isfinite(ratios) & (ratios > 0)).all():
        logs = mean(np.log(ratios))
        with np.errstate(over="ignore"):
            return Interval(*(float(np.exp(v)) for v in (logs.value, logs.low, logs.high)))
    if (ratios == ratios[0]).all():  # always 0 or always infinite: as sure as it gets, if there is more than one
        return median(ratios) if ratios.size == 1 else Interval.exact(ratios[0])
    return median(ratios)


def ratio_of_means(a: ArrayLike, b: ArrayLike) -> Interval:
    """``mean(a) / mean(b)``, pairs kept together, by `bootstrap`."""
    return bootstrap(lambda x, y: x.mean(-1) / y.mean(-1), a, b)


def rank_correlation(a: ArrayLike, b: ArrayLike) -> Interval:
    """Spearman's rank correlation of two samples, pairs kept together, by `bootstrap`."""

    def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = (rankdata(s, axis=-1) - (s.shape[-1] + 1) / 2 for s in (x, y))
        return (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))

    return bootstrap(spearman, a, b)


def _samples(*samples: ArrayLike) -> list[Float[np.ndarray, " n"]]:
    arrays = [np.asarray(s, dtype=float) for s in samples]
    shapes = {a.shape for a in arrays}
    if len(shapes) != 1 or arrays[0].ndim != 1 or arrays[0].size == 0:
        raise ValueError(f"samples: expected one-dimensional arrays of one length >= 1, got shapes {sorted(shapes)}")
    return arrays


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

    The interval is over curves (the t-interval of the mean slope) when there are several, and from the regression's
    standard error when there is one. Step 0 and values that are not positive and finite are left out.

    Raises:
        ValueError: if a curve has fewer than three usable points.
    """
    t, curves = np.asarray(steps, float), np.atleast_2d(np.asarray(values, float))
    slopes: dict[Law, list[tuple[float, float, float]]] = {"linear": [], "power": []}
    usable = t > 0
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
        half = error * float(student.ppf(0.975, int(usable.sum()) - 2))
        slope = Interval(s, s - half, s + half)
    if law == "linear":
        return Rate(law, Interval(math.exp(slope.value), math.exp(slope.low), math.exp(slope.high)), residuals)
    return Rate(law, Interval(-slope.value, -slope.high, -slope.low), residuals)
