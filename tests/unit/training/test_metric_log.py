import json
import logging
from pathlib import Path

import pytest

from stepsearch.errors import TrainingError
from stepsearch.training.metric_log import MetricLog, headline, keep_lines_up_to
from stepsearch.training.token_facts import TokenFacts
from stepsearch.types import StepReward, Trajectory, TrajectoryReward


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_step_is_written_for_people_and_for_programs(tmp_path: Path) -> None:
    with MetricLog(tmp_path, step=0, tensorboard=True) as log:
        log.write(1, 9, {"reward/total": 0.25, "time/rollout": 1.5})
        log.say("a word")
    assert read(tmp_path / "metrics.jsonl") == [{"step": 1, "reward/total": 0.25, "time/rollout": 1.5}]
    text = (tmp_path / "train.log").read_text(encoding="utf-8")
    assert "INFO step 1/9  reward 0.250  1.5 s\n" in text
    assert "INFO a word\n" in text
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))) == 1


def test_tensorboard_is_optional(tmp_path: Path) -> None:
    with MetricLog(tmp_path, step=0, tensorboard=False) as log:
        log.write(1, 1, {"reward/total": 0.25})
    assert not (tmp_path / "tensorboard").exists()


def test_trajectories_come_with_every_part_of_their_reward(tmp_path: Path, make_trajectory) -> None:
    trajectory = make_trajectory()
    reward = TrajectoryReward(1.0, 1.0, None, (StepReward(0.5, 0.75, 0.25),))
    with MetricLog(tmp_path, step=0, tensorboard=False) as log:
        log.write_trajectories(3, [trajectory], [reward], [TokenFacts(["a"], [0.5], None, [-1.0])])
    (line,) = read(tmp_path / "trajectories.jsonl")
    assert line["step"] == 3
    assert line["reward"]["steps"] == [{"total": 0.5, "information_gain": 0.75, "redundancy_penalty": 0.25}]
    assert line["reward"]["total"] == 1.5
    assert line["tokens"] == {"texts": ["a"], "token_level_rewards": [0.5], "values": None, "advantages": [-1.0]}
    assert Trajectory.from_json(line["trajectory"]) == trajectory


def test_a_resumed_log_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    with MetricLog(tmp_path, step=0, tensorboard=False) as log:
        for step in (1, 2, 3):
            log.write(step, 9, {"reward/total": step / 4})
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "rew')
    with MetricLog(tmp_path, step=2, tensorboard=False) as log:
        log.write(3, 9, {"reward/total": 0.5})
    assert [line["step"] for line in read(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert read(tmp_path / "metrics.jsonl")[2]["reward/total"] == 0.5
    assert (tmp_path / "train.log").read_text(encoding="utf-8").count("step 3/9") == 2


def test_a_new_run_begins_its_logs_anew(tmp_path: Path) -> None:
    for _ in range(2):
        with MetricLog(tmp_path, step=0, tensorboard=True) as log:
            log.write(1, 1, {"reward/total": 0.25})
    assert len(read(tmp_path / "metrics.jsonl")) == 1
    assert (tmp_path / "train.log").read_text(encoding="utf-8").count("step 1/1") == 1
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))) == 1


def test_an_error_ends_in_the_log_and_the_log_lets_go_of_the_logger(tmp_path: Path) -> None:
    before = list(logging.getLogger("stepsearch").handlers)
    with pytest.raises(TrainingError), MetricLog(tmp_path, step=0, tensorboard=False):
        raise TrainingError("the loss is lost")
    assert "ERROR the loss is lost" in (tmp_path / "train.log").read_text(encoding="utf-8")
    assert logging.getLogger("stepsearch").handlers == before


def test_the_headline_shows_the_evaluation() -> None:
    metrics = {"eval/em": 0.5, "eval/f1": 0.625, "eval/searches": 2.0, "time/update": 1.0, "time/rollout": 1.0}
    line = headline(3, 10, metrics)
    assert line == "step 3/10  eval/em 0.500  eval/f1 0.625  2.0 s"


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"logs cannot be written to .*file"):
        MetricLog(tmp_path / "file", step=0, tensorboard=False)


def test_no_file_is_no_fault(tmp_path: Path) -> None:
    keep_lines_up_to(tmp_path / "metrics.jsonl", 3)
    assert not list(tmp_path.iterdir())
