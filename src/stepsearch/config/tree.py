"""All settings as one tree, and which of them exclude each other."""

from pydantic import BaseModel, Field, model_validator

from stepsearch.config.learning_settings import LoraSettings, RewardSettings, TrainingSettings, WarmStartSettings
from stepsearch.config.policy_settings import ModelSettings, RolloutSettings, VLLMSettings
from stepsearch.config.run_settings import EvaluationSettings, LoggingSettings, WorldSettings
from stepsearch.config.search_settings import SearchSettings
from stepsearch.config.section import Section
from stepsearch.errors import ConfigError


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
        _check_group(self.training)
        _check_placement(self.training, self.lora)
        _check_old_logprobs(self.training)
        return self


def _check_hybrid(search: SearchSettings) -> None:
    if not search.hybrid.engines:
        raise ValueError("search.engine_type=hybrid fuses engines: name them, as in search.hybrid.engines=[bm25,wiki]")
    try:
        search.hybrid_parts()
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _check_group(training: TrainingSettings) -> None:
    if training.critic == "group" and training.rollouts_per_question < 2:
        raise ValueError(
            "training.critic=group compares a question's episodes, and training.rollouts_per_question="
            f"{training.rollouts_per_question}: raise it to 2 or more"
        )
    if training.critic == "group" and training.value_warmup_steps:
        raise ValueError(
            "training.critic=group has no critic to warm up, and training.value_warmup_steps="
            f"{training.value_warmup_steps}: set it to 0"
        )
    if training.critic == "group" and training.kl_mode == "reward" and training.kl_coef:
        raise ValueError(
            "training.critic=group divides a group's rewards by their spread, and training.kl_mode=reward has the KL "
            "in them: where all answers earn the same, its noise would decide; set training.kl_mode=loss"
        )


def _check_placement(training: TrainingSettings, lora: LoraSettings) -> None:
    if lora.rank and training.offload in ("reference", "all"):
        raise ValueError(
            f"training.offload={training.offload}: with lora.rank={lora.rank} the reference is the frozen trunk "
            "itself; set optimizer or none"
        )
    if training.parallel == "fsdp" and training.offload != "none":
        raise ValueError(
            "training.parallel=fsdp keeps a share of optimiser states and reference in each process, and "
            f"training.offload={training.offload}: set it to none"
        )
    if training.parallel == "fsdp" and lora.rank:
        raise ValueError(
            f"training.parallel=fsdp shares whole networks out, and with lora.rank={lora.rank} two take turns on one "
            "trunk: set training.parallel to ddp"
        )


def _check_old_logprobs(training: TrainingSettings) -> None:
    if training.critic == "shared" and training.old_logprobs == "rollout":
        raise ValueError(
            "training.critic=shared reads the policy anyway, and training.old_logprobs=rollout: set it to auto"
        )
    if training.importance_cap is not None and training.old_logprobs == "rollout":
        raise ValueError(
            f"training.importance_cap={training.importance_cap:g} weighs what the trainer reads against what was "
            "sampled, and training.old_logprobs=rollout: set it to auto"
        )


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
