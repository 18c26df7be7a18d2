"""The critic: a network of its own, or a scalar head on the policy's trunk.

Shapes: B episodes, T positions (right-padded), N sampled tokens, D hidden size.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stepsearch.models.adapters import CRITIC, Adapters, using
from stepsearch.models.trunk import enable_gradient_checkpointing, hidden_before, scatter_to_mask


class ValueHead(nn.Module):
    """Linear, tanh, linear; starts at a value of 0 everywhere."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return values [N] in float32 of hidden states [N, D]."""
        hidden = hidden.to(self.dense.weight.dtype)
        return self.output(torch.tanh(self.dense(hidden))).squeeze(-1).float()


def new_value_head(causal_lm: PreTrainedModel, seed: int) -> ValueHead:
    """Return a fresh head for a model's hidden states; a function of `seed` that leaves the global generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = ValueHead(causal_lm.config.get_text_config().hidden_size)
    return head.to(causal_lm.device)


class ValueModel(nn.Module):
    """A critic of its own: a fresh head on a copy of the policy's trunk, or on the trunk with an adapter of its own."""

    def __init__(self, trunk: PreTrainedModel, head: ValueHead, adapters: Adapters | None = None) -> None:
        super().__init__()
        self.trunk = trunk.eval()
        self.head = head
        self.adapters = adapters

    @classmethod
    def from_causal_lm(cls, causal_lm: PreTrainedModel, seed: int) -> "ValueModel":
        """Return a critic whose trunk is a copy of that model's decoder."""
        trunk = cast(PreTrainedModel, copy.deepcopy(causal_lm.get_decoder()))
        return cls(trunk.requires_grad_(True), new_value_head(causal_lm, seed))

    @classmethod
    def on_adapters(cls, causal_lm: PreTrainedModel, adapters: Adapters, seed: int) -> "ValueModel":
        """Return a critic that reads the model's own trunk through the critic's adapter."""
        return cls(cast(PreTrainedModel, causal_lm.get_decoder()), new_value_head(causal_lm, seed), adapters)

    def train(self, mode: bool = True) -> "ValueModel":
        """Keep dropout off, as in the policy."""
        return super().train(False)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute each layer in the backward pass instead of keeping its activations."""
        enable_gradient_checkpointing(self.trunk)

    def forward(self, input_ids: Tensor, response_mask: Tensor) -> Tensor:
        """Return the value [B, T] before each sampled token; 0 off the mask.

        The value at position p is read from the hidden state at p - 1, as the log-probability is.

        Args:
            input_ids: [B, T] prompt and response, right-padded.
            response_mask: [B, T] 1 where the policy sampled the token; never at position 0.
        """
        chosen = response_mask[:, 1:].bool()
        with using(self.adapters, CRITIC):
            return scatter_to_mask(self.head(hidden_before(self.trunk, input_ids, chosen)), chosen)
