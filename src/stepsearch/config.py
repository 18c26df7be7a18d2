"""Typed settings: one small section per part, loaded from YAML with dotted overrides.

Functions elsewhere receive the values they use, never the whole tree.
"""

import copy
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stepsearch.errors import ConfigError

IN_PROCESS = "in_process"


class Section(BaseModel):
    """A frozen group of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSettings(Section):
    """Which policy, and how it is addressed."""

    name: str = Field(
        default="Qwen/Qwen2.5-3B", description="Hub name or folder of a causal LM, or tiny: the embedded one."
    )
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


class MockSearchSettings(Section):
    """The engine `mock`: canned results."""

    results: str | None = Field(
        default=None, description="JSON file: query to list of texts or documents; default: made-up documents."
    )


class RemoteSearchSettings(Section):
    """The engine `remote`: a server with Search-R1's /retrieve."""

    url: str = Field(default="http://127.0.0.1:8000/retrieve", description="Full address of the server's /retrieve.")
    token_variable: str = Field(
        default="STEPSEARCH_TOKEN", description="Environment variable with a bearer token, where one is needed."
    )
    batch_size: int = Field(default=256, ge=1, description="Queries in one request; larger batches are split.")


class WikiSearchSettings(Section):
    """The engine `wiki`: live Wikipedia, or any other MediaWiki."""

    language: str = Field(default="en", pattern="^[a-z][a-z-]*$", description="Wikipedia's language code.")
    contact: str | None = Field(
        default=None,
        pattern="^[ -~]*$",
        description="E-mail or URL for the user agent; Wikimedia's policy asks for it.",
    )
    requests_per_second: float = Field(default=3.0, gt=0, description="Tries made in a second at most.")
    url: str | None = Field(default=None, description="Address of another MediaWiki's api.php.")


class MCPSearchSettings(Section):
    """The engine `mcp`: a search tool of an MCP server; needs the extra `mcp`."""

    command: tuple[str, ...] = Field(default=(), description="Command that starts the server; or set url.")
    url: str | None = Field(default=None, description="Address of a running server (streamable HTTP).")
    tool: str = Field(default="search", description="Name of the search tool.")
    query_argument: str = Field(default="query", description="The tool's argument that takes the query.")
    top_k_argument: str | None = Field(
        default=None, description="The argument that takes the number of documents, where the tool has one."
    )
    environment: tuple[str, ...] = Field(
        default=(), description="Environment variables handed on to the command, such as an API key's."
    )
    token_variable: str | None = Field(
        default=None, description="Environment variable with a bearer token for url, where one is needed."
    )


class DenseSearchSettings(Section):
    """The engine `dense`: vectors of a model's. What is not set is as the index was made, else as the model says."""

    encoder: str | None = Field(
        default=None, description="Folder or hub name of an encoder; with url what the endpoint calls its model."
    )
    url: str | None = Field(
        default=None, description="OpenAI-compatible endpoint that makes the vectors, with its /v1."
    )
    index: str = Field(
        default="dense", pattern=r"^\w[\w.-]*$", description="The index's folder inside the knowledge base."
    )
    query_prefix: str | None = Field(default=None, description="Put before queries; E5's is 'query: '.")
    passage_prefix: str | None = Field(default=None, description="Put before passages; E5's is 'passage: '.")
    pooling: Literal["mean", "cls", "last"] | None = Field(
        default=None, description="Which of a text's token vectors count: all, the first or the last one."
    )
    normalize: bool | None = Field(default=None, description="Make all vectors equally long: scores are cosines.")
    max_tokens: int | None = Field(default=None, ge=3, description="Tokens of a text that are read.")
    batch_size: int = Field(default=64, ge=1, description="Texts encoded at once.")
    min_score: float | None = Field(default=None, description="Leave out passages that score less.")
    image_folder: str | None = Field(
        default=None, description="Where images' paths begin; default: the knowledge base's folder."
    )


class HybridSearchSettings(Section):
    """The engine `hybrid`: several engines' rankings fused."""

    engines: tuple[str | dict[str, Any], ...] = Field(
        default=(), description="Engine types, or mappings of search settings that differ from the section's."
    )
    rank_constant: float = Field(default=60.0, gt=0, description="Reciprocal-rank fusion's k: score 1 / (k + rank).")
    candidates: int = Field(default=50, ge=1, description="Documents asked of each engine; at least top_k.")
    reranker: str | None = Field(
        default=None, description="Folder or hub name of a cross-encoder that orders the fused candidates."
    )
    rerank_candidates: int = Field(default=20, ge=1, description="Best fused candidates that it reads; at least top_k.")


class SearchSettings(Section):
    """Which engine answers queries, and what happens when it does not."""

    engine_type: str = Field(default="wiki", description="Key of stepsearch.search.ENGINES.")
    top_k: int = Field(default=3, ge=1, description="Documents per query.")
    knowledge_base: str | None = Field(
        default=None, description="Folder of a knowledge base; default: beside the data file."
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, description="A batch of queries (wiki: one query) that takes longer is retried."
    )
    retries: int = Field(default=2, ge=0, description="Further tries before a search is marked failed.")
    backoff_seconds: float = Field(default=0.5, ge=0, description="Pause before the first retry; doubles each time.")
    circuit_failures: int = Field(
        default=3, ge=1, description="remote, wiki: failed requests in a row before the server is left alone."
    )
    circuit_pause_seconds: float = Field(default=10.0, ge=0, description="remote, wiki: for how long it is left alone.")
    cache_dir: str | None = Field(
        default=None, description="Folder that keeps results between runs; default: wiki's own cache, none for others."
    )
    cache_entries: int = Field(
        default=100_000, ge=0, description="Results kept there, the oldest go first; 0 is no cache."
    )
    mock: MockSearchSettings = MockSearchSettings()
    remote: RemoteSearchSettings = RemoteSearchSettings()
    wiki: WikiSearchSettings = WikiSearchSettings()
    mcp: MCPSearchSettings = MCPSearchSettings()
    dense: DenseSearchSettings = DenseSearchSettings()
    hybrid: HybridSearchSettings = HybridSearchSettings()

    def hybrid_parts(self) -> list["SearchSettings"]:
        """Return the settings of each engine that `hybrid` fuses: this section's, but for what its entry says.

        Raises:
            ConfigError: an entry names no engine, or a setting that there is not.
        """
        # The fused results are what the section's cache keeps.
        shared = self.model_dump(exclude={"hybrid", "engine_type", "cache_dir"})
        parts: list[SearchSettings] = []
        for number, entry in enumerate(self.hybrid.engines):
            where = f"search.hybrid.engines[{number}]"
            own = {"engine_type": entry} if isinstance(entry, str) else entry
            if own.get("engine_type") in (None, "hybrid"):
                raise ConfigError(f"{where}: name an engine other than hybrid with engine_type")
            try:
                parts.append(SearchSettings.model_validate(_merged(shared, own)))
            except ValidationError as error:
                problem = error.errors()[0]
                key = ".".join(str(part) for part in problem["loc"])
                raise ConfigError(f"{where}.{key}: {problem['msg']}") from None
        return parts


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


class RewardSettings(Section):
    """The terms of the reward (docs/algorithm.md)."""

    recipe: Literal["paper", "official"] = Field(
        default="paper", description="Semantics: the paper's or the released code's."
    )
    gamma_key: float = Field(default=0.1, ge=0, description="Weight of the search-key reward.")
    redundancy_threshold: float = Field(
        default=0.8,
        gt=0,
        description="TF-IDF cosine from which a document repeats an earlier one; 1 or more: identity alone.",
    )
    max_search_steps: int = Field(default=5, ge=1, description="Searches allowed per episode.")
    step_scale: float = Field(
        default=1.0, ge=0, description="Weight of step rewards; 0 (and gamma_key 0) is outcome-only PPO."
    )
    answer: bool = Field(default=True, description="Reward the answer's F1.")
    search_key: bool = Field(default=True, description="Reward queries that match the reference queries.")
    information_gain: bool = Field(default=True, description="Reward new information about the golden documents.")
    redundancy_penalty: bool = Field(default=True, description="Penalise documents retrieved before.")
    stop_words: Literal["none", "english"] = Field(default="none", description="Words left out of the TF-IDF.")


class TrainingSettings(Section):
    """StePPO's update."""

    batch_size: int = Field(default=32, ge=1, description="Questions per rollout.")
    rollouts_per_question: int = Field(default=1, ge=1, description="Episodes per question.")
    minibatch_size: int | None = Field(
        default=None, ge=1, description="Episodes per optimiser step; default: the whole batch."
    )
    microbatch_tokens: int = Field(default=8192, ge=1, description="Tokens, padding included, per forward pass.")
    update_epochs: int = Field(default=1, ge=1, description="Passes over each rollout's batch.")
    num_epochs: int = Field(default=10, ge=1, description="Passes over the training questions.")
    max_steps: int | None = Field(default=None, ge=0, description="Stop after so many steps, whatever num_epochs says.")
    learning_rate: float = Field(default=7e-7, gt=0, description="Policy's peak learning rate.")
    critic_learning_rate: float = Field(default=7e-6, gt=0, description="Critic's peak learning rate.")
    warmup_ratio: float = Field(default=0.285, ge=0, le=1, description="Share of all steps with a rising policy rate.")
    critic_warmup_ratio: float = Field(
        default=0.015, ge=0, le=1, description="Share of all steps with a rising critic rate."
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's weight decay.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradients are clipped to this norm.")
    clip_range: float = Field(default=0.2, gt=0, description="PPO's clip of the ratio.")
    value_clip_range: float = Field(default=0.5, gt=0, description="Clip of the value's change.")
    value_coef: float = Field(
        default=1.0, ge=0, description="Weight of the value loss; with a critic of its own, its scale."
    )
    entropy_coef: float = Field(default=0.0, description="Weight of the entropy bonus.")
    gamma: float = Field(default=1.0, ge=0, le=1, description="Discount per sampled token.")
    gae_lambda: float = Field(default=1.0, ge=0, le=1, description="GAE's lambda over sampled tokens.")
    kl_mode: Literal["reward", "loss", "none"] = Field(
        default="reward", description="Where KL to the reference counts."
    )
    kl_coef: float = Field(default=1e-3, ge=0, description="Weight of the KL to the reference.")
    critic: Literal["separate", "shared", "group"] = Field(
        default="separate",
        description="A network of its own, a head on the policy's, or none: the question's episodes as a group (GRPO).",
    )
    value_warmup_steps: int = Field(default=0, ge=0, description="First steps that train the critic alone.")
    value_warmup_epochs: int = Field(default=1, ge=1, description="Passes over each batch during the value warm-up.")
    gradient_checkpointing: bool = Field(default=False, description="Recompute activations to save memory.")
    offload: Literal["none", "optimizer", "reference", "all"] = Field(
        default="none",
        description="What is in main memory while the accelerator does not need it: optimiser states, reference.",
    )
    mixed_precision: Literal["no", "bf16"] = Field(default="no", description="accelerate's mixed precision.")
    old_logprobs: Literal["auto", "rollout", "recompute"] = Field(
        default="auto",
        description="Before the update: as sampled (rollout), or read again; auto: as sampled where they are the same.",
    )
    importance_cap: float | None = Field(
        default=None,
        gt=0,
        description="Weight the policy loss by min(trainer's / engine's probability, cap); null: not at all.",
    )
    stop_kl: float | None = Field(default=None, gt=0, description="End the run when the KL to the reference is above.")
    stop_entropy: float | None = Field(default=None, gt=0, description="End the run when the entropy is below.")
    alarm_searches: float | None = Field(default=None, gt=0, description="Warn when searches per question are below.")
    alarm_format_rate: float | None = Field(default=None, gt=0, le=1, description="Warn when the format rate is below.")
    parallel: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="With several processes, each holds all of the networks (ddp), or a share of them (fsdp).",
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads for torch; default: torch's own choice.")
    workers: int = Field(
        default=1,
        ge=1,
        description="Threads that share a step's work, each with `threads` of torch's; on a CPU, in full precision.",
    )

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _unquoted_no(cls, value: object) -> object:
        """A YAML reader takes a bare `no` for False."""
        return "no" if value is False else value


class LoraSettings(Section):
    """Adapters in place of full fine-tuning: policy and critic as two of them over one frozen trunk."""

    rank: int = Field(default=0, ge=0, description="Rank of the adapters; 0 trains all weights.")
    alpha: int = Field(default=32, ge=1, description="An adapter's output counts alpha / rank times.")
    target_modules: str | tuple[str, ...] = Field(
        default="all-linear", description="Layers that get one: names, or all-linear: all but the head."
    )


class WarmStartPhase(Section):
    """One stretch of supervised warm start."""

    kind: Literal["reading", "demonstrations"] = Field(description="Reading drills, or whole scripted episodes.")
    updates: int = Field(ge=1, description="Optimiser steps.")
    tokens: int = Field(default=4096, ge=64, description="Tokens per update.")
    max_hops: int | None = Field(default=None, ge=1, description="Demonstrate only the first so many hops.")
    stop_early: tuple[float, ...] = Field(default=(), description="Chance to answer too early after hop 1, 2, ….")
    repeat_query: float = Field(default=0.0, ge=0, le=1, description="Chance to issue a query again.")
    vague_query: float = Field(default=0.0, ge=0, le=1, description="Chance to ask without naming the entity first.")


class ImitationSettings(Section):
    """The command `warm-start`: any model learns to write whole demonstrations."""

    learning_rate: float = Field(default=1e-5, gt=0, description="AdamW's peak rate; adapters take ten times as much.")
    epochs: int = Field(default=2, ge=1, description="Passes over the demonstrations.")
    batch_size: int = Field(default=32, ge=1, description="Demonstrations per update.")
    warmup_ratio: float = Field(
        default=0.1, ge=0, le=1, description="Share of the updates with a rising rate; it falls linearly to the end."
    )
    held_out: float = Field(
        default=0.05, ge=0, lt=1, description="Share of the demonstrations that is not learned, but measured on."
    )
    measure_every: int = Field(default=10, ge=1, description="Updates between measurements.")
    stop_kl: float | None = Field(
        default=None, gt=0, description="End when the KL to the model as it was loaded is above."
    )
    stop_entropy: float | None = Field(default=None, gt=0, description="End when the entropy is below.")


class WarmStartSettings(Section):
    """Supervised start: of the tiny policy on scripted, imperfect demonstrations; of any model by `warm-start`."""

    learning_rate: float = Field(default=1e-3, gt=0, description="AdamW's rate for embeddings, norms and biases.")
    matrix_learning_rate: float = Field(default=0.02, gt=0, description="Muon's rate for hidden matrices.")
    warmup_updates: int = Field(default=30, ge=0, description="Updates with a rising rate.")
    phases: tuple[WarmStartPhase, ...] = Field(
        default=(), description="The curriculum, in order; empty: no warm start."
    )
    imitation: ImitationSettings = ImitationSettings()


class EvaluationSettings(Section):
    """Evaluation during training and after."""

    every_steps: int = Field(default=20, ge=1, description="Training steps between dev evaluations.")
    dev_questions: int = Field(default=256, ge=1, description="First so many dev questions are used during training.")
    batch_size: int = Field(default=128, ge=1, description="Episodes handed to the engine at once.")
    temperature: float = Field(default=0.0, ge=0, description="0 is greedy.")


class LoggingSettings(Section):
    """What is written while a run goes on."""

    tensorboard: bool = Field(default=True, description="Write TensorBoard events under logs/tensorboard.")
    trajectories_every: int = Field(default=10, ge=1, description="Steps between samples of whole trajectories.")
    trajectories: int = Field(default=4, ge=0, description="How many of them.")
    checkpoint_every: int = Field(default=20, ge=1, description="Steps between checkpoints for --resume.")
    keep_checkpoints: int = Field(default=2, ge=1, description="Older ones are deleted.")


class WorldSettings(Section):
    """The generated multi-hop world of the quickstart."""

    train_questions: int = Field(default=3000, ge=1, description="Questions about train entities.")
    dev_questions: int = Field(default=300, ge=1, description="Questions about entities no training question names.")
    test_questions: int = Field(default=300, ge=1, description="Questions about entities no other question names.")
    scale: float = Field(default=1.0, gt=0, description="Size of the world: 1 has about 4,000 passages.")
    hops: tuple[int, ...] = Field(default=(2, 3, 4), description="Hop counts, in equal shares.")


class Config(Section):
    """All settings."""

    seed: int = Field(default=0, ge=0, description="Seeds data order, initialisation and sampling.")
    model: ModelSettings = ModelSettings()
    search: SearchSettings = SearchSettings()
    rollout: RolloutSettings = RolloutSettings()
    vllm: VLLMSettings = VLLMSettings()
    reward: RewardSettings = RewardSettings()
    training: TrainingSettings = TrainingSettings()
    lora: LoraSettings = LoraSettings()
    warm_start: WarmStartSettings = WarmStartSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    logging: LoggingSettings = LoggingSettings()
    world: WorldSettings = WorldSettings()

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        if self.search.engine_type == "hybrid":
            _check_hybrid(self.search)
        if self.rollout.max_passage_tokens > self.rollout.max_observation_tokens:
            raise ValueError(
                f"rollout.max_passage_tokens={self.rollout.max_passage_tokens} is more than "
                f"rollout.max_observation_tokens={self.rollout.max_observation_tokens}: lower it"
            )
        if self.training.critic == "group" and self.training.rollouts_per_question < 2:
            raise ValueError(
                "training.critic=group compares a question's episodes, and training.rollouts_per_question="
                f"{self.training.rollouts_per_question}: raise it to 2 or more"
            )
        if self.training.critic == "group" and self.training.value_warmup_steps:
            raise ValueError(
                "training.critic=group has no critic to warm up, and training.value_warmup_steps="
                f"{self.training.value_warmup_steps}: set it to 0"
            )
        if self.lora.rank and self.training.offload in ("reference", "all"):
            raise ValueError(
                f"training.offload={self.training.offload}: with lora.rank={self.lora.rank} the reference is the "
                "frozen trunk itself; set optimizer or none"
            )
        if self.training.parallel == "fsdp" and self.training.offload != "none":
            raise ValueError(
                "training.parallel=fsdp keeps a share of optimiser states and reference in each process, and "
                f"training.offload={self.training.offload}: set it to none"
            )
        if self.training.parallel == "fsdp" and self.lora.rank:
            raise ValueError(
                f"training.parallel=fsdp shares whole networks out, and with lora.rank={self.lora.rank} two take "
                "turns on one trunk: set training.parallel to ddp"
            )
        if self.training.critic == "shared" and self.training.old_logprobs == "rollout":
            raise ValueError(
                "training.critic=shared reads the policy anyway, and training.old_logprobs=rollout: set it to auto"
            )
        if self.training.importance_cap is not None and self.training.old_logprobs == "rollout":
            raise ValueError(
                f"training.importance_cap={self.training.importance_cap:g} weighs what the trainer reads against "
                "what was sampled, and training.old_logprobs=rollout: set it to auto"
            )
        return self


def _check_hybrid(search: SearchSettings) -> None:
    if not search.hybrid.engines:
        raise ValueError("search.engine_type=hybrid fuses engines: name them, as in search.hybrid.engines=[bm25,wiki]")
    try:
        search.hybrid_parts()
    except ConfigError as error:
        raise ValueError(str(error)) from None


def load_config(
    path: str | Path | None = None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> Config:
    """Return the settings of a YAML file (defaults without one) with `section.key=value` overrides applied.

    Args:
        path: the YAML file.
        overrides: they win over the file.
        base: a tree of settings that the file wins over, such as those a model was trained with.

    Raises:
        ConfigError: the file is missing or no YAML mapping, a key is unknown (the nearest known one is named), a value
            has the wrong type, or settings exclude each other.
    """
    tree = _merged(base or {}, {} if path is None else _read_yaml(Path(path)))
    for override in overrides:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, path, overrides)) from None


def overridden_keys(overrides: Sequence[str]) -> frozenset[str]:
    """Return the dotted keys that overrides set."""
    return frozenset(override.partition("=")[0].strip() for override in overrides)


def asked_keys(path: str | Path | None, overrides: Sequence[str]) -> frozenset[str]:
    """Return the dotted keys that the user chose a value for, in a YAML file or in overrides.

    A section that a file writes out in full, as config/config.yaml and copies of it do, lists defaults: of its keys
    only those with another value are a choice.

    Raises:
        ConfigError: as `load_config`.
    """
    keys = set(overridden_keys(overrides))
    for name, section in () if path is None else load_config(path):
        if isinstance(section, Section):
            written, defaults = section.model_fields_set, type(section)()
            in_full = len(written) == len(type(section).model_fields)
            chosen = {key for key in written if not in_full or getattr(section, key) != getattr(defaults, key)}
            keys |= {f"{name}.{key}" for key in chosen}
    return frozenset(keys)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"config file {path} cannot be read: {reason}") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ConfigError(f"config file {path}{line} is not YAML: {getattr(error, 'problem', error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"config file {path} must hold a mapping of sections, not a {type(tree).__name__}")
    return {section: values for section, values in tree.items() if values is not None}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return a new tree with the values of both; where both have one, that of `over`."""
    tree = copy.deepcopy(dict(base))
    for name, value in over.items():
        below = tree.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            tree[name] = _merged(below, value)
        else:
            tree[name] = value
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override '{override}' is not of the form section.key=value")
    *sections, name = key.strip().split(".")
    for section in sections:
        branch: Any = tree.setdefault(section, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"override '{override}': {section} is not a section")
        tree = branch
    try:
        tree[name] = yaml.safe_load(text)
    except yaml.YAMLError:
        tree[name] = text


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return every dotted key of the settings."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += known_keys(kind, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _explain(error: ValidationError, path: str | Path | None, overrides: Sequence[str]) -> str:
    """Return the first problem as one line that names where it was written."""
    problem = error.errors()[0]
    key = re.sub(r"\.(\d+)", r"[\1]", ".".join(str(part) for part in problem["loc"]))
    culprit = next((override for override in reversed(overrides) if _sets(override, problem["loc"])), None)
    source = f"override '{culprit}': " if culprit else f"config file {path}: " if path else "config: "
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, [*known_keys(), *Config.model_fields], n=1, cutoff=0.5)
        return f"{source}unknown key {key}" + (f"; did you mean {near[0]}?" if near else "")
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return source + message
    return f"{source}{key}: {message[0].lower()}{message[1:]}, got {problem['input']!r}"


def _sets(override: str, location: Sequence[int | str]) -> bool:
    """Return whether an override writes what stands at that place of the tree, a part of it, or all around it."""
    key = override.partition("=")[0].strip().split(".")
    return bool(location) and all(a == b for a, b in zip(key, map(str, location), strict=False))


def as_mapping(settings: BaseModel) -> Mapping[str, Any]:
    """Return settings as plain JSON values."""
    return settings.model_dump(mode="json")
