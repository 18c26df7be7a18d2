"""Episodes: a policy that thinks, searches and answers, recorded exactly to the token."""

from stepsearch.rollout.budget import longest_prompt
from stepsearch.rollout.generation import (
    EpisodeTokenizer,
    GenerationEngine,
    Sampling,
    Segment,
    SegmentEnd,
)
from stepsearch.rollout.runner import EpisodeEvent, RolloutRunner
from stepsearch.rollout.seeding import episode_seed

__all__ = [
    "EpisodeEvent",
    "EpisodeTokenizer",
    "GenerationEngine",
    "RolloutRunner",
    "Sampling",
    "Segment",
    "SegmentEnd",
    "episode_seed",
    "longest_prompt",
]
