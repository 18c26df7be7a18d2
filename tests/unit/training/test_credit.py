"""From rewards to advantages and returns: an episode of two sampled tokens, by hand."""

import math
from typing import Any

import pytest
import torch

from stepsearch.config import TrainingSettings
from stepsearch.training.batch import EpisodeBatch
from stepsearch.training.credit import assign_credit
from stepsearch.training.reading import Readings


def episodes(*last_rewards: float, rollout_logprobs: tuple[float, ...] = (0.0, -1.0, 0.0, -1.0)) -> EpisodeBatch:
    """Return episodes that sample their second and their last token, which has the reward."""
    count = len(last_rewards)
    return EpisodeBatch(
        input_ids=torch.ones(count, 4, dtype=torch.long),
        attention_mask=torch.ones(count, 4, dtype=torch.long),
        response_mask=torch.tensor([[0, 1, 0, 1]] * count),
        rollout_logprobs=torch.tensor([rollout_logprobs] * count),
        token_level_scores=torch.tensor([[0.0, 0.0, 0.0, reward] for reward in last_rewards]),
    )


def readings(count: int, *, has_critic: bool) -> Readings:
    """Return a policy's log-probabilities of -1, a reference's of -2, and values of 0."""
    logprobs = torch.tensor([[0.0, -1.0, 0.0, -1.0]] * count)
    return Readings(logprobs, None, 2 * logprobs, torch.zeros(count, 4) if has_critic else None)


def settings(**values: Any) -> TrainingSettings:
    return TrainingSettings(**{"kl_mode": "reward", "kl_coef": 0.1, "gamma": 1.0, "gae_lambda": 1.0, **values})


def test_kl_lowers_the_rewards_and_only_advantages_are_whitened() -> None:
    batch = assign_credit(episodes(1.0), readings(1, has_critic=True), settings())
    assert batch.returns is not None
    assert batch.token_level_rewards[0].tolist() == pytest.approx([0, -0.1, 0, 0.9])
    assert batch.returns[0].tolist() == pytest.approx([0, 0.8, 0, 0.9])
    # 0.8 and 0.9 less their mean, over their standard deviation of 0.05 * sqrt(2).
    assert batch.advantages[0].tolist() == pytest.approx([0, -math.sqrt(0.5), 0, math.sqrt(0.5)], abs=1e-4)


def test_kl_that_counts_in_the_loss_is_not_in_the_rewards() -> None:
    batch = assign_credit(episodes(1.0), readings(1, has_critic=True), settings(kl_mode="loss"))
    assert batch.token_level_rewards[0].tolist() == [0, 0, 0, 1]
    assert batch.ref_logprobs is not None


def test_importance_weights_scale_advantages_up_to_their_cap() -> None:
    # The engine gave the first token a quarter of the trainer's probability.
    sampled = episodes(1.0, rollout_logprobs=(0.0, -1.0 - math.log(4), 0.0, -1.0))
    batch = assign_credit(sampled, readings(1, has_critic=True), settings(importance_cap=2.0))
    assert batch.advantages[0].tolist() == pytest.approx([0, -2 * math.sqrt(0.5), 0, math.sqrt(0.5)], abs=1e-4)


def test_without_a_critic_episodes_of_a_question_are_compared() -> None:
    batch = assign_credit(
        episodes(1.0, 0.0), readings(2, has_critic=False), settings(critic="group", rollouts_per_question=2)
    )
    assert batch.returns is None
    expected = [[0, math.sqrt(0.5), 0, math.sqrt(0.5)], [0, -math.sqrt(0.5), 0, -math.sqrt(0.5)]]
    torch.testing.assert_close(batch.advantages, torch.tensor(expected), atol=1e-4, rtol=0)
