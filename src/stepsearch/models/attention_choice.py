"""Whether a model can have the implementation of attention that `model.attention` asks for."""

import copy

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from stepsearch.errors import ConfigError, one_line

AUTO = "auto"


def refuse_attention(config: PreTrainedConfig, attention: str) -> None:
    """Refuse an implementation of attention that a model cannot have here, where it can have transformers' own choice.

    Meant for after a failure, to tell what it was: the model is made twice, without its weights.

    Raises:
        ConfigError: says why, with the key to change.
    """
    if attention == AUTO or _trouble(config, None) is not None:
        return
    trouble = _trouble(config, attention)
    if trouble is not None:
        raise ConfigError(
            f"model.attention={attention} cannot be had here ({one_line(trouble)}): install the package that it needs "
            "(flash_attention_2: flash-attn), or set model.attention=auto"
        ) from None


def _trouble(config: PreTrainedConfig, attention: str | None) -> Exception | None:
    try:
        with torch.device("meta"):
            # A copy: building a model writes into the config.
            AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation=attention)
    except Exception as error:  # Of transformers, or of a package that it imports for that attention.
        return error
    return None
