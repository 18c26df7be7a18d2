"""Intervals for comparisons of several seeds: seeds are resampled, then the questions within each.

A column of figures is a ratio per seed, sum(numerators) / sum(denominators) over the seed's questions (a mean where the
denominators are ones), and the mean of these ratios over the seeds. Every resample draws as many seeds as there are,
and as many questions within each as it has, both with replacement; all columns see the same draws, so that the
difference of two columns is a paired difference. With one seed the interval covers the choice of questions alone.

The percentile method (Efron and Tibshirani 1993, chapter 13). With few seeds its intervals are somewhat too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

RESAMPLES = 10_000
# Weights in memory at once, 16 MB: 2,000 rows of 1,000 questions, or 160 of 12,500.
_WEIGHTS = 2_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval; nan where nothing could be computed."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Resampled:
    """What the bootstrap drew.

    Attributes:
        per_seed: [seeds, columns], from the data as it is; nan where a seed has no such figure.
        draws: [resamples, seeds, columns], each seed drawn anew.
    """

    per_seed: Numbers
    draws: Numbers

    def interval(self, column: int) -> Interval:
        """Return a column's figure, the mean over seeds that have it."""
        return _interval(self.per_seed[:, column], self.draws[..., column])

    def difference(self, column: int, reference: int, of: "Resampled | None" = None) -> Interval:
        """Return the paired difference of two columns, column minus reference, over seeds that have both.

        Args:
            column: of this data.
            reference: of the same, or of `of`.
            of: what was resampled with as many seeds and questions and the same `seed`: its draws are the same ones.
        """
        other = of or self
        return _interval(
            self.per_seed[:, column] - other.per_seed[:, reference],
            self.draws[..., column] - other.draws[..., reference],
        )


def resample(
    numerators: Sequence[Numbers],
    denominators: Sequence[Numbers],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Resampled:
    """Resample seeds, then questions within a seed.

    Args:
        numerators: one array [questions, columns] per seed.
        denominators: of the same shapes; a question with denominator 0 does not count in its column.
        resamples: how many.
        seed: of the draws; the same data and seed give the same intervals.
    """
    rng = np.random.default_rng(seed)
    drawn_seeds = rng.integers(len(numerators), size=(resamples, len(numerators)))
    ratios = np.empty((*drawn_seeds.shape, numerators[0].shape[1]))
    for index, (above, below) in enumerate(zip(numerators, denominators, strict=True)):
        here = drawn_seeds == index
        ratios[here] = _resampled_ratios(above, below, int(here.sum()), rng)
    whole = np.stack(
        [_ratio(above.sum(0), below.sum(0)) for above, below in zip(numerators, denominators, strict=True)]
    )
    return Resampled(whole, ratios)


def resample_seeds(values: Numbers, *, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
    """Resample seeds alone: for figures of which there is one a seed, such as the area under a curve.

    Of one seed nothing can be resampled: its figures have no interval.

    Args:
        values: [seeds, columns]; nan where a seed has none.
        resamples: how many.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    drawn_seeds = rng.integers(len(values), size=(resamples, len(values)))
    return Resampled(values, values[drawn_seeds] if len(values) > 1 else np.full((resamples, *values.shape), np.nan))


def _interval(per_seed: Numbers, draws: Numbers) -> Interval:
    return percentile_interval(float(_mean_of_defined(per_seed, axis=0)), _mean_of_defined(draws, axis=1))


def percentile_interval(value: float, draws: Numbers) -> Interval:
    """Return a value with the 2.5th and the 97.5th percentile of its resamples; undefined resamples are left out."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.percentile(defined, (2.5, 97.5))
    return Interval(float(value), float(low), float(high))


def _resampled_ratios(above: Numbers, below: Numbers, rows: int, rng: np.random.Generator) -> Numbers:
    """Return [rows, columns]: each row's ratios over as many questions as there are, drawn with replacement."""
    questions = len(above)
    ratios = np.empty((rows, above.shape[1]))
    at_once = max(_WEIGHTS // questions, 1)
    # Most figures count all questions, or all of a group: what many columns share is summed once.
    distinct, place = np.unique(below, axis=1, return_inverse=True)
    for start in range(0, rows, at_once):
        count = min(at_once, rows - start)
        drawn = rng.integers(questions, size=(count, questions)) + np.arange(count)[:, None] * questions
        times_drawn = np.bincount(drawn.ravel(), minlength=count * questions).reshape(count, questions).astype(float)
        ratios[start : start + count] = _ratio(times_drawn @ above, (times_drawn @ distinct)[:, place.ravel()])
    return ratios


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    above, below = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def _mean_of_defined(values: Numbers, axis: int) -> Numbers:
    """Return means without nan; nan where there is nothing else."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis), defined.sum(axis))
