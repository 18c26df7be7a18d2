"""Estimators of KL(policy || reference) per token, from the log-probabilities of sampled tokens alone.

See Schulman, "Approximating KL Divergence" (2020). All take [B, T] tensors and return [B, T].
"""

from torch import Tensor

EXPONENT_LIMIT = 20.0


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return log p - log q: unbiased, high variance, negative where the reference likes the token better."""
    return logprobs - ref_logprobs


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return q/p - 1 - log(q/p): unbiased, low variance, never negative.

    The log-ratio is held within +-20, so that one token that the policy has all but lost cannot overflow.
    """
    difference = (ref_logprobs - logprobs).clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT)
    return difference.expm1() - difference
