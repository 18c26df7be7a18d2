"""One evaluation as numbers per question: what comparisons resample."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stepsearch.data.whole_files import write_json
from stepsearch.errors import DataError
from stepsearch.evaluation.metrics import score_episode
from stepsearch.types import Trajectory


@dataclass(frozen=True, slots=True)
class QuestionScores:
    """Figures of an evaluation, one entry per question in each list; None where the question has no such figure.

    Attributes:
        ids: of the questions.
        hops: as the source says.
        em, f1, searches, golden_recall: of the episode.
        retrieved, repeated: documents that its searches brought, and those of them that an earlier one had brought.
        well_formed: 1 without a format error.
    """

    ids: list[str]
    hops: list[int | None]
    em: list[float]
    f1: list[float]
    searches: list[int]
    golden_recall: list[float | None]
    retrieved: list[int]
    repeated: list[int]
    well_formed: list[int]

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory]) -> "QuestionScores":
        """Return the scores of finished episodes."""
        scores = [score_episode(trajectory) for trajectory in trajectories]
        return cls(
            ids=[trajectory.question.id for trajectory in trajectories],
            hops=[trajectory.question.hops for trajectory in trajectories],
            em=[score.em for score in scores],
            f1=[score.f1 for score in scores],
            searches=[score.searches for score in scores],
            golden_recall=[score.golden_recall for score in scores],
            retrieved=[score.retrieved for score in scores],
            repeated=[score.repeated for score in scores],
            well_formed=[int(trajectory.format_error is None) for trajectory in trajectories],
        )


def write_scores(path: Path, scores: Mapping[str, QuestionScores]) -> None:
    """Write the scores of several evaluations by name."""
    write_json(path, {name: asdict(of) for name, of in scores.items()}, indent=None)


def read_scores(path: Path) -> dict[str, QuestionScores]:
    """Return what `write_scores` wrote.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {name: QuestionScores(**lists) for name, lists in record.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        raise DataError(f"{path} cannot be read: delete its run's folder, and compare again") from None
