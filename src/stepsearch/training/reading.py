"""What the networks say about a batch before the update: one pass each, without gradients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from stepsearch.config import IN_PROCESS, TrainingSettings
from stepsearch.side_by_side import side_by_side
from stepsearch.training.batch import EpisodeBatch, shared_microbatches
from stepsearch.training.processes import Processes


@dataclass(frozen=True, slots=True)
class Readings:
    """All [B, T] and 0 off the mask.

    Attributes:
        old_logprobs: of the sampled tokens under the policy.
        entropy: of the policy where they were sampled; None if the policy was not read.
        ref_logprobs: under the reference; None without one.
        old_values: the critic's estimates; None without one.
    """

    old_logprobs: Tensor
    entropy: Tensor | None
    ref_logprobs: Tensor | None
    old_values: Tensor | None


def reads_policy(settings: TrainingSettings, engine: str) -> bool:
    """Return whether the policy is read again before the update; else its log-probabilities as sampled serve.

    Under mixed precision, and from any engine but the one over the trainer's own module, these differ. A critic on the
    policy's trunk needs the pass in any case, and so do importance weights.
    """
    if settings.critic == "shared" or settings.importance_cap is not None:
        return True
    if settings.old_logprobs == "auto":
        return settings.mixed_precision != "no" or engine != IN_PROCESS
    return settings.old_logprobs == "recompute"


def reads_reference(settings: TrainingSettings) -> bool:
    """Return whether a KL to the policy as it was counts anywhere, so that there is a reference to read."""
    return settings.kl_mode != "none" and settings.kl_coef > 0


def read_batch(
    episodes: EpisodeBatch,
    policy: nn.Module | None,
    reference: nn.Module | None,
    value_model: nn.Module | None,
    *,
    temperature: float,
    token_budget: int,
    workers: int = 1,
    processes: Processes | None = None,
) -> Readings:
    """Return log-probabilities, entropy, reference log-probabilities and values of every sampled token.

    Args:
        episodes: what was sampled.
        policy: a `StepSearchModel`; None where the log-probabilities as sampled serve.
        reference: a frozen one; None where KL counts nowhere.
        value_model: a `ValueModel`; None where the policy has the value head, or nothing has.
        temperature: divides the logits, as when sampling.
        token_budget: tokens, padding included, per forward pass.
        workers: threads; one network is read in one of them.
        processes: each reads a share of the episodes, and has the readings of all; default: this one alone.
    """

    def read_policy(model: nn.Module, part: EpisodeBatch) -> dict[str, Tensor]:
        scores = model(part.input_ids, part.response_mask, temperature)
        values = {} if scores.values is None else {"old_values": scores.values}
        return {"old_logprobs": scores.logprobs, "entropy": scores.entropy, **values}

    def read_reference(model: nn.Module, part: EpisodeBatch) -> dict[str, Tensor]:
        return {"ref_logprobs": model(part.input_ids, part.response_mask, temperature, False).logprobs}

    def read_values(model: nn.Module, part: EpisodeBatch) -> dict[str, Tensor]:
        return {"old_values": model(part.input_ids, part.response_mask)}

    networks = ((policy, read_policy), (reference, read_reference), (value_model, read_values))
    among = processes or Processes()
    groups = shared_microbatches(episodes.lengths, token_budget, among.rank, among.count)
    parts = [episodes.part(rows) for rows in groups]
    readers = [partial(_read, partial(read, model), parts) for model, read in networks if model is not None]
    found = {
        # What the others read is 0 here.
        name: among.sum(_join(columns, groups, episodes.input_ids.shape))
        for reading in side_by_side(readers, workers)
        for name, columns in reading.items()
    }
    return Readings(
        old_logprobs=found.get("old_logprobs", episodes.rollout_logprobs),
        entropy=found.get("entropy"),
        ref_logprobs=found.get("ref_logprobs"),
        old_values=found.get("old_values"),
    )


@torch.no_grad()
def _read(read: Callable[[EpisodeBatch], dict[str, Tensor]], parts: Sequence[EpisodeBatch]) -> dict[str, list[Tensor]]:
    """Return what is read of each micro-batch, by name."""
    readings = [read(part) for part in parts]
    return {name: [reading[name] for reading in readings] for name in readings[0]}


def _join(parts: list[Tensor], groups: list[list[int]], shape: torch.Size) -> Tensor:
    """Return micro-batches' tensors as one of the whole batch."""
    whole = parts[0].new_zeros(shape)
    for part, rows in zip(parts, groups, strict=True):
        if rows:
            whole[torch.as_tensor(rows, device=whole.device), : part.shape[1]] = part
    return whole
