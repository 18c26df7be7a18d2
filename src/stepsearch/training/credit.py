"""What every sampled token has earned: the step from rewards to advantages and returns, as the settings say."""

from typing import Any

from stepsearch.config import TrainingSettings
from stepsearch.training.advantages import group_advantages, masked_gae, whiten
from stepsearch.training.batch import EpisodeBatch, PPOBatch
from stepsearch.training.kl import k1
from stepsearch.training.mismatch import importance_weights
from stepsearch.training.reading import Readings


def assign_credit(episodes: EpisodeBatch, readings: Readings, settings: TrainingSettings) -> PPOBatch:
    """Return the batch with KL in its rewards, advantages over sampled tokens, and returns.

    Args:
        episodes: rewarded episodes.
        readings: what policy, reference and critic said of them; without a critic's values, groups are compared.
        settings: which KL and how much of it, the discount, and the cap on importance weights.
    """
    mask, rewards = episodes.response_mask, episodes.token_level_scores
    if settings.kl_mode == "reward" and readings.ref_logprobs is not None:
        rewards = rewards - settings.kl_coef * k1(readings.old_logprobs, readings.ref_logprobs)
    if readings.old_values is None:
        advantages, returns = group_advantages(rewards, mask, settings.rollouts_per_question), None
    else:
        estimates = masked_gae(rewards, readings.old_values, mask, gamma=settings.gamma, gae_lambda=settings.gae_lambda)
        advantages, returns = whiten(estimates.advantages, mask) * mask, estimates.returns
    if settings.importance_cap is not None:
        advantages = advantages * importance_weights(
            readings.old_logprobs, episodes.rollout_logprobs, mask, settings.importance_cap
        )
    episode_tensors: dict[str, Any] = episodes.tensors()
    return PPOBatch(
        **episode_tensors,
        token_level_rewards=rewards,
        old_logprobs=readings.old_logprobs,
        ref_logprobs=readings.ref_logprobs,
        old_values=readings.old_values,
        advantages=advantages,
        returns=returns,
    )
