"""Which policy, and how its episodes are sampled: the sections `model`, `rollout` and `vllm`."""

from typing import Literal

from pydantic import Field

from stepsearch.config.section import Section

IN_PROCESS = "in_process"
# The size that was measured to learn to search in minutes (docs/experiment_log.md).
TINY_WIDTH, TINY_LAYERS = 128, 3


class ModelSettings(Section):
    """Which policy, and how it is addressed."""

    name: str = Field(
        default="Qwen/Qwen2.5-3B", description="Hub name or folder of a causal LM, or tiny: the embedded one."
    )
    tiny_width: int = Field(
        default=TINY_WIDTH, ge=128, multiple_of=128, description="tiny: width of its hidden states."
    )
    tiny_layers: int = Field(default=TINY_LAYERS, ge=2, le=64, description="tiny: how many layers it has.")
    max_length: int = Field(default=2048, ge=32, description="Tokens an episode may have, prompt included.")
    dtype: Literal["float32", "bfloat16", "auto"] = Field(default="float32", description="Weights' type when loaded.")
    prompt: Literal["auto", "question", "instructions", "chat"] = Field(
        default="auto", description="Prompt style; auto: as the model was trained, else chat where it has a template."
    )
    attention: str = Field(
        default="auto", description="transformers' attention implementation for training; auto: sdpa where it can be."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where it is; auto: on a GPU where there is one, the embedded policy on the CPU."
    )


class RolloutSettings(Section):
    """How episodes are sampled."""

    temperature: float = Field(default=1.0, ge=0, description="Sampling temperature; 0 is greedy (evaluation only).")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus mass; training refuses less than 1.")
    top_k: int = Field(
        default=0, ge=0, description="Sample among the k best tokens; 0 is off, and training refuses more."
    )
    max_turn_tokens: int = Field(default=256, ge=1, description="Token budget of one sampled turn.")
    max_observation_tokens: int = Field(
        default=512, ge=8, description="Token budget of one search result, tags included."
    )
    max_passage_tokens: int = Field(default=160, ge=1, description="Token budget of one document inside it.")
    max_corrections: int = Field(
        default=2, ge=0, description="Turns without a valid action that are answered by a correction."
    )
    engine: Literal["in_process", "vllm", "vllm_server"] = Field(
        default="in_process", description="What samples: the trained module itself, vLLM beside it, or a vLLM server."
    )
    slots: int = Field(default=64, ge=1, description="Episodes sampled at the same time.")
    search_window: int = Field(
        default=4, ge=0, description="Engine steps that generation goes on before a search's result is waited for."
    )


class VLLMSettings(Section):
    """The engines `vllm` and `vllm_server`; the extra `vllm` is for the first alone."""

    gpu_memory_utilization: float = Field(
        default=0.5, gt=0, lt=1, description="vllm: share of a GPU's memory for its weights and cache."
    )
    cache_gib: float | None = Field(
        default=None, gt=0, description="vllm: GiB of keys and values; default: 1 on a CPU, on a GPU what is left."
    )
    enforce_eager: bool = Field(default=False, description="vllm: no CUDA graphs; a CPU has none.")
    sleep: bool = Field(default=True, description="vllm: give a GPU's memory back while the trainer learns.")
    url: str = Field(default="http://127.0.0.1:8000", description="vllm_server: its address.")
    token_variable: str = Field(
        default="VLLM_API_KEY",
        description="vllm_server: environment variable with a bearer token, where one is needed.",
    )
    timeout_seconds: float = Field(
        default=600.0, gt=0, description="vllm_server: a turn that takes longer is an error."
    )
    exchange_folder: str | None = Field(
        default=None,
        description="vllm_server: folder that both read, for new weights; default: a temporary one of this machine.",
    )
