"""From hidden states to log-probabilities and entropies, with logits for a piece of the tokens at a time.

Shapes: N tokens, D hidden size, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

# Logits for more elements than this are made in pieces, and made again in the backward pass instead of being kept.
PROJECTION_ELEMENTS = 2**25


class OutputHead:
    """What turns the decoder's hidden states into a causal LM's logits, some models scaling or capping them."""

    def __init__(self, causal_lm: PreTrainedModel) -> None:
        self._causal_lm = causal_lm
        self._change = _change_of_logits(causal_lm.config.get_text_config())

    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits [N, V] of hidden states [N, D]."""
        return self._change(cast(nn.Module, self._causal_lm.get_output_embeddings())(hidden))

    def score(
        self, hidden: Tensor, targets: Tensor, temperature: float, with_entropy: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return log-probabilities [N] of `targets` [N] and, if asked, entropies [N]; no [N, V] is held or kept."""

        def score(states: Tensor, ids: Tensor) -> tuple[Tensor, Tensor | None]:
            return score_tokens(self.logits(states), ids, temperature, with_entropy)

        states, ids = self.pieces(hidden), self.pieces(targets)
        if len(states) == 1:
            return score(hidden, targets)
        parts = [checkpoint(score, *piece, use_reentrant=False) for piece in zip(states, ids, strict=True)]
        logprobs, entropies = zip(*parts, strict=True)
        return torch.cat(logprobs), torch.cat(entropies) if with_entropy else None

    def pieces(self, of_tokens: Tensor) -> Sequence[Tensor]:
        """Return a tensor [N, …] in pieces of as many tokens as logits are made for at a time."""
        return of_tokens.split(max(1, PROJECTION_ELEMENTS // self._causal_lm.config.get_text_config().vocab_size))


def score_tokens(
    logits: Tensor, targets: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """Return log-probabilities [N] of `targets` [N] and entropies [N] under softmax(logits [N, V] / temperature)."""
    log_distribution = torch.log_softmax(logits.float() / temperature, dim=-1)
    logprobs = log_distribution.gather(1, targets[:, None])[:, 0]
    if not with_entropy:
        return logprobs, None
    return logprobs, -(log_distribution.exp() * log_distribution).sum(dim=-1)


def _change_of_logits(config: Any) -> Callable[[Tensor], Tensor]:
    """Return what the model does to what its head says: Gemma caps it, Granite and Cohere scale it, most do nothing."""
    cap = getattr(config, "final_logit_softcapping", None)
    if cap is not None:
        return lambda logits: cap * torch.tanh(logits / cap)
    divisor = getattr(config, "logits_scaling", None)
    if divisor is not None:
        return lambda logits: logits / divisor
    factor = getattr(config, "logit_scale", None)
    return (lambda logits: logits) if factor is None else lambda logits: logits * factor
