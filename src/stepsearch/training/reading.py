"""What the networks say about a batch before the update: one pass each, without gradients."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stepsearch.training.batch import EpisodeBatch, microbatches


@dataclass(frozen=True, slots=True)
class Readings:
    """All [B, T] and 0 off the mask.

    Attributes:
        old_logprobs: of the sampled tokens under the policy.
        entropy: of the policy where they were sampled.
        ref_logprobs: under the reference; None without one.
        old_values: the critic's estimates.
    """

    old_logprobs: Tensor
    entropy: Tensor
    ref_logprobs: Tensor | None
    old_values: Tensor


@torch.no_grad()
def read_batch(
    episodes: EpisodeBatch,
    policy: nn.Module,
    reference: nn.Module | None,
    value_model: nn.Module | None,
    *,
    temperature: float,
    token_budget: int,
) -> Readings:
    """Return log-probabilities, entropy, reference log-probabilities and values of every sampled token.

    Args:
        episodes: what was sampled.
        policy: a `StepSearchModel`.
        reference: a frozen one; None where KL counts nowhere.
        value_model: a `ValueModel`; None where the policy has the value head.
        temperature: divides the logits, as when sampling.
        token_budget: tokens, padding included, per forward pass.
    """
    groups = microbatches(episodes.lengths, token_budget)
    parts = [episodes.select(rows) for rows in groups]

    def gather(read: Callable[[EpisodeBatch], Tensor]) -> Tensor:
        return _join([read(part) for part in parts], groups, episodes.input_ids.shape)

    scores = [policy(part.input_ids, part.response_mask, temperature) for part in parts]
    shape = episodes.input_ids.shape
    return Readings(
        old_logprobs=_join([score.logprobs for score in scores], groups, shape),
        entropy=_join([score.entropy for score in scores], groups, shape),
        ref_logprobs=None
        if reference is None
        else gather(lambda part: reference(part.input_ids, part.response_mask, temperature, False).logprobs),
        old_values=_join([score.values for score in scores], groups, shape)
        if value_model is None
        else gather(lambda part: value_model(part.input_ids, part.response_mask)),
    )


def _join(parts: list[Tensor], groups: list[list[int]], shape: torch.Size) -> Tensor:
    """Return micro-batches' tensors as one of the whole batch."""
    whole = parts[0].new_zeros(shape)
    for part, rows in zip(parts, groups, strict=True):
        whole[torch.as_tensor(rows, device=whole.device), : part.shape[1]] = part
    return whole
