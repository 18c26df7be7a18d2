"""The trunk of a causal LM: hidden states before its head, placed where tokens were sampled.

Shapes: B episodes, T positions (right-padded), N sampled tokens, D hidden size.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from stepsearch.config import TrainingSettings
from stepsearch.errors import ConfigError


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
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:  # the name that older releases of transformers have for it
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            # transformers checkpoints layers in training mode only; the modules inside stay in evaluation mode.
            module.training = True


def usable_workers(settings: TrainingSettings, device: torch.device) -> int:
    """Return how many threads share a model on that device.

    An accelerator is kept busy by one, and autocast holds in the thread that enters it.
    """
    return settings.workers if device.type == "cpu" and settings.mixed_precision == "no" else 1


def chosen_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is this process's accelerator, or else the CPU.

    Raises:
        ConfigError: it is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "model.device=cuda, and torch finds no GPU: set model.device=cpu, or install a CUDA build of torch"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())
