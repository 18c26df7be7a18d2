"""What an update knew of each token of an episode, for people who look at single episodes."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from stepsearch.training.batch import PPOBatch
from stepsearch.types import Trajectory

# Enough to look at, and a third of the digits of a double.
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """One episode, token by token after the prompt: [R] each.

    Attributes:
        texts: what each token adds to the text; a part of a character that several tokens spell is shown as U+FFFD.
        token_level_rewards: less the KL penalty, where KL counts in the reward.
        values: the critic's estimates before the update; None on observed tokens, and without a critic.
        advantages: as the update used them; None on observed tokens.
    """

    texts: list[str]
    token_level_rewards: list[float]
    values: list[float | None] | None
    advantages: list[float | None]


def token_facts(batch: PPOBatch, trajectories: Sequence[Trajectory], pieces: Sequence[str]) -> list[TokenFacts]:
    """Return the facts of the batch's first rows.

    Args:
        batch: what the update read.
        trajectories: its first episodes, in its order.
        pieces: for each token id the text that it adds.
    """
    return [_facts(batch, row, trajectory, pieces) for row, trajectory in enumerate(trajectories)]


def _facts(batch: PPOBatch, row: int, trajectory: Trajectory, pieces: Sequence[str]) -> TokenFacts:
    start = len(trajectory.prompt_ids)
    response = slice(start, start + len(trajectory.response_ids))
    values = None if batch.old_values is None else _where_sampled(batch.old_values[row, response], trajectory)
    return TokenFacts(
        # A model's vocabulary may be padded beyond the tokenizer's.
        texts=[pieces[token] if token < len(pieces) else "" for token in trajectory.response_ids],
        token_level_rewards=_rounded(batch.token_level_rewards[row, response]),
        values=values,
        advantages=_where_sampled(batch.advantages[row, response], trajectory),
    )


def _where_sampled(numbers: Tensor, trajectory: Trajectory) -> list[float | None]:
    pairs = zip(_rounded(numbers), trajectory.response_mask, strict=True)
    return [number if sampled else None for number, sampled in pairs]


def _rounded(numbers: Tensor) -> list[float]:
    return [round(number, _DIGITS) for number in numbers.tolist()]
