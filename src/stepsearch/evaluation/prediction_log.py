"""The predictions file of an evaluation: appended to while it runs, and read again when it goes on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepsearch.data.whole_files import replacing
from stepsearch.errors import DataError
from stepsearch.evaluation.evaluator import prediction_record
from stepsearch.evaluation.metrics import EpisodeScore, score_episode
from stepsearch.types import Trajectory


@dataclass(frozen=True, slots=True)
class Prediction:
    """One line: an episode, and what the evaluation knows of it besides.

    Attributes:
        trajectory: the episode.
        sample: which of the question's episodes, from 0.
        latency_seconds: wall time of the batch that it was played in, divided by the batch's episodes.
        judged: what a judge said of the answer, 0 to 1; None where none was asked.
        error: why it could not be played; None where it could.
    """

    trajectory: Trajectory
    sample: int = 0
    latency_seconds: float | None = None
    judged: float | None = None
    error: str | None = None

    @property
    def score(self) -> EpisodeScore:
        """The figures of the episode."""
        return score_episode(self.trajectory, self.latency_seconds, self.judged, self.sample)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, the trajectory last."""
        record = prediction_record(self.trajectory)
        trajectory = record.pop("trajectory")
        more = {name: getattr(self, name) for name in ("sample", "latency_seconds", "judged", "error")}
        return {**record, "cover_em": self.score.cover_em, **more, "trajectory": trajectory}

    def to_line(self) -> str:
        """Return the line of the file."""
        return json.dumps(self.to_json(), ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Prediction":
        """Return what `to_json` wrote; a line of another command has no more than the trajectory."""
        return cls(
            Trajectory.from_json(record["trajectory"]),
            record.get("sample", 0),
            record.get("latency_seconds"),
            record.get("judged"),
            record.get("error"),
        )


class PredictionLog:
    """Appends predictions to a file, and keeps of each no more than its figures.

    Args:
        path: the file.
        resume: go on with what is there; a line that was torn by a kill, and episodes that could not be played, are
            dropped from it. Else the file begins anew.

    Raises:
        DataError: another line of the file than the last one is damaged, or it cannot be written.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self._path = path
        self.scores: list[EpisodeScore] = []
        self.finished: set[tuple[str, int]] = set()
        with replacing(path) as beside, beside.open("w", encoding="utf-8") as kept:
            for prediction in iterate_predictions(path, torn_end=True) if resume and path.is_file() else ():
                if prediction.error is None:
                    kept.write(prediction.to_line())
                    self._count(prediction)

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Write lines, so that they are there when this process is killed the next moment.

        Raises:
            DataError: the file cannot be written.
        """
        try:
            with self._path.open("a", encoding="utf-8") as lines:
                lines.write("".join(prediction.to_line() for prediction in predictions))
        except OSError as error:
            raise DataError(f"{self._path} cannot be written: {error.strerror or error}") from None
        for prediction in predictions:
            self._count(prediction)

    def _count(self, prediction: Prediction) -> None:
        self.scores.append(prediction.score)
        self.finished.add((prediction.trajectory.question.id, prediction.sample))


def iterate_predictions(path: Path, torn_end: bool = False) -> Iterator[Prediction]:
    """Yield the lines of a predictions file, one in memory at a time.

    Args:
        path: the file.
        torn_end: leave out a last line that is damaged.

    Raises:
        DataError: the file cannot be read, or a line is damaged.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    prediction = Prediction.from_json(json.loads(line.decode("utf-8")))
                except (ValueError, KeyError, TypeError, AttributeError):
                    if torn_end and not lines.read(1):
                        return
                    raise DataError(
                        f"{path}, line {number} is no prediction: name another file, or delete the line"
                    ) from None
                yield prediction
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
