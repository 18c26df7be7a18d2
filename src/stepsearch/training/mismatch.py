"""How far the engine that sampled is from the trainer, and the weights that correct for it.

An engine with kernels of its own, or in another precision, samples from a slightly other distribution than the one
that is trained. Shapes: B episodes, T positions; off-mask positions count nothing.
"""

from typing import NamedTuple

from torch import Tensor

from stepsearch.training.kl import k3


class Mismatch(NamedTuple):
    """Sums over sampled tokens, and the largest ratio among them (0 without tokens).

    Attributes:
        gap: |trainer's log-probability - engine's|.
        kl: estimates KL(engine || trainer).
        ratio_max: the largest of trainer's over engine's probability.
    """

    gap: Tensor
    kl: Tensor
    ratio_max: Tensor


def measure_mismatch(logprobs: Tensor, rollout_logprobs: Tensor, response_mask: Tensor) -> Mismatch:
    """Return how far what sampled is from what is trained.

    Args:
        logprobs: [B, T] under the policy that is trained, before it has learned from these tokens.
        rollout_logprobs: [B, T] as sampled.
        response_mask: [B, T] 1 where the policy sampled the token.
    """
    mask = response_mask.bool()
    difference = (logprobs - rollout_logprobs).masked_fill(~mask, 0.0)
    return Mismatch(
        gap=difference.abs().sum(),
        kl=k3(rollout_logprobs, logprobs).masked_fill(~mask, 0.0).sum(),
        ratio_max=difference.exp().masked_fill(~mask, 0.0).max(),
    )


def importance_weights(
    old_logprobs: Tensor, rollout_logprobs: Tensor, response_mask: Tensor, importance_cap: float
) -> Tensor:
    """Return min(exp(old_logprobs - rollout_logprobs), importance_cap) [B, T], 0 off the mask.

    Truncated importance sampling (Ionides, "Truncated Importance Sampling", 2008), as Yao et al., "Your Efficient RL
    Framework Secretly Brings You Off-Policy RL Training" (2025), weight each token's policy loss for what an engine
    sampled. A weight is a constant of the update: no gradient flows through it.

    Args:
        old_logprobs: [B, T] read by the trainer before the update.
        rollout_logprobs: [B, T] as sampled.
        response_mask: [B, T] 1 where the policy sampled the token.
        importance_cap: the largest weight.
    """
    difference = (old_logprobs - rollout_logprobs).detach().masked_fill(~response_mask.bool(), 0.0)
    return difference.exp().clamp(max=importance_cap) * response_mask
