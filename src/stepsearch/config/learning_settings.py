"""What is rewarded and how weights change: the sections `reward`, `training`, `lora` and `warm_start`."""

from typing import Literal

from pydantic import Field, field_validator

from stepsearch.config.section import Section


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

    @property
    def pays_searches(self) -> bool:
        """Whether what a search brings earns something."""
        return self.step_scale > 0 and (self.information_gain or self.redundancy_penalty)

    @property
    def pays_queries(self) -> bool:
        """Whether queries like the reference ones earn something."""
        return self.gamma_key > 0 and self.search_key


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
