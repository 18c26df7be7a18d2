"""From logits to sampled tokens with their log-probabilities, all rows at once."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """How to sample each of n rows.

    Attributes:
        noise: [n] uniform in [0, 1).
        temperature: [n] 0 is greedy.
        top_p: [n] nucleus mass, or None where no row restricts it.
        top_k: [n] 0 is off, or None where no row restricts it.
    """

    noise: Tensor
    temperature: Tensor
    top_p: Tensor | None = None
    top_k: Tensor | None = None


def sample(logits: Tensor, rows: SamplingRows) -> tuple[Tensor, Tensor]:
    """Return sampled ids [n] and their log-probabilities [n].

    The log-probability is that of the temperature-scaled full distribution (at temperature 0 the unscaled one);
    `top_p` and `top_k` only restrict the choice. A token is the inverse of the cumulative distribution at the noise.

    Args:
        logits: [n, V].
        rows: how each row is sampled.
    """
    greedy = rows.temperature == 0
    scale = torch.where(greedy, 1.0, rows.temperature)
    scaled = logits.float() / scale[:, None]
    scaled -= scaled.amax(-1, keepdim=True)
    weights = scaled.exp()
    if bool(greedy.all()):
        ids = logits.argmax(-1)
    else:
        ids = _invert(_restrict(weights, rows), rows.noise)
        ids = torch.where(greedy, logits.argmax(-1), ids) if bool(greedy.any()) else ids
    return ids, scaled.gather(-1, ids[:, None])[:, 0] - weights.sum(-1).log()


def _invert(weights: Tensor, noise: Tensor) -> Tensor:
    """Return the first index whose cumulative weight exceeds noise x total: never one of weight 0.

    Weights that are not numbers give the last index: some id that exists, whose log-probability shows what happened.
    """
    cumulative = weights.cumsum(-1)
    total = cumulative[:, -1:]
    target = torch.minimum(noise.to(total)[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=weights.shape[-1] - 1)


def _restrict(weights: Tensor, rows: SamplingRows) -> Tensor:
    """Return the weights with those outside each row's top_k and nucleus set to 0."""
    if rows.top_p is None and rows.top_k is None:
        return weights
    ordered, order = weights.sort(dim=-1, descending=True, stable=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if rows.top_k is not None:
        limit = torch.where(rows.top_k > 0, rows.top_k, weights.shape[-1])
        keep &= torch.arange(weights.shape[-1], device=weights.device) < limit[:, None]
    if rows.top_p is not None:
        kept = ordered * keep
        before = kept.cumsum(-1) - kept
        unlimited = (rows.top_p >= 1)[:, None]
        keep &= unlimited | (before < rows.top_p[:, None] * kept.sum(-1, keepdim=True))
    return torch.zeros_like(weights).scatter_(-1, order, ordered * keep)
