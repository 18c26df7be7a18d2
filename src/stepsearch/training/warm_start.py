"""The supervised warm start: a new policy reads, then imitates scripted, imperfect episodes."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stepsearch.config import WarmStartSettings
from stepsearch.errors import TrainingError
from stepsearch.models.trunk import hidden_before
from stepsearch.preparation.demonstrations import DemonstrationWriter
from stepsearch.side_by_side import side_by_side
from stepsearch.training.curriculum import curriculum
from stepsearch.training.demonstration_batches import DemonstrationEncoder, permute_tokens
from stepsearch.training.muon import Muon
from stepsearch.types import Question

_MAX_GRAD_NORM = 1.0
_LAST_RATE = 0.05


@dataclass(frozen=True, slots=True)
class WarmStartUpdate:
    """One optimiser step.

    Attributes:
        update: its number, from 1.
        updates: how many there will be.
        loss: mean cross-entropy of the tokens that count.
        accuracy: share of them that were the most likely token.
        tokens: read so far, padding left out.
        seconds: since the start.
    """

    update: int
    updates: int
    loss: float
    accuracy: float
    tokens: int
    seconds: float


def warm_start(
    causal_lm: PreTrainedModel,
    questions: Sequence[Question],
    writer: DemonstrationWriter,
    encoder: DemonstrationEncoder,
    settings: WarmStartSettings,
    *,
    seed: int,
    exchangeable: Sequence[Sequence[int]] = (),
    workers: int = 1,
    on_update: Callable[[WarmStartUpdate], None] | None = None,
) -> WarmStartUpdate | None:
    """Train `causal_lm` in place through the phases of `settings`; return the last update, None without phases.

    Hidden matrices learn by Muon, all else by AdamW, under one schedule: a rise, then linear decay to the end.

    Args:
        causal_lm: the policy.
        questions: with sub-questions and golden passages.
        writer: writes the episodes.
        encoder: turns them into tokens.
        settings: rates and phases.
        seed: decides everything that is random here.
        exchangeable: groups of token ids that are permuted in every sequence, so that names can't be learnt by heart.
        workers: threads that share each batch.
        on_update: called after every update.

    Raises:
        DataError: there are reading drills to write, and no question names golden passages.
        TrainingError: there is nothing to learn from, or the loss is no longer finite.
    """
    if settings.phases and not questions:
        raise TrainingError("the warm start has no questions to write demonstrations from")
    optimisers = build_optimisers(causal_lm, settings)
    groups = [torch.tensor(group) for group in exchangeable]
    generator = torch.Generator().manual_seed(seed)
    updates, tokens, started, latest = sum(phase.updates for phase in settings.phases), 0, time.perf_counter(), None
    try:
        for number, batch in enumerate(curriculum(questions, writer, encoder, settings.phases, seed), 1):
            set_rates(optimisers, number, updates, settings.warmup_updates)
            input_ids = permute_tokens(batch.input_ids, groups, generator).to(causal_lm.device)
            written = batch.written.to(causal_lm.device)
            loss, accuracy = imitate(causal_lm, input_ids, written, optimisers, workers)
            tokens += batch.tokens
            latest = WarmStartUpdate(number, updates, loss, accuracy, tokens, time.perf_counter() - started)
            if on_update is not None:
                on_update(latest)
    finally:
        causal_lm.zero_grad(set_to_none=True)
    return latest


def imitate(
    causal_lm: PreTrainedModel,
    input_ids: Tensor,
    written: Tensor,
    optimisers: Sequence[torch.optim.Optimizer],
    workers: int = 1,
) -> tuple[float, float]:
    """Take one step towards writing the marked tokens of `input_ids` [B, T]; return loss and accuracy before it.

    Each of the workers takes a share of the rows; their gradients are added in a fixed order.

    Raises:
        TrainingError: the loss is not finite; the weights are as they were.
    """
    shares = [(input_ids[i::workers], written[i::workers]) for i in range(min(workers, len(input_ids)))]
    parameters = [parameter for parameter in causal_lm.parameters() if parameter.requires_grad]
    parts = side_by_side([partial(_imitation_gradients, causal_lm, parameters, *share) for share in shares], workers)
    losses, right, gradients = zip(*parts, strict=True)
    count = int(written[:, 1:].sum())
    loss = sum(losses) / count
    if not math.isfinite(loss):
        raise TrainingError("the warm start's loss is not finite: lower warm_start.learning_rate")
    for parameter, *addends in zip(parameters, *gradients, strict=True):
        parameter.grad = torch.stack(addends).sum(dim=0).div_(count)
    nn.utils.clip_grad_norm_(parameters, _MAX_GRAD_NORM)
    for optimiser in optimisers:
        optimiser.step()
    return loss, sum(right) / count


def _imitation_gradients(
    causal_lm: PreTrainedModel, parameters: Sequence[nn.Parameter], input_ids: Tensor, written: Tensor
) -> tuple[float, float, tuple[Tensor, ...]]:
    """Return summed loss, right tokens, and the gradients of the loss."""
    loss, right = imitation_loss(causal_lm, input_ids, written)
    return loss.item(), right, torch.autograd.grad(loss, parameters)


def imitation_loss(causal_lm: PreTrainedModel, input_ids: Tensor, written: Tensor) -> tuple[Tensor, float]:
    """Return the summed cross-entropy of the marked tokens of `input_ids` [B, T], and how many were predicted right.

    Only positions that predict a marked token pass the head.
    """
    chosen = written[:, 1:]
    hidden = hidden_before(cast(PreTrainedModel, causal_lm.base_model), input_ids, chosen)
    logits = _head(causal_lm)(hidden)
    targets = input_ids[:, 1:][chosen]
    right = (logits.detach().argmax(dim=-1) == targets).sum().item()
    return nn.functional.cross_entropy(logits, targets, reduction="sum"), right


def _head(causal_lm: PreTrainedModel) -> nn.Module:
    head = causal_lm.get_output_embeddings()
    if head is None:
        raise TrainingError("the model has no output embeddings: a warm start needs a causal language model")
    return head


def build_optimisers(causal_lm: PreTrainedModel, settings: WarmStartSettings) -> list[torch.optim.Optimizer]:
    """Return Muon over the hidden matrices and AdamW over embeddings, norms and biases."""
    embeddings = {id(causal_lm.get_input_embeddings().weight), id(_head(causal_lm).weight)}
    hidden = [p for p in causal_lm.parameters() if p.dim() == 2 and id(p) not in embeddings]
    others = [p for p in causal_lm.parameters() if p.dim() != 2 or id(p) in embeddings]
    adamw = torch.optim.AdamW(others, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    optimisers: list[torch.optim.Optimizer] = [Muon(hidden, lr=settings.matrix_learning_rate), adamw]
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak_lr"] = group["lr"]
    return optimisers


def set_rates(optimisers: Sequence[torch.optim.Optimizer], number: int, updates: int, warmup: int) -> None:
    """Set the rates of update `number` (from 1): rising over `warmup` updates, and falling linearly over all."""
    rise = min(1.0, number / warmup) if warmup else 1.0
    factor = rise * max(_LAST_RATE, 1 - (number - 1) / updates)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
