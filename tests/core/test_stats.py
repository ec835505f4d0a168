"""Intervals cover what they say, from three samples on; one sample says nothing."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from attractor.stats import (
    Interval,
    bootstrap,
    mean,
    median,
    paired_difference,
    paired_ratio,
    rank_correlation,
    ratio_of_means,
)

ROUNDS = 1_500


def missed(interval, truth):
    return not interval.low <= truth <= interval.high


@pytest.mark.parametrize("n", [2, 3, 4, 8, 16])
def test_differences_and_ratios_cover_what_they_say(n):
    samples = np.random.default_rng(n).normal(size=(ROUNDS, 2, n))
    differences = np.mean([missed(paired_difference(*s), 0.0) for s in samples])
    ratios = np.mean([missed(paired_ratio(*np.exp(s)), 1.0) for s in samples])
    assert 0.03 <= differences <= 0.07
    assert 0.03 <= ratios <= 0.07


@pytest.mark.parametrize("n", [3, 4, 8, 16])
def test_other_statistics_cover_what_they_say(n):
    samples = 4 + np.random.default_rng(n).normal(size=(ROUNDS, 2, n))
    ratios = np.mean([missed(bootstrap(lambda a, b: a.mean(-1) / b.mean(-1), *s, draws=500), 1.0) for s in samples])
    assert 0.03 <= ratios <= 0.07


def test_the_ratio_of_means_is_the_ratio_of_the_means():
    a, b = np.array([1.0, 2.0, 6.0]), np.array([2.0, 1.0, 0.5])
    assert ratio_of_means(a, b).value == pytest.approx(9 / 3.5)
    assert paired_ratio(a, b).value == pytest.approx((0.5 * 2 * 12) ** (1 / 3))


@pytest.mark.parametrize("n", [6, 9, 16])
def test_the_median_covers_at_least_what_it_says_whatever_the_law(n):
    samples = np.random.default_rng(n).standard_cauchy(size=(ROUNDS, n))
    missing = np.mean([missed(median(s), 0.0) for s in samples])
    assert missing <= 0.06
    assert missing > 0.005  # and is no wider than it must be


def test_one_sample_bounds_nothing():
    for interval in (mean([3.0]), median([3.0]), bootstrap(lambda s: s.mean(-1), [3.0])):
        assert (interval.value, interval.low, interval.high) == (3.0, -math.inf, math.inf)
    assert paired_difference([3.0], [3.0]).low == -math.inf
    assert (paired_ratio([3.0], [1.0]).low, paired_ratio([3.0], [1.0]).high) == (0, math.inf)


def test_infinite_values_stay_infinite_on_their_side_only():
    diverged = mean([1.0, 2.0, 3.0, math.inf])
    assert diverged.value == diverged.high == math.inf
    assert diverged.low == pytest.approx(mean([1.0, 2.0, 3.0]).low)
    assert mean([math.inf, math.inf]) == Interval.exact(math.inf)
    assert mean([-math.inf, 1.0, 2.0]).low == -math.inf
    lost = mean([math.inf, -math.inf])
    assert math.isnan(lost.value)
    assert (lost.low, lost.high) == (-math.inf, math.inf)


def test_ratios_of_steps_that_were_never_taken():
    never = math.inf
    sure = paired_ratio([5.0, 7.0, 9.0], [never] * 3)
    assert sure == Interval.exact(0.0)
    some = paired_ratio([5.0] * 12, [10.0] * 10 + [never] * 2)
    assert (some.value, some.high) == (0.5, 0.5)
    assert paired_ratio([5.0] * 8, [never] + [10.0] * 7).low == 0
    neither = paired_ratio([never] * 4, [never] * 4)
    assert math.isnan(neither.value)
    assert (neither.low, neither.high) == (-math.inf, math.inf)
    mixed = paired_ratio([never, *[1.0] * 7], [never, *[2.0] * 7])  # one pair of eight says nothing
    assert (mixed.low, mixed.high) == (-math.inf, math.inf)


@pytest.mark.parametrize("samples", [([],), ([[1.0, 2.0]],), ([1.0], [1.0, 2.0])])
def test_samples_that_cannot_be_used_are_named(samples):
    with pytest.raises(ValueError, match="samples"):
        bootstrap(lambda *s: s[0].mean(-1), *samples)


def test_rank_correlation_is_spearmans():
    random = np.random.default_rng(0)
    a = random.integers(0, 12, 40).astype(float)  # with ties
    b = a + random.normal(0, 4, 40)
    found = rank_correlation(a, b)
    assert found.value == pytest.approx(spearmanr(a, b).statistic)
    assert 0 < found.low < found.value < found.high < 1
    assert rank_correlation(a, -np.exp(a)).value == pytest.approx(-1)
