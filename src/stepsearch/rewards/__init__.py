"""What an episode is worth: the answer, its queries, and every search step."""

from stepsearch.rewards.placement import token_level_scores
from stepsearch.rewards.reward_calculator import StepSearchRewardCalculator

__all__ = ["StepSearchRewardCalculator", "token_level_scores"]
