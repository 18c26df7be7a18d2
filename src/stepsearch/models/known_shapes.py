"""The published dimensions of models that users come with, for planning where no hub can be reached."""

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

_COLUMNS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "tie_word_embeddings",
    "max_position_embeddings",
)
# As the `config.json` of each says. Bases and instruct models of a size have the same shape.
_DIMENSIONS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "Qwen/Qwen2.5-0.5B": ("qwen2", (896, 24, 14, 2, 64, 4864, 151936, True, 32768)),
    "Qwen/Qwen2.5-1.5B": ("qwen2", (1536, 28, 12, 2, 128, 8960, 151936, True, 32768)),
    "Qwen/Qwen2.5-3B": ("qwen2", (2048, 36, 16, 2, 128, 11008, 151936, True, 32768)),
    "Qwen/Qwen2.5-7B": ("qwen2", (3584, 28, 28, 4, 128, 18944, 152064, False, 32768)),
    "Qwen/Qwen2.5-14B": ("qwen2", (5120, 48, 40, 8, 128, 13824, 152064, False, 32768)),
    "Qwen/Qwen2.5-32B": ("qwen2", (5120, 64, 40, 8, 128, 27648, 152064, False, 32768)),
    "Qwen/Qwen3-0.6B": ("qwen3", (1024, 28, 16, 8, 128, 3072, 151936, True, 32768)),
    "Qwen/Qwen3-1.7B": ("qwen3", (2048, 28, 16, 8, 128, 6144, 151936, True, 32768)),
    "Qwen/Qwen3-4B": ("qwen3", (2560, 36, 32, 8, 128, 9728, 151936, True, 32768)),
    "Qwen/Qwen3-8B": ("qwen3", (4096, 36, 32, 8, 128, 12288, 151936, False, 32768)),
    "Qwen/Qwen3-14B": ("qwen3", (5120, 40, 40, 8, 128, 17408, 151936, False, 32768)),
    "meta-llama/Llama-3.2-1B": ("llama", (2048, 16, 32, 8, 64, 8192, 128256, True, 131072)),
    "meta-llama/Llama-3.2-3B": ("llama", (3072, 28, 24, 8, 128, 8192, 128256, True, 131072)),
    "meta-llama/Llama-3.1-8B": ("llama", (4096, 32, 32, 8, 128, 14336, 128256, False, 131072)),
    "mistralai/Mistral-7B-v0.3": ("mistral", (4096, 32, 32, 8, 128, 14336, 32768, False, 32768)),
}
_VARIANTS = ("-Instruct", "-Base")
KNOWN_MODELS = tuple(_DIMENSIONS)


def known_config(name: str) -> PreTrainedConfig | None:
    """Return the configuration of a model by its hub name; None for one that is not known."""
    for variant in _VARIANTS:
        name = name.removesuffix(variant)
    if name not in _DIMENSIONS:
        return None
    kind, dimensions = _DIMENSIONS[name]
    settings: dict[str, Any] = dict(zip(_COLUMNS, dimensions, strict=True))
    # What the weights are published in.
    return AutoConfig.for_model(kind, **settings, dtype="bfloat16")
