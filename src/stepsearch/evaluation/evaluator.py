"""Run a policy over questions, a batch at a time."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from stepsearch.data.record_files import write_json_lines
from stepsearch.evaluation.metrics import score_answer
from stepsearch.rollout.runner import EpisodeRunner
from stepsearch.rollout.seeding import episode_seed
from stepsearch.types import Question, Trajectory


def question_seeds(seed: int, count: int) -> list[int]:
    """Return the episode seeds of the first `count` questions of an evaluation."""
    return [episode_seed(seed, index) for index in range(count)]


def run_questions(
    runner: EpisodeRunner,
    questions: Sequence[Question],
    seeds: Sequence[int],
    batch_size: int,
    advance: Callable[[int], None] | None = None,
) -> list[Trajectory]:
    """Return the episode of every question, in order.

    Args:
        runner: samples the episodes.
        questions: what to ask.
        seeds: one per question; of no effect when sampling is greedy.
        batch_size: episodes handed to the runner at once.
        advance: told how many questions a finished batch had.
    """
    trajectories: list[Trajectory] = []
    for start in range(0, len(questions), batch_size):
        batch = questions[start : start + batch_size]
        trajectories += runner.run(batch, seeds[start : start + batch_size])
        if advance:
            advance(len(batch))
    return trajectories


def write_predictions(path: Path, trajectories: Sequence[Trajectory]) -> None:
    """Write one JSON line per episode, as `prediction_record` has it."""
    write_json_lines(path, map(prediction_record, trajectories))


def read_predictions(path: Path) -> list[Trajectory]:
    """Return the episodes that `write_predictions` wrote."""
    with path.open(encoding="utf-8") as lines:
        return [Trajectory.from_json(json.loads(line)["trajectory"]) for line in lines]


def prediction_record(trajectory: Trajectory) -> dict[str, object]:
    """Return what a line of a predictions file says of any episode; evaluations add keys of their own."""
    question = trajectory.question
    em, f1 = score_answer(question, trajectory.answer)
    return {
        "id": question.id,
        "question": question.question,
        "answers": list(question.answers),
        "prediction": trajectory.answer,
        "em": em,
        "f1": f1,
        "trajectory": trajectory.to_json(),
    }
