"""PPO's losses as sums over sampled tokens.

Every function returns sums, never means: the caller divides by the token count of the whole minibatch, so that a token
weighs the same whatever micro-batch it falls in. Shapes: B episodes, T positions; off-mask positions count nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class PolicyLoss(NamedTuple):
    """Sums over sampled tokens, and the largest ratio among them (0 without tokens)."""

    loss: Tensor
    clipped: Tensor
    approx_kl: Tensor
    ratio_max: Tensor


class ValueLoss(NamedTuple):
    """Sums over sampled tokens."""

    loss: Tensor
    clipped: Tensor


def clipped_policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, response_mask: Tensor, clip_range: float
) -> PolicyLoss:
    """Return PPO's clipped surrogate (Schulman et al. 2017, eq. 7; StepSearch eq. 2), to be minimised.

    With ratio = exp(logprobs - old_logprobs):  max(-A * ratio, -A * clip(ratio, 1 - clip_range, 1 + clip_range)).
    `clipped` counts tokens at which the clipped branch is the larger; `approx_kl` sums old_logprobs - logprobs.

    Args:
        logprobs: [B, T] under the current policy.
        old_logprobs: [B, T] before the update.
        advantages: [B, T].
        response_mask: [B, T] 1 where the policy sampled the token.
        clip_range: allowed distance of the ratio from 1.
    """
    mask = response_mask.bool()
    difference = (logprobs - old_logprobs).masked_fill(~mask, 0.0)
    ratio = difference.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    return PolicyLoss(
        loss=_masked_sum(torch.maximum(plain, clipped), mask),
        clipped=((clipped > plain) & mask).sum(),
        approx_kl=-difference.sum(),
        ratio_max=ratio.masked_fill(~mask, 0.0).max(),
    )


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, response_mask: Tensor, value_clip_range: float
) -> ValueLoss:
    """Return half the larger of the plain and the clipped squared error.

        1/2 * max((V - R)^2, (clip(V, V_old - value_clip_range, V_old + value_clip_range) - R)^2)

    Args:
        values: [B, T] now.
        old_values: [B, T] before the update.
        returns: [B, T] targets.
        response_mask: [B, T] 1 where the policy sampled the token.
        value_clip_range: allowed distance from the old value.
    """
    mask = response_mask.bool()
    kept = torch.maximum(torch.minimum(values, old_values + value_clip_range), old_values - value_clip_range)
    plain, clipped = (values - returns).square(), (kept - returns).square()
    return ValueLoss(
        loss=0.5 * _masked_sum(torch.maximum(plain, clipped), mask), clipped=((clipped > plain) & mask).sum()
    )


def entropy_sum(entropy: Tensor, response_mask: Tensor) -> Tensor:
    """Return the summed entropy [B, T] of the sampled tokens' distributions."""
    return _masked_sum(entropy, response_mask.bool())


def _masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    return x.masked_fill(~mask, 0.0).sum()
