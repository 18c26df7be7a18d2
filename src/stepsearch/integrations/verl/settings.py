"""Which of StepSearch's settings an episode follows inside verl; the rest there is verl's to set (docs/verl.md)."""

from collections.abc import Mapping
from typing import Any

from stepsearch.config import Config, RolloutSettings, load_config
from stepsearch.errors import ConfigError
from stepsearch.rollout.budget import MINIMAL_TURN_TOKENS

SECTIONS = ("search", "reward")
KEYS = (
    "model.prompt",
    "rollout.max_turn_tokens",
    "rollout.max_observation_tokens",
    "rollout.max_passage_tokens",
    "rollout.max_corrections",
)


def episode_config(tree: Mapping[str, Any]) -> Config:
    """Return the settings of an episode; the search is `remote` unless an engine is named.

    Args:
        tree: what stands under `stepsearch` in verl's config.

    Raises:
        ConfigError: a key is unknown, has a wrong value, or is verl's to set.
    """
    config = load_config(base=tree)
    given = [f"{name}.{key}" for name in tree if name not in SECTIONS for key in _keys(tree[name])]
    if wrong := sorted(set(given).difference(KEYS)):
        raise ConfigError(
            f"stepsearch.{wrong[0].rstrip('.')} does nothing inside verl, which has a key of its own for it "
            f"(docs/verl.md). What counts under stepsearch is search.*, reward.*, {', '.join(KEYS)}"
        )
    if "engine_type" in config.search.model_fields_set:
        return config
    return config.model_copy(update={"search": config.search.model_copy(update={"engine_type": "remote"})})


def _keys(section: Any) -> list[str]:
    return list(section) if isinstance(section, Mapping) else [""]


def check_response_length(response_length: int, rollout: RolloutSettings) -> None:
    """Refuse a response in which no search fits: a turn, its result, and a minimal last turn.

    Raises:
        ConfigError: it is too short.
    """
    last_turn = min(MINIMAL_TURN_TOKENS, rollout.max_turn_tokens)
    needed = rollout.max_turn_tokens + rollout.max_observation_tokens + last_turn
    if response_length < needed:
        raise ConfigError(
            f"data.max_response_length={response_length} leaves no room for a search, which takes {needed} tokens: "
            "raise it, or lower stepsearch.rollout.max_turn_tokens and stepsearch.rollout.max_observation_tokens"
        )
