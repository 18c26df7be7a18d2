"""What an update is made of, as tensors over the whole padded sequence.

Shapes: B episodes, T positions (prompt and response, padded on the right to the longest episode).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from stepsearch.errors import TrainingError
from stepsearch.types import Trajectory

# Of a micro-batch's longest row, how much of a further one has to be real tokens; and up to which share of the budget a
# group takes any row.
WELL_FILLED = 0.75
SMALL_GROUP = 0.125


@dataclass(frozen=True, slots=True)
class EpisodeBatch:
    """Finished episodes, before any network has read them.

    Attributes:
        input_ids: [B, T] prompt and response, right-padded.
        attention_mask: [B, T] 1 on real tokens.
        response_mask: [B, T] 1 where the policy sampled the token.
        rollout_logprobs: [B, T] log-probability when sampled; 0 off the mask.
        token_level_scores: [B, T] rewards where they fall, before KL.
    """

    input_ids: Tensor
    attention_mask: Tensor
    response_mask: Tensor
    rollout_logprobs: Tensor
    token_level_scores: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> list[int]:
        """Real tokens of each episode."""
        return self.attention_mask.sum(dim=1).tolist()

    def select(self, rows: Sequence[int]) -> Self:
        """Return those rows, cut to the longest of them."""
        index = torch.as_tensor(rows, device=self.input_ids.device)
        width = int(self.attention_mask[index].sum(dim=1).max())
        return self._map(lambda x: x[index, :width])

    def part(self, rows: Sequence[int]) -> Self:
        """Return those rows, cut to the longest of them.

        Without rows: one in which nothing was sampled, which passes through a network as any does and counts nothing.
        """
        if rows:
            return self.select(rows)
        blank = self._map(lambda x: x[:1, :2])
        return replace(blank, response_mask=torch.zeros_like(blank.response_mask))

    def to(self, device: torch.device) -> Self:
        """Return the batch on another device."""
        return self._map(lambda x: x.to(device))

    def tensors(self) -> dict[str, Tensor | None]:
        """Return every field by its name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed: dict[str, Any] = {name: x if x is None else change(x) for name, x in self.tensors().items()}
        return type(self)(**changed)


@dataclass(frozen=True, slots=True)
class PPOBatch(EpisodeBatch):
    """Everything that the losses read; all [B, T].

    Attributes:
        token_level_rewards: scores less the KL penalty, where KL counts in the reward.
        old_logprobs: of the sampled tokens, before the update; 0 off the mask.
        ref_logprobs: under the reference; None without one.
        old_values: critic's estimates before the update; 0 off the mask; None without a critic.
        advantages: whitened over the sampled tokens, or relative to the group; 0 off the mask.
        returns: what the critic learns; not whitened; None without a critic.
    """

    token_level_rewards: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor | None
    old_values: Tensor | None
    advantages: Tensor
    returns: Tensor | None


def collate(trajectories: Sequence[Trajectory], scores: Sequence[Sequence[float]], pad_id: int) -> EpisodeBatch:
    """Return episodes and their token scores (one per token after the prompt) as one padded batch.

    Raises:
        TrainingError: there is no episode, or a score is not a finite number.
    """
    if not trajectories:
        raise TrainingError("there is no episode to train on")
    prompts = [len(trajectory.prompt_ids) for trajectory in trajectories]
    lengths = torch.tensor([n + len(t.response_ids) for n, t in zip(prompts, trajectories, strict=True)])
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    blanks = [(0,) * n for n in prompts]

    def fill(rows: Sequence[Sequence[Sequence[float]]], blank: float, dtype: torch.dtype) -> Tensor:
        flat = torch.tensor([x for parts in rows for part in parts for x in part], dtype=dtype)
        return torch.full(real.shape, blank, dtype=dtype).masked_scatter(real, flat)

    batch = EpisodeBatch(
        input_ids=fill([(t.prompt_ids, t.response_ids) for t in trajectories], pad_id, torch.long),
        attention_mask=real.long(),
        response_mask=fill([(b, t.response_mask) for b, t in zip(blanks, trajectories, strict=True)], 0, torch.long),
        rollout_logprobs=fill(
            [(b, t.rollout_logprobs) for b, t in zip(blanks, trajectories, strict=True)], 0.0, torch.float32
        ),
        token_level_scores=fill([(b, s) for b, s in zip(blanks, scores, strict=True)], 0.0, torch.float32),
    )
    _check_scores(batch.token_level_scores, trajectories)
    return batch


def _check_scores(token_level_scores: Tensor, trajectories: Sequence[Trajectory]) -> None:
    wrong = token_level_scores.isfinite().logical_not().any(dim=1).nonzero()[:, 0].tolist()
    if wrong:
        raise TrainingError(
            f"the reward of question {trajectories[wrong[0]].question.id!r} is not a finite number "
            f"({len(wrong)} of {len(trajectories)} episodes): the reward calculator has to return one"
        )


def microbatches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Return rows grouped by length, so that rows * longest row, padding included, stays within the budget.

    A group also ends where the next row would be mostly padding, unless the group is too small to be worth a pass.
    Longest first (the most memory is asked for at once); equal lengths keep their order. A row that alone exceeds the
    budget is a group of its own.
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if groups and _has_room(len(groups[-1]), lengths[groups[-1][0]], lengths[row], token_budget):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _has_room(rows: int, longest: int, length: int, token_budget: int) -> bool:
    """Return whether a row of that length joins a group of so many rows."""
    is_filled_well = length >= WELL_FILLED * longest or rows * longest < SMALL_GROUP * token_budget
    return is_filled_well and (rows + 1) * longest <= token_budget


def shared_microbatches(lengths: Sequence[int], token_budget: int, rank: int, processes: int) -> list[list[int]]:
    """Return the rows of each micro-batch of one process, when several share the rows out.

    All processes have as many micro-batches as the one with the most, since they pass the networks together; those that
    a process has no rows for come last, and are empty.

    Args:
        lengths: tokens of each row.
        token_budget: of a micro-batch, padding included.
        rank: which process, from 0.
        processes: how many.
    """
    shares = [
        [[hand[place] for place in group] for group in microbatches([lengths[row] for row in hand], token_budget)]
        for hand in deal(lengths, processes)
    ]
    return shares[rank] + [[]] * (max(map(len, shares)) - len(shares[rank]))


def deal(lengths: Sequence[int], processes: int) -> list[list[int]]:
    """Return the rows of each process: the longest first, each goes to the process with the fewest tokens so far."""
    hands: list[list[int]] = [[] for _ in range(processes)]
    tokens = [0] * processes
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        rank = tokens.index(min(tokens))
        hands[rank].append(row)
        tokens[rank] += lengths[row]
    return [sorted(hand) for hand in hands]


def save_failed_batch(folder: Path, step: int, batch: PPOBatch) -> Path:
    """Write the tensors of a batch that could not be learned from, by their names, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:06d}.pt"
    torch.save(batch.tensors(), path)
    return path
