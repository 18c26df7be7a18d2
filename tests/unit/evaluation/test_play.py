"""An evaluation that goes on, whatever befalls one question, the process, or the file."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stepsearch.errors import DataError, EndpointError, ModelError
from stepsearch.evaluation.judging import judge_predictions
from stepsearch.evaluation.metrics import EpisodeScore
from stepsearch.evaluation.play import Task, play, tasks_of
from stepsearch.evaluation.prediction_log import Prediction, PredictionLog, iterate_predictions
from stepsearch.rollout.seeding import episode_seed
from stepsearch.types import Question, StopReason, Trajectory


class Runner:
    """Answers every question with its own text, but raises for those it is told to."""

    def __init__(self, failing: Sequence[str] = (), error: Exception | BaseException | None = None) -> None:
        self.failing = failing
        self.error = error or ValueError("no such thing")
        self.played: list[str] = []

    def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
        if any(question.id in self.failing for question in questions):
            raise self.error
        self.played += [question.id for question in questions]
        return [
            Trajectory(question, (), (), (), (), (), question.question, None, StopReason.ANSWERED)
            for question in questions
        ]


def tasks(count: int, samples: int = 1) -> list[Task]:
    """Questions of which the even ones are answered right."""
    questions = [Question(f"q{i}", "right", ("right" if i % 2 == 0 else "other",)) for i in range(count)]
    return tasks_of(questions, 0, samples)


def unwatched(count: int, scores: Sequence[EpisodeScore]) -> None:
    """Nobody looks."""


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_no_question_is_dropped_for_the_batch_size(tmp_path: Path, batch_size: int) -> None:
    seen: list[tuple[int, int]] = []
    log = PredictionLog(tmp_path / "p.jsonl", resume=False)
    scores = play(Runner(), tasks(7), log, batch_size, lambda count, so_far: seen.append((count, len(so_far))))
    assert [score.em for score in scores] == [1, 0, 1, 0, 1, 0, 1]
    assert sum(count for count, _ in seen) == seen[-1][1] == 7
    first = lines(tmp_path / "p.jsonl")[0]
    assert (first["id"], first["em"], first["cover_em"], first["sample"]) == ("q0", 1.0, 1.0, 0)
    assert (first["judged"], first["error"]) == (None, None)
    assert first["latency_seconds"] >= 0
    assert list(first)[-1] == "trajectory"


def test_one_that_raises_does_not_lose_the_others(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "p.jsonl", resume=False)
    scores = play(Runner(failing=["q2", "q5"]), tasks(8), log, 8, unwatched)
    assert [score.id for score in scores] == [f"q{i}" for i in range(8)]
    assert [score.id for score in scores if not score.played] == ["q2", "q5"]
    assert [score.em for score in scores] == [1, 0, 0, 0, 1, 0, 1, 0]
    failed = lines(tmp_path / "p.jsonl")[2]
    assert failed["error"] == "ValueError: no such thing"
    assert (failed["prediction"], failed["em"], failed["latency_seconds"]) == (None, 0.0, None)
    assert failed["trajectory"]["stop_reason"] == "error"


def test_a_runner_that_loses_an_episode_has_failed(tmp_path: Path) -> None:
    class Loses(Runner):
        def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
            return [t for t in super().run(questions, seeds) if t.question.id != "q1"]

    scores = play(Loses(), tasks(3), PredictionLog(tmp_path / "p.jsonl", resume=False), 3, unwatched)
    assert [score.played for score in scores] == [True, False, True]
    assert lines(tmp_path / "p.jsonl")[1]["error"] == "RuntimeError: the runner returned 0 episodes for 1 questions"


def test_an_endpoint_that_did_not_reply_is_asked_again_later(tmp_path: Path) -> None:
    class Silent(Runner):
        def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
            played = super().run(questions, seeds)
            return [
                replace(t, answer=None, stop_reason=StopReason.NO_REPLY) if t.question.id == "q0" else t for t in played
            ]

    path = tmp_path / "p.jsonl"
    scores = play(Silent(), tasks(3), PredictionLog(path, resume=False), 3, unwatched)
    assert [score.played for score in scores] == [False, True, True]
    assert lines(path)[0]["error"] == "the endpoint did not reply"
    assert [score.em for score in play(Runner(), tasks(3), PredictionLog(path, resume=True), 3, unwatched)] == [0, 1, 1]


def test_many_in_a_row_end_it_and_what_was_played_stays(tmp_path: Path) -> None:
    runner = Runner(failing=[f"q{i}" for i in range(4, 40)], error=ModelError("the server is gone"))
    log = PredictionLog(tmp_path / "p.jsonl", resume=False)
    with pytest.raises(ModelError, match="10 questions in a row failed, the last one with: the server is gone"):
        play(runner, tasks(40), log, 4, unwatched)
    assert [line["id"] for line in lines(tmp_path / "p.jsonl") if line["error"] is None] == ["q0", "q1", "q2", "q3"]
    again = PredictionLog(tmp_path / "p.jsonl", resume=True)
    assert len(play(Runner(), tasks(40), again, 4, unwatched)) == 40


def test_when_nothing_can_be_played_there_is_no_result(tmp_path: Path) -> None:
    runner = Runner(failing=["q0", "q1"], error=ModelError("no such model"))
    with pytest.raises(ModelError, match="no such model"):
        play(runner, tasks(2), PredictionLog(tmp_path / "p.jsonl", resume=False), 8, unwatched)


def test_an_endpoint_that_replies_to_nothing_gives_no_result(tmp_path: Path) -> None:
    class Silent(Runner):
        def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
            return [replace(t, answer=None, stop_reason=StopReason.NO_REPLY) for t in super().run(questions, seeds)]

    with pytest.raises(EndpointError, match="replied to no question"):
        play(Silent(), tasks(2), PredictionLog(tmp_path / "p.jsonl", resume=False), 2, unwatched)


def test_resuming_plays_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with pytest.raises(KeyboardInterrupt):
        play(Runner(["q4"], KeyboardInterrupt()), tasks(6), PredictionLog(path, resume=False), 2, unwatched)
    # What a kill in the middle of a write leaves.
    with path.open("a", encoding="utf-8") as file:
        file.write('{"id": "q4", "traj')
    runner = Runner()
    scores = play(runner, tasks(6), PredictionLog(path, resume=True), 2, unwatched)
    assert runner.played == ["q4", "q5"]
    assert [score.em for score in scores] == [1, 0, 1, 0, 1, 0]
    assert [line["id"] for line in lines(path)] == [f"q{i}" for i in range(6)]


def test_resuming_plays_again_what_failed(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    play(Runner(["q0"]), tasks(3), PredictionLog(path, resume=False), 1, unwatched)
    runner = Runner()
    scores = play(runner, tasks(3), PredictionLog(path, resume=True), 1, unwatched)
    assert runner.played == ["q0"]
    assert sorted((score.id, score.em) for score in scores) == [("q0", 1), ("q1", 0), ("q2", 1)]
    assert len(lines(path)) == 3


def test_without_resume_the_file_begins_anew(tmp_path: Path) -> None:
    for _ in range(2):
        play(Runner(), tasks(2), PredictionLog(tmp_path / "p.jsonl", resume=False), 2, unwatched)
    assert len(lines(tmp_path / "p.jsonl")) == 2


def test_damage_before_the_end_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    play(Runner(), tasks(2), PredictionLog(path, resume=False), 2, unwatched)
    whole = path.read_text(encoding="utf-8")
    path.write_text("{torn\n" + whole, encoding="utf-8")
    with pytest.raises(DataError, match=r"p\.jsonl, line 1 is no prediction"):
        PredictionLog(path, resume=True)
    assert path.read_text(encoding="utf-8") == "{torn\n" + whole


def test_samples_have_the_seeds_of_evaluations_of_their_own(tmp_path: Path) -> None:
    seeds = [(task.question.id, task.sample, task.seed) for task in tasks(2, samples=2)]
    assert seeds == [
        *(("q0", 0, episode_seed(0, 0)), ("q1", 0, episode_seed(0, 1))),
        *(("q0", 1, episode_seed(1, 0)), ("q1", 1, episode_seed(1, 1))),
    ]
    path = tmp_path / "p.jsonl"
    scores = play(Runner(), tasks(2, samples=2), PredictionLog(path, resume=False), 3, unwatched)
    assert len(scores) == 4
    assert len(PredictionLog(path, resume=True).finished) == 4


def test_a_judge_is_asked_for_what_has_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    play(Runner(["q1"]), tasks(4), PredictionLog(path, resume=False), 1, unwatched)
    asked: list[list[str]] = []

    def judge(predictions: Sequence[Prediction]) -> list[float | None]:
        asked.append([prediction.trajectory.question.id for prediction in predictions])
        return [None if name == "q3" and len(asked) == 2 else 1.0 for name in asked[-1]]

    watched: list[int] = []
    scores = judge_predictions(path, judge, 2, watched.append)
    # q1 could not be played; of q3 the judge could not say, and is asked again.
    assert asked == [["q0"], ["q2", "q3"]]
    assert [score.judged for score in scores] == [1.0, None, 1.0, None]
    assert watched == [2, 2]
    scores = judge_predictions(path, judge, 2, watched.append)
    assert asked[2:] == [["q3"]]
    assert [prediction.judged for prediction in iterate_predictions(path)] == [1.0, None, 1.0, 1.0]
    assert [score.judged for score in scores] == [1.0, None, 1.0, 1.0]
