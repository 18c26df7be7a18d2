"""What a run needs before it starts: parameters, memory by part, tokens, time and disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from stepsearch.config import Config
from stepsearch.errors import ConfigError
from stepsearch.models.model_shape import ModelShape
from stepsearch.rollout import longest_prompt
from stepsearch.training.planning.duration import step_seconds
from stepsearch.training.planning.memory import HELD, disk_bytes, memory_parts
from stepsearch.training.planning.notes import settings_notes
from stepsearch.training.planning.quantities import (
    Assumptions,
    Disk,
    EpisodeTokens,
    Parameters,
    Seconds,
    count_parameters,
    episodes_of,
    expected_episode,
    longest_episode,
    weight_dtype,
    workers_of,
)
from stepsearch.training.planning.sampling import check_vllm_share
from stepsearch.training.preflight import check_processes, check_sampling
from stepsearch.training.schedules import total_steps


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run needs.

    Attributes:
        parameters: by network.
        expected: tokens of an episode as assumed.
        longest: tokens of an episode that uses up all its budgets, or the context.
        episodes: of a step.
        memory: bytes on each device by phase, then by part; `HELD` is there in all phases.
        seconds: of a step.
        steps: of the run; None where that depends on a number of questions that is not known.
        disk: what the run writes.
        notes: what is possible, and may not be meant.
    """

    parameters: Parameters
    expected: EpisodeTokens
    longest: EpisodeTokens
    episodes: int
    memory: Mapping[str, Mapping[str, int]]
    seconds: Seconds
    steps: int | None
    disk: Disk
    notes: Sequence[str]

    @property
    def peak_phase(self) -> str:
        """The phase that needs the most memory."""
        return max((name for name in self.memory if name != HELD), key=self.phase_bytes)

    @property
    def peak_bytes(self) -> int:
        """The most memory that a device needs."""
        return self.phase_bytes(self.peak_phase)

    @property
    def hours(self) -> float | None:
        """The whole run, where its steps are known."""
        return None if self.steps is None else self.steps * self.seconds.step / 3600

    def phase_bytes(self, phase: str) -> int:
        """Return what a device needs while that phase lasts."""
        return sum(self.memory[HELD].values()) + sum(self.memory[phase].values())


def plan_run(
    config: Config,
    shape: ModelShape,
    assumed: Assumptions,
    *,
    adapter: int = 0,
    questions: int | None = None,
) -> RunPlan:
    """Return what a run needs.

    Args:
        config: its settings.
        shape: of the policy.
        assumed: what cannot be known.
        adapter: parameters of one adapter, where `lora.rank` asks for them.
        questions: to train on; None where that is not known.

    Raises:
        ConfigError: the settings exclude each other, or do not fit the model.
    """
    refuse_impossible(config, shape, assumed)
    episodes = episodes_of(config)
    parameters = count_parameters(config, shape, adapter)
    check_vllm_share(config, shape, parameters, assumed)
    longest = longest_episode(config, assumed).within(config.model.max_length)
    expected = expected_episode(config, assumed).within(config.model.max_length)
    return RunPlan(
        parameters=parameters,
        expected=expected,
        longest=longest,
        episodes=episodes,
        memory=memory_parts(config, shape, parameters, longest, assumed),
        seconds=step_seconds(config, shape, parameters, expected, assumed),
        steps=_steps(config, questions),
        disk=disk_bytes(config, shape, parameters),
        notes=settings_notes(config, longest_episode(config, assumed), episodes),
    )


def refuse_impossible(config: Config, shape: ModelShape, assumed: Assumptions) -> None:
    """Refuse settings that cannot be trained with, whatever the machine.

    Raises:
        ConfigError: names the key to change.
    """
    check_sampling(config.rollout)
    room, length, settings = (
        longest_prompt(config.model.max_length, config.rollout),
        config.model.max_length,
        config.training,
    )
    if assumed.prompt_tokens > room:
        raise ConfigError(
            f"model.max_length={length} leaves {room} tokens for a prompt of {assumed.prompt_tokens}: raise it by "
            f"{assumed.prompt_tokens - room}, or lower rollout.max_turn_tokens or rollout.max_observation_tokens"
        )
    if shape.positions is not None and length > shape.positions:
        raise ConfigError(f"model.max_length={length} is more than the model's {shape.positions} positions: lower it")
    if weight_dtype(config, shape) != torch.float32 and not config.lora.rank:
        raise ConfigError(
            f"model.dtype={config.model.dtype}: training's small steps vanish in 16-bit weights; set "
            "model.dtype=float32 (and training.mixed_precision=bf16 for the speed), or train adapters with lora.rank=32"
        )
    check_processes(assumed.devices, workers_of(config, assumed), config.rollout.engine)
    episodes = episodes_of(config)
    if settings.minibatch_size is not None and settings.minibatch_size > episodes:
        raise ConfigError(
            f"training.minibatch_size={settings.minibatch_size} is more than the {episodes} episodes of a step "
            f"(training.batch_size {settings.batch_size} x training.rollouts_per_question "
            f"{settings.rollouts_per_question}): lower it or raise these"
        )
    if settings.minibatch_size is not None and settings.minibatch_size < assumed.devices:
        raise ConfigError(
            f"training.minibatch_size={settings.minibatch_size} leaves some of {assumed.devices} devices without an "
            "episode: raise it"
        )


def _steps(config: Config, questions: int | None) -> int | None:
    settings = config.training
    if settings.max_steps is None and questions is None:
        return None
    return total_steps(questions or 0, settings.batch_size, settings.num_epochs, settings.max_steps)
