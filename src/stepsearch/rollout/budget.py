"""The arithmetic of the context: what must fit into `model.max_length`."""

from dataclasses import dataclass

from stepsearch.config import RolloutSettings
from stepsearch.errors import ConfigError

MINIMAL_TURN_TOKENS = 16
"""An episode goes on only where at least so many tokens are left to sample (or `max_turn_tokens`, if that is less)."""


@dataclass(frozen=True, slots=True)
class EpisodeBudget:
    """What one episode may use.

    Attributes:
        max_length: tokens of the whole episode, prompt included.
        max_turn_tokens: tokens of one sampled turn.
        max_search_steps: executed searches.
        max_corrections: turns without a valid action that are answered by a correction.
    """

    max_length: int
    max_turn_tokens: int
    max_search_steps: int
    max_corrections: int

    def turn_tokens(self, context_length: int) -> int:
        """Return how many tokens the next turn may sample."""
        return min(self.max_turn_tokens, self.max_length - context_length)

    def fits(self, context_length: int) -> bool:
        """Return whether a turn worth sampling still fits after a context of that length."""
        return self.turn_tokens(context_length) >= min(MINIMAL_TURN_TOKENS, self.max_turn_tokens)


def longest_prompt(max_length: int, settings: RolloutSettings) -> int:
    """Return the tokens a prompt may have so that one search fits: a turn, its result, and a minimal last turn.

    Raises:
        ConfigError: the budgets leave no room for a prompt.
    """
    minimal = min(MINIMAL_TURN_TOKENS, settings.max_turn_tokens)
    left = max_length - settings.max_turn_tokens - settings.max_observation_tokens - minimal
    if left < 1:
        raise ConfigError(
            f"model.max_length={max_length} leaves no room for a prompt: rollout.max_turn_tokens "
            f"{settings.max_turn_tokens} + rollout.max_observation_tokens {settings.max_observation_tokens} + "
            f"{minimal} for a last turn = {max_length - left}; raise model.max_length or lower the budgets"
        )
    return left
