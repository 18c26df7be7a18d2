"""Episodes: a policy that thinks, searches and answers, recorded exactly to the token."""

from stepsearch.rollout.budget import longest_prompt
from stepsearch.rollout.generation import (
    EpisodeTokenizer,
    GenerationEngine,
    Sampling,
    Segment,
    SegmentEnd,
)
from stepsearch.rollout.runner import EpisodeEvent, RolloutRunner, RolloutStatistics
from stepsearch.rollout.seeding import episode_seed

__all__ = [
    "EpisodeEvent",
    "EpisodeTokenizer",
    "GenerationEngine",
    "RolloutRunner",
    "RolloutStatistics",
    "Sampling",
    "Segment",
    "SegmentEnd",
    "episode_seed",
    "longest_prompt",
]
