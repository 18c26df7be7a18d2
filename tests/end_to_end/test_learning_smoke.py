"""StePPO learns: on a toy world the mean reward rises, whatever the seed."""

import json
from pathlib import Path

import pytest
from toy_run import toy_config, toy_trainer

from stepsearch.models import StepSearchModel

STEPS = 10


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_mean_reward_of_the_last_steps_is_above_that_of_the_first(tmp_path: Path, seed: int) -> None:
    trainer = toy_trainer(tmp_path, toy_config({"seed": seed, "training.max_steps": STEPS}))
    summary = trainer.train()
    lines = (tmp_path / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    assert [step["step"] for step in metrics] == list(range(STEPS + 1))
    start, *metrics = metrics
    assert start.keys() == {"step", "eval/em", "eval/f1", "time/evaluation"}
    assert (summary.steps, summary.interrupted) == (STEPS, False)
    # The policy begins by searching half the time; an answer without a search earns nothing.
    first, last = ([step[key] for key in ("reward/total", "rollout/format_rate")] for step in (metrics[0], metrics[-1]))
    assert sum(step["reward/total"] for step in metrics[-3:]) / 3 > first[0] + 0.1
    assert last[1] > first[1] + 0.2
    record = StepSearchModel.load(tmp_path / "checkpoints" / "best_model").record
    assert record["reward"]["max_search_steps"] == 2


def test_outcome_only_ppo_is_the_same_program(tmp_path: Path) -> None:
    overrides = {"reward.step_scale": 0, "reward.gamma_key": 0, "training.max_steps": 1}
    trainer = toy_trainer(tmp_path, toy_config(overrides))
    trainer.train()
    _, line = (tmp_path / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = json.loads(line)
    assert metrics["reward/total"] == metrics["reward/outcome"]
    assert metrics["reward/information_gain"] > 0
