"""A policy of a given shape that has learned nothing, for measuring what that shape costs."""

import copy
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from stepsearch.config import ModelSettings
from stepsearch.errors import ModelError, one_line
from stepsearch.models.attention_choice import AUTO, refuse_attention
from stepsearch.models.model_folder import LOAD_ERRORS
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.models.trunk import chosen_device


def untrained_policy(config: PreTrainedConfig, settings: ModelSettings) -> StepSearchModel:
    """Return a policy with random weights, where the settings say; its tokenizer is the tiny one's.

    Raises:
        ConfigError: the attention that the settings ask for cannot be had.
        ModelError: transformers has no causal LM of that kind, or it has fewer tokens than the tiny tokenizer.
    """
    kind: Any = config.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
    attention = None if settings.attention == AUTO else settings.attention
    try:
        with chosen_device(settings.device):
            causal_lm = AutoModelForCausalLM.from_config(
                copy.deepcopy(config), dtype=kind or torch.float32, attn_implementation=attention
            )
    except LOAD_ERRORS as error:
        refuse_attention(config, settings.attention)
        reason = one_line(error)
        raise ModelError(f"no causal LM can be made of a {config.model_type} config: {reason}") from None
    cast(nn.Module, causal_lm).to(chosen_device(settings.device))
    return StepSearchModel(cast(PreTrainedModel, causal_lm), ModelTokenizer(build_tiny_tokenizer(), "question"))
