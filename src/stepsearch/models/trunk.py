"""The trunk of a causal LM: hidden states before its head, placed where tokens were sampled.

Shapes: B episodes, T positions (right-padded), N sampled tokens, D hidden size.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from stepsearch.config import TrainingSettings


def hidden_before(trunk: nn.Module, input_ids: Tensor) -> Tensor:
    """Return the hidden states [B, T - 1, D] from which the tokens at positions 1 .. T - 1 are predicted.

    Padding stands on the right, so causal attention never sees it and no attention mask is needed.
    """
    return trunk(input_ids=input_ids, use_cache=False).last_hidden_state[:, :-1]


def scatter_to_mask(values: Tensor, chosen: Tensor) -> Tensor:
    """Return `values` [N] at the chosen positions [B, T - 1] of tokens 1 .. T - 1, as [B, T] with 0 elsewhere."""
    placed = values.new_zeros(chosen.shape).masked_scatter(chosen, values)
    return nn.functional.pad(placed, (1, 0))


def enable_gradient_checkpointing(model: PreTrainedModel) -> None:
    """Recompute each layer of `model` in the backward pass; dropout stays off."""
    has_new_name = hasattr(model, "activation_checkpointing_enable")  # Since transformers 5.20.
    enable: Any = model.activation_checkpointing_enable if has_new_name else model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            # transformers checkpoints layers in training mode only; the modules inside stay in evaluation mode.
            module.training = True


def usable_workers(settings: TrainingSettings, device: torch.device) -> int:
    """Return how many threads share a model on that device.

    An accelerator is kept busy by one, and autocast holds in the thread that enters it.
    """
    return settings.workers if device.type == "cpu" and settings.mixed_precision == "no" else 1


def default_device() -> torch.device:
    """Return the accelerator of this process, or the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
