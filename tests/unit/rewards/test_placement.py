from collections.abc import Callable
from dataclasses import replace

import pytest

from stepsearch.rewards import token_level_scores
from stepsearch.types import SearchStep, StepReward, Trajectory, TrajectoryReward

Make = Callable[..., Trajectory]


def reward_of(outcome: float, *totals: float) -> TrajectoryReward:
    return TrajectoryReward(outcome, 1.0, None, tuple(StepReward(total, 0.0, 0.0) for total in totals))


def test_outcome_and_steps_stand_on_their_tokens(trajectory: Make) -> None:
    episode = trajectory([("a", ["x"]), ("b", ["y"])])
    assert token_level_scores(episode, reward_of(2.0, 0.5, -0.25)) == [0, 0.5, 0, 0, -0.25, 0, 0, 2.0]


def test_rewards_on_one_token_add(trajectory: Make) -> None:
    episode = trajectory([("a", ["x"])])
    ends_with_search = replace(
        episode,
        response_ids=(1, 2, 3),
        response_mask=(1, 1, 0),
        rollout_logprobs=(0.0,) * 3,
        steps=(SearchStep("a", (), end_position=1),),
    )
    assert token_level_scores(ends_with_search, reward_of(1.0, 0.5)) == [0.0, 1.5, 0.0]


def test_without_step_rewards_the_outcome_stands_alone(trajectory: Make) -> None:
    episode = trajectory([("a", ["x"])])
    assert token_level_scores(episode, TrajectoryReward(1.0, 1.0, None, None)) == [0, 0, 0, 0, 1.0]


@pytest.mark.parametrize("observed", [0, 3])
def test_without_a_sampled_token_there_is_nothing_to_reward(trajectory: Make, observed: int) -> None:
    episode = replace(
        trajectory(), response_ids=(5,) * observed, response_mask=(0,) * observed, rollout_logprobs=(0.0,) * observed
    )
    assert token_level_scores(episode, reward_of(1.0)) == [0.0] * observed
