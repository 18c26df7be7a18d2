"""Two evaluations of the same questions: paired differences, and how likely chance alone would make them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from stepsearch.errors import DataError
from stepsearch.evaluation.bootstrap import Numbers
from stepsearch.evaluation.figures import MethodFigures, measure_methods
from stepsearch.evaluation.metrics import EpisodeScore, mean
from stepsearch.evaluation.prediction_log import iterate_predictions
from stepsearch.evaluation.result_files import find_predictions, predictions_file, results_folder

_EXACT_UP_TO = 12
"""Questions that differ: 4,096 ways to swap them are all gone through, more are sampled."""
_SWAPS = 20_000
_SIGNS = 2_000_000


@dataclass(frozen=True, slots=True)
class PairedResult:
    """One dataset of two evaluations, A and B.

    Attributes:
        first, second: the figures of A and of B over the shared questions; B has the differences, B minus A.
        only_first, only_second: questions that the other one lacks; they are left out.
        p_value: of EM's difference, two-sided.
    """

    first: MethodFigures
    second: MethodFigures
    only_first: int
    only_second: int
    p_value: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "count": self.first.questions,
            "only_in_a": self.only_first,
            "only_in_b": self.only_second,
            "a": self.first.to_json(),
            "b": self.second.to_json(),
            "difference": {name: figure.to_json() for name, figure in self.second.difference.items()},
            "em_p_value": self.p_value,
        }


def compare_predictions(first: Path, second: Path) -> PairedResult:
    """Return the comparison of two predictions files over the questions that both have.

    Raises:
        DataError: a file cannot be read, they share no question, or a shared id is another question.
    """
    (a, a_texts), (b, b_texts) = _read(first), _read(second)
    shared = a_texts.keys() & b_texts.keys()
    if not shared:
        raise DataError(f"{first} and {second} share no question: give evaluations of the same benchmark file")
    other = next((name for name in sorted(shared) if a_texts[name] != b_texts[name]), None)
    if other is not None:
        raise DataError(f"question id {other} is another question in {second} than in {first}")
    kept_a, kept_b = ([score for score in scores if score.id in shared] for scores in (a, b))
    measured = measure_methods({"a": kept_a, "b": kept_b})
    return PairedResult(
        measured["a"],
        measured["b"],
        len(a_texts) - len(shared),
        len(b_texts) - len(shared),
        permutation_p_value(_mean_em(kept_b) - _mean_em(kept_a)),
    )


def p_in_words(p_value: float) -> str:
    """Return a p-value for people: what is as small as so many swaps can tell is said to be smaller than twice that."""
    return f"p < {2 / _SWAPS:g}" if p_value <= 1 / _SWAPS else f"p = {p_value:.2g}"


def permutation_p_value(differences: Numbers, seed: int = 0) -> float:
    """Return how often the mean is as far from 0 as it is when each question's two results are swapped by chance.

    Two-sided, exact where few questions differ, else from 20,000 random swaps, the one observed among them, so that it
    is never 0.

    Args:
        differences: [questions] of one figure, paired.
        seed: of the swaps.
    """
    differing = differences[differences != 0]
    observed = abs(differing.sum()) - 1e-9
    if len(differing) <= _EXACT_UP_TO:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(differing))))
        return float(np.mean(np.abs(signs @ differing) >= observed))
    rng = np.random.default_rng(seed)
    extreme, at_once = 0, max(_SIGNS // len(differing), 1)
    for start in range(0, _SWAPS, at_once):
        rows = min(at_once, _SWAPS - start)
        signs = rng.integers(2, size=(rows, len(differing))) * 2 - 1
        extreme += int((np.abs(signs @ differing) >= observed).sum())
    return (extreme + 1) / (_SWAPS + 1)


def _read(path: Path) -> tuple[list[EpisodeScore], dict[str, str]]:
    """Return the scores of a predictions file, and its questions by id."""
    scores: list[EpisodeScore] = []
    texts: dict[str, str] = {}
    for prediction in iterate_predictions(path):
        scores.append(prediction.score)
        texts[prediction.trajectory.question.id] = prediction.trajectory.question.question
    return scores, texts


def _mean_em(scores: Sequence[EpisodeScore]) -> Numbers:
    """Return the mean EM of every question's episodes, in the order of the ids."""
    ems: dict[str, list[float]] = {}
    for score in scores:
        ems.setdefault(score.id, []).append(score.em)
    return np.array([mean(of) for _, of in sorted(ems.items())], dtype=np.float64)


def shared_files(first: Path, second: Path) -> Mapping[str, tuple[Path, Path]]:
    """Return the predictions files that two evaluations have in common, by what follows `predictions_` in their names.

    Args:
        first: a results folder, the run's folder around it, or a predictions file.
        second: the same; two files are compared whatever their names.

    Raises:
        DataError: there is nothing to compare.
    """
    if first.is_file() and second.is_file():
        return {predictions_file(first).name: (first, second)}
    found = [_files_of(path) for path in (first, second)]
    shared = {name: (found[0][name], found[1][name]) for name in found[0] if name in found[1]}
    if not shared:
        raise DataError(
            f"{first} ({', '.join(found[0])}) and {second} ({', '.join(found[1])}) have no predictions of the same "
            "dataset and method: name two files instead"
        )
    return shared


def _files_of(path: Path) -> dict[str, Path]:
    files = [predictions_file(path)] if path.is_file() else find_predictions(results_folder(path))
    return {file.name: file.path for file in files}
