"""How large a model is, without its weights: it is built on the meta device, where tensors have no data."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from stepsearch.config import LoraSettings
from stepsearch.errors import ModelError, one_line
from stepsearch.models.adapters import ACTOR, adapted_weights, add_adapters
from stepsearch.models.known_shapes import KNOWN_MODELS, known_config
from stepsearch.models.model_folder import LOAD_ERRORS, load_config_of
from stepsearch.models.value_model import ValueHead

PUBLISHED = "published dimensions"


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The dimensions of a causal LM and what it has of parameters.

    Attributes:
        kind: architecture, such as qwen2.
        layers: of the trunk.
        hidden: width of the residual stream.
        query_width: attention heads times their width.
        key_value_width: key-value heads times their width.
        intermediate: width inside the MLP.
        normed_queries: queries and keys have norms of their own.
        vocabulary: rows of the head.
        positions: the longest context; None where the config does not say.
        dtype: what the weights are published in.
        parameters: all of them; tied ones once.
        trunk_parameters: those before the head; a critic of its own has a copy of them.
        read_parameters: those that a token is multiplied with, but for the head: of experts, those that it is sent to.
        value_head_parameters: of a fresh value head.
        source: where the dimensions come from.
    """

    kind: str
    layers: int
    hidden: int
    query_width: int
    key_value_width: int
    intermediate: int
    normed_queries: bool
    vocabulary: int
    positions: int | None
    dtype: torch.dtype
    parameters: int
    trunk_parameters: int
    read_parameters: int
    value_head_parameters: int
    source: str


def find_config(name: str) -> tuple[PreTrainedConfig, str]:
    """Return the configuration of a folder or hub name, and where it comes from.

    Where the hub cannot be reached or does not give it, published dimensions serve.

    Raises:
        ModelError: it cannot be found, and the model is not among the known ones.
    """
    try:
        return load_config_of(name), "config.json"
    except ModelError as error:
        config = known_config(name)
        if config is not None:
            return config, PUBLISHED
        raise ModelError(f"{error}; the dimensions of these are known without it: {', '.join(KNOWN_MODELS)}") from None


def weightless_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Return the causal LM of a configuration on the meta device.

    Raises:
        ModelError: transformers has no causal LM of that kind.
    """
    try:
        with torch.device("meta"):
            # A copy: building a model writes its own dtype into the config.
            return AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=torch.float32)
    except LOAD_ERRORS as error:
        reason = one_line(error)
        raise ModelError(f"no causal LM can be made of a {config.model_type} config: {reason}") from None


def shape_of_config(config: PreTrainedConfig, source: str) -> ModelShape:
    """Return the shape of the model that a configuration describes.

    Raises:
        ModelError: transformers has no causal LM of that kind.
    """
    model = weightless_model(config)
    trunk, text = model.get_decoder(), config.get_text_config()
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return ModelShape(
        kind=config.model_type,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        query_width=heads * width,
        key_value_width=(getattr(text, "num_key_value_heads", None) or heads) * width,
        intermediate=_intermediate(text),
        normed_queries=any(name.endswith("q_norm") for name, _ in trunk.named_modules()),
        vocabulary=text.vocab_size,
        positions=getattr(text, "max_position_embeddings", None),
        dtype=_dtype(config),
        parameters=count(model),
        trunk_parameters=count(trunk),
        read_parameters=_read_parameters(trunk, text),
        value_head_parameters=count(ValueHead(text.hidden_size)),
        source=source,
    )


def adapter_parameters(config: PreTrainedConfig, settings: LoraSettings) -> int:
    """Return the parameters of one adapter on the model of a configuration; 0 with a rank of 0.

    Each layer's adapter has its rank times the layer's inputs and outputs. Which parameters of experts get one, and of
    which rank, only peft knows.

    Raises:
        ConfigError: the settings name layers that there are not, or the model has experts and peft is not installed.
        ModelError: transformers has no causal LM of that kind.
    """
    if not settings.rank:
        return 0
    model = weightless_model(config)
    if any(".experts." in name for name, _ in model.named_parameters()):
        with torch.device("meta"):
            add_adapters(model, settings, 0, with_critic=False)
        return sum(parameter.numel() for name, parameter in model.named_parameters() if f".{ACTOR}." in name)
    return settings.rank * sum(sum(weight.shape) for weight in adapted_weights(model, settings.target_modules))


def count(module: nn.Module) -> int:
    """Return how many parameters a module has; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def _intermediate(text: Any) -> int:
    names = ("intermediate_size", "n_inner", "ffn_dim", "moe_intermediate_size")
    return next((size for name in names if (size := getattr(text, name, None))), 4 * text.hidden_size)


def _dtype(config: PreTrainedConfig) -> torch.dtype:
    named = config.dtype
    return named if isinstance(named, torch.dtype) else torch.float32


def _read_parameters(trunk: nn.Module, text: Any) -> int:
    """Return what a token is multiplied with: no embedding, which is looked up, and of all experts the chosen ones."""
    experts = next((n for name in ("num_local_experts", "num_experts") if (n := getattr(text, name, None))), None)
    share = getattr(text, "num_experts_per_tok", experts) / experts if experts else 1.0
    looked_up = {id(module.weight) for module in trunk.modules() if isinstance(module, nn.Embedding)}
    return round(
        sum(
            parameter.numel() * (share if ".experts." in name else 1.0)
            for name, parameter in trunk.named_parameters()
            if id(parameter) not in looked_up
        )
    )
