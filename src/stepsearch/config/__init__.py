"""Typed settings: one small section per part, loaded from YAML with dotted overrides.

Functions elsewhere receive the values they use, never the whole tree.
"""

from stepsearch.config.chosen_keys import asked_keys, overridden_keys
from stepsearch.config.learning_settings import (
    ImitationSettings,
    LoraSettings,
    RewardSettings,
    TrainingSettings,
    WarmStartPhase,
    WarmStartSettings,
)
from stepsearch.config.loading import load_config, refuse_impossible
from stepsearch.config.policy_settings import (
    IN_PROCESS,
    TINY_LAYERS,
    TINY_WIDTH,
    ModelSettings,
    RolloutSettings,
    VLLMSettings,
)
from stepsearch.config.run_settings import EvaluationSettings, LoggingSettings, WorldSettings
from stepsearch.config.search_settings import DenseSearchSettings, SearchSettings
from stepsearch.config.section import Section, as_mapping
from stepsearch.config.tree import Config, known_keys

__all__ = [
    "IN_PROCESS",
    "TINY_LAYERS",
    "TINY_WIDTH",
    "Config",
    "DenseSearchSettings",
    "EvaluationSettings",
    "ImitationSettings",
    "LoggingSettings",
    "LoraSettings",
    "ModelSettings",
    "RewardSettings",
    "RolloutSettings",
    "SearchSettings",
    "Section",
    "TrainingSettings",
    "VLLMSettings",
    "WarmStartPhase",
    "WarmStartSettings",
    "WorldSettings",
    "as_mapping",
    "asked_keys",
    "known_keys",
    "load_config",
    "overridden_keys",
    "refuse_impossible",
]
