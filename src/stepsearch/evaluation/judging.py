"""Verdicts of a judge on answers that are written already: what was played need not be played again for them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from stepsearch.data.whole_files import replacing
from stepsearch.evaluation.metrics import EpisodeScore
from stepsearch.evaluation.prediction_log import Prediction, iterate_predictions

Judge = Callable[[Sequence[Prediction]], Sequence[float | None]]
"""Says of each answer how right it is, 0 to 1; None where it cannot say."""


def judge_predictions(path: Path, judge: Judge, batch_size: int, watch: Callable[[int], None]) -> list[EpisodeScore]:
    """Fill in the verdicts that are missing in a predictions file, and return the scores of all its episodes.

    The file is replaced when all are there. What could not be played is not judged.

    Args:
        path: the file.
        judge: asked about `batch_size` answers at once, which are in memory together.
        batch_size: answers.
        watch: told how many answers a finished batch had.

    Raises:
        DataError: the file cannot be read or written.
    """
    scores: list[EpisodeScore] = []
    lines = iterate_predictions(path)
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as judged:
        while batch := list(islice(lines, batch_size)):
            for prediction in _judged(batch, judge):
                judged.write(prediction.to_line())
                scores.append(prediction.score)
            watch(len(batch))
    return scores


def _judged(batch: Sequence[Prediction], judge: Judge) -> list[Prediction]:
    open_ones = [index for index, one in enumerate(batch) if one.judged is None and one.error is None]
    verdicts = dict(zip(open_ones, judge([batch[index] for index in open_ones]), strict=True)) if open_ones else {}
    return [
        replace(prediction, judged=verdicts[index]) if index in verdicts else prediction
        for index, prediction in enumerate(batch)
    ]
