"""Plays the episodes of an evaluation, a batch at a time, whatever befalls one of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepsearch.errors import EndpointError, StepSearchError
from stepsearch.evaluation.evaluator import question_seeds
from stepsearch.evaluation.metrics import EpisodeScore
from stepsearch.evaluation.prediction_log import Prediction, PredictionLog
from stepsearch.rollout.runner import EpisodeRunner
from stepsearch.types import FormatError, Question, StopReason, Trajectory

FAILURES_IN_A_ROW = 10
"""After so many it is not the questions that are at fault, but the model, the server or the machine."""

Watch = Callable[[int, Sequence[EpisodeScore]], None]
"""Told how many episodes a finished batch had, and the scores of all so far."""


@dataclass(frozen=True, slots=True)
class Task:
    """One episode to play: the question, which of its episodes it is, and what seeds its noise."""

    question: Question
    sample: int
    seed: int


def tasks_of(questions: Sequence[Question], seed: int, samples: int) -> list[Task]:
    """Return `samples` episodes of every question; those of sample s are what an evaluation with `seed + s` plays."""
    return [
        Task(question, sample, of)
        for sample in range(samples)
        for question, of in zip(questions, question_seeds(seed + sample, len(questions)), strict=True)
    ]


def play(
    runner: EpisodeRunner,
    tasks: Sequence[Task],
    log: PredictionLog,
    batch_size: int,
    watch: Watch,
) -> list[EpisodeScore]:
    """Play what the log does not have, append it batch by batch, and return the scores of all.

    An episode that raises is recorded with its error and counts as wrong.

    Args:
        runner: plays.
        tasks: what the evaluation consists of.
        log: has what is finished, and gets the rest.
        batch_size: episodes handed to the runner at once.
        watch: told of every batch.

    Raises:
        Exception: what the runner raised, when it did so `FAILURES_IN_A_ROW` times, or for everything there was.
        EndpointError: a model behind an endpoint replied to nothing.
    """
    left = [task for task in tasks if (task.question.id, task.sample) not in log.finished]
    player = _Player(runner)
    for start in range(0, len(left), batch_size):
        batch = left[start : start + batch_size]
        started = time.perf_counter()
        played = player.play(batch)
        seconds = (time.perf_counter() - started) / len(batch)
        log.append(
            [
                Prediction(trajectory, task.sample, None if error else seconds, error=error)
                for task, (trajectory, error) in zip(batch, played, strict=True)
            ]
        )
        watch(len(batch), log.scores)
    if log.scores and not any(score.played for score in log.scores):
        raise player.last_error or EndpointError("the endpoint replied to no question: see the warnings above")
    return log.scores


_Played = tuple[Trajectory, str | None]
"""An episode, and the error that stands in its place."""


class _Player:
    """Plays batches, and halves one that raises until the episode that did it is alone."""

    def __init__(self, runner: EpisodeRunner) -> None:
        self._runner = runner
        self._failures = 0
        self.last_error: Exception | None = None

    def play(self, batch: Sequence[Task]) -> list[_Played]:
        """Return the batch's episodes, in order."""
        try:
            trajectories = self._runner.run([task.question for task in batch], [task.seed for task in batch])
            if len(trajectories) != len(batch):
                raise RuntimeError(f"the runner returned {len(trajectories)} episodes for {len(batch)} questions")
        # Whatever it is: one question must not lose the others.
        except Exception as error:
            if len(batch) > 1:
                half = len(batch) // 2
                return self.play(batch[:half]) + self.play(batch[half:])
            return [(_unplayed(batch[0].question), self._note(error))]
        self._failures = 0
        return [(trajectory, _silence(trajectory)) for trajectory in trajectories]

    def _note(self, error: Exception) -> str:
        """Return what is recorded of a failure.

        Raises:
            Exception: it is one too many.
        """
        self._failures += 1
        self.last_error = error
        if self._failures < FAILURES_IN_A_ROW:
            return f"{type(error).__name__}: {error}"
        message = f"{FAILURES_IN_A_ROW} questions in a row failed, the last one with: {error}"
        raise (type(error)(message) if isinstance(error, StepSearchError) else RuntimeError(message)) from error


def _silence(trajectory: Trajectory) -> str | None:
    return "the endpoint did not reply" if trajectory.stop_reason is StopReason.NO_REPLY else None


def _unplayed(question: Question) -> Trajectory:
    return Trajectory(question, (), (), (), (), (), None, FormatError.NO_ANSWER, StopReason.ERROR)
