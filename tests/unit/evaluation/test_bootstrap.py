"""Intervals over seeds and questions, with numbers a person can check."""

import math

import numpy as np
import pytest

from stepsearch.evaluation.bootstrap import percentile_interval, resample, resample_seeds


def ones_like(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [np.ones_like(array) for array in arrays]


def test_constant_data_gives_an_interval_of_no_width() -> None:
    right = [np.full((10, 1), 0.75) for _ in range(3)]
    interval = resample(right, ones_like(right)).interval(0)
    assert (interval.value, interval.low, interval.high) == (0.75, 0.75, 0.75)


def test_the_value_is_the_mean_over_seeds_of_each_seeds_mean() -> None:
    # Seed 0 has 1 of 2 right, seed 1 has 4 of 4: a seed with more questions counts no more.
    right = [np.array([[1.0], [0.0]]), np.ones((4, 1))]
    interval = resample(right, ones_like(right)).interval(0)
    assert interval.value == pytest.approx(0.75)
    # The worst resample draws seed 0 twice and its wrong question each time.
    assert (interval.low, interval.high) == (0.25, 1.0)


def test_a_ratio_counts_what_its_denominator_counts() -> None:
    # 1 of 1 and 1 of 3 documents repeated: 2 of 4, not the mean of the questions' shares.
    resampled = resample([np.array([[1.0], [1.0]])], [np.array([[1.0], [3.0]])])
    assert resampled.per_seed[0, 0] == 0.5
    assert resampled.interval(0).low == pytest.approx(1 / 3)
    assert resampled.interval(0).high == pytest.approx(1.0)


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    base = rng.random((50, 1))
    # Column 1 is .1 better on every question: the difference is certain, whatever the spread of the columns.
    both = [np.hstack([base, base + 0.1]), np.hstack([base * 0.5, base * 0.5 + 0.1])]
    resampled = resample(both, ones_like(both))
    difference = resampled.difference(1, 0)
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.1, 0.1, 0.1))
    assert resampled.interval(0).high - resampled.interval(0).low > 0.1


def test_one_seed_leaves_the_questions() -> None:
    right = [np.array([[1.0]] * 80 + [[0.0]] * 20)]
    interval = resample(right, ones_like(right)).interval(0)
    # The normal approximation of a share of .8 over 100: .8 ± 1.96 * .04.
    assert interval.low == pytest.approx(0.72, abs=0.015)
    assert interval.high == pytest.approx(0.88, abs=0.015)


def test_seeds_that_differ_widen_the_interval() -> None:
    alike = [np.array([[1.0]] * 50 + [[0.0]] * 50) for _ in range(4)]
    apart = [np.full((100, 1), share) for share in (0.0, 1.0, 0.0, 1.0)]
    narrow, wide = (resample(data, ones_like(data)).interval(0) for data in (alike, apart))
    assert narrow.value == wide.value == 0.5
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)


def test_the_same_data_and_seed_give_the_same_interval() -> None:
    right = [np.random.default_rng(1).random((30, 2)) for _ in range(3)]
    first, again = (resample(right, ones_like(right), resamples=500, seed=7).interval(1) for _ in range(2))
    assert first == again


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """60 simulated comparisons of 10 seeds: each seed has its own true EM around .6, and 100 questions."""
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(60):
        shares = np.clip(rng.normal(0.6, 0.08, size=10), 0, 1)
        right = [(rng.random((100, 1)) < share).astype(float) for share in shares]
        interval = resample(right, ones_like(right), resamples=1000).interval(0)
        covered += interval.low <= 0.6 <= interval.high
    assert 50 <= covered <= 60


def test_nothing_to_divide_by_is_not_a_number() -> None:
    resampled = resample([np.zeros((3, 1))], [np.zeros((3, 1))], resamples=20)
    assert math.isnan(resampled.interval(0).value)
    assert math.isnan(resampled.interval(0).low)


def test_seeds_alone() -> None:
    resampled = resample_seeds(np.array([[0.2, 1.0], [0.4, math.nan], [0.9, 3.0]]))
    assert resampled.interval(0).value == pytest.approx(0.5)
    # 1 in 27 resamples is three times the lowest seed: more than 2.5 %.
    assert (resampled.interval(0).low, resampled.interval(0).high) == pytest.approx((0.2, 0.9))
    assert resampled.interval(1).value == pytest.approx(2.0)
    # One seed says nothing of another.
    alone = resample_seeds(np.array([[0.3]])).interval(0)
    assert alone.value == pytest.approx(0.3)
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)


def test_a_difference_is_over_the_seeds_that_have_both() -> None:
    resampled = resample_seeds(np.array([[0.5, 0.4], [0.9, math.nan], [0.7, 0.6]]))
    assert resampled.difference(0, 1).value == pytest.approx(0.1)
    assert resampled.difference(0, 1).low == pytest.approx(0.1)


def test_a_percentile_interval_leaves_out_what_is_not_a_number() -> None:
    interval = percentile_interval(1.0, np.array([math.nan, 1.0, 1.0]))
    assert (interval.low, interval.high) == (1.0, 1.0)
