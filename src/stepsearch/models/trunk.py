"""The trunk of a causal LM: hidden states before its head, placed where tokens were sampled.

Shapes: B episodes, T positions (right-padded), N sampled tokens, D hidden size.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from stepsearch.config import Config, TrainingSettings
from stepsearch.errors import ConfigError

# Attention that reads ragged rows, one after the other in a single row, as fast as rows of one length.
_FOR_RAGGED_ROWS = ("flash_attention",)


def hidden_before(trunk: PreTrainedModel, input_ids: Tensor, chosen: Tensor) -> Tensor:
    """Return the hidden states [N, D] from which the chosen tokens are predicted.

    Padding stands on the right, so causal attention never sees it and no attention mask is needed; where attention is
    made for that, neither it nor what follows a row's last chosen token is read at all.

    Args:
        trunk: the decoder.
        input_ids: [B, T].
        chosen: [B, T - 1] which of the tokens at positions 1 .. T - 1.
    """
    implementation: Any = trunk.config._attn_implementation  # pyright: ignore[reportPrivateUsage] - no public way
    if not str(implementation).startswith(_FOR_RAGGED_ROWS):
        return trunk(input_ids=input_ids, use_cache=False).last_hidden_state[:, :-1][chosen]
    positions = torch.arange(chosen.shape[1], device=chosen.device).expand_as(chosen)
    last = positions.masked_fill(~chosen, 0).amax(dim=1, keepdim=True)
    read = positions <= last
    # Positions that begin anew tell transformers where a row begins.
    packed, places = input_ids[:, :-1][read][None], positions[read][None]
    hidden = trunk(input_ids=packed, position_ids=places, use_cache=False).last_hidden_state[0]
    return hidden[chosen[read]]


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


def sampled_in_half(config: Config) -> bool:
    """Return whether training samples in half precision where it is on an accelerator: with adapters, or mixed."""
    return config.lora.rank > 0 or config.training.mixed_precision == "bf16"


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
