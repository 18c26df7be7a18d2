"""Advantages and returns over the tokens that the policy sampled.

Shapes: B episodes, T positions of the padded sequence, N sampled tokens of the longest episode.
"""

from typing import NamedTuple

import torch
from torch import Tensor

WHITENING_EPSILON = 1e-8
GROUP_EPSILON = 1e-6


class Advantages(NamedTuple):
    """Generalised advantages and the returns they imply, both [B, T] and 0 off the mask."""

    advantages: Tensor
    returns: Tensor


def masked_gae(
    token_level_rewards: Tensor, values: Tensor, response_mask: Tensor, *, gamma: float, gae_lambda: float
) -> Advantages:
    """Return GAE over sampled tokens only (Schulman et al. 2016, eq. 16, on the compacted sequence).

    With t+ the next sampled token after t, and a value of 0 after the last one:
        delta_t = r_t + gamma * V_t+ - V_t,   A_t = delta_t + gamma * gae_lambda * A_t+,   return_t = A_t + V_t
    Retrieved text between t and t+ is neither discounted through nor bootstrapped from.

    Args:
        token_level_rewards: [B, T]; rewards off the mask are ignored.
        values: [B, T] critic's estimate before each token is sampled.
        response_mask: [B, T] 1 where the policy sampled the token.
        gamma: discount per sampled token.
        gae_lambda: GAE's lambda per sampled token.
    """
    sampled = response_mask.bool()
    width = int(sampled.sum(dim=1).max()) if sampled.numel() else 0
    positions = torch.argsort(sampled.logical_not(), dim=1, stable=True)[:, :width]
    present = sampled.gather(1, positions)
    rewards = token_level_rewards.gather(1, positions) * present
    compact_values = values.gather(1, positions) * present
    compact = _gae(rewards, compact_values, gamma, gae_lambda)
    advantages = torch.zeros_like(values).scatter(1, positions, compact * present)
    return Advantages(advantages, (advantages + values) * sampled)


def _gae(rewards: Tensor, values: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Return plain GAE [B, N] of rows that end in zeros."""
    following = torch.nn.functional.pad(values[:, 1:], (0, 1))
    deltas = (rewards + gamma * following - values).unbind(dim=1)
    running = torch.zeros_like(rewards[:, 0]) if deltas else rewards.new_zeros(len(rewards))
    columns: list[Tensor] = []
    for delta in reversed(deltas):
        running = delta + gamma * gae_lambda * running
        columns.append(running)
    return torch.stack(columns[::-1], dim=1) if columns else torch.zeros_like(rewards)


def group_advantages(token_level_rewards: Tensor, response_mask: Tensor, group_size: int) -> Tensor:
    """Return the advantage [B, T] of an episode over its group, on each of its sampled tokens (Shao et al. 2024, GRPO).

    With R the sum of an episode's rewards, and mean and unbiased standard deviation over the episodes of its question:
        A = (R - mean) / (std + 1e-6)
    When a token was rewarded is lost: that is the difference from GAE.

    Args:
        token_level_rewards: [B, T]; rewards off the mask are ignored.
        response_mask: [B, T] 1 where the policy sampled the token.
        group_size: episodes of one question, at least 2, which stand together; B is a multiple of it.
    """
    totals = (token_level_rewards * response_mask).sum(dim=1).view(-1, group_size)
    spread = totals.std(dim=1, keepdim=True) + GROUP_EPSILON
    relative = (totals - totals.mean(dim=1, keepdim=True)) / spread
    return relative.view(-1, 1) * response_mask


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Return `values` [B, T] less their masked mean, over their masked standard deviation.

    The variance is unbiased and 1e-8 is added inside the root. The moments are those of the masked positions; the
    positions off the mask are moved and scaled like the others.

    Args:
        values: [B, T].
        mask: [B, T] 1 where a position counts.
    """
    weights = mask.to(values.dtype)
    count = weights.sum()
    centred = values - (values * weights).sum() / count.clamp(min=1)
    variance = (centred.square() * weights).sum() / (count - 1).clamp(min=1)
    return centred * torch.rsqrt(variance + WHITENING_EPSILON)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Return 1 - Var(returns - values) / Var(returns) over the masked positions; 0 where the returns do not vary."""
    chosen = mask.bool()
    target = returns[chosen]
    spread = target.var(correction=0) if len(target) else returns.new_zeros(())
    if float(spread) == 0.0:
        return 0.0
    return float(1 - (target - values[chosen]).var(correction=0) / spread)
