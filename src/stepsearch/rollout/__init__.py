"""Episodes: a policy that thinks, searches and answers, recorded exactly to the token."""

from stepsearch.rollout.budget import longest_prompt
from stepsearch.rollout.flight import EpisodeEvent, Flight
from stepsearch.rollout.generation import (
    EpisodeTokenizer,
    GenerationEngine,
    Sampling,
    Segment,
    SegmentEnd,
)
from stepsearch.rollout.parallel_runner import ParallelRunner
from stepsearch.rollout.runner import EpisodeRunner, RolloutRunner
from stepsearch.rollout.seeding import episode_seed
from stepsearch.rollout.synced_runner import SyncedRunner

__all__ = [
    "EpisodeEvent",
    "EpisodeRunner",
    "EpisodeTokenizer",
    "Flight",
    "GenerationEngine",
    "ParallelRunner",
    "RolloutRunner",
    "Sampling",
    "Segment",
    "SegmentEnd",
    "SyncedRunner",
    "episode_seed",
    "longest_prompt",
]
