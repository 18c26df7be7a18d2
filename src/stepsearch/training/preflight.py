"""What is refused before the first episode is played."""

from collections.abc import Sequence

import torch
from torch import nn

from stepsearch.config import IN_PROCESS, Config, RolloutSettings
from stepsearch.errors import ConfigError
from stepsearch.models.engines import check_engine
from stepsearch.rollout import EpisodeTokenizer, longest_prompt
from stepsearch.types import Question


def check_settings(config: Config) -> None:
    """Refuse what can be seen in the settings alone, before a warm start of minutes.

    Raises:
        ConfigError: the engine is not installed, the sampling is not what is trained, or the budgets do not fit the
            context.
    """
    check_engine(config.rollout.engine)
    check_sampling(config.rollout)
    longest_prompt(config.model.max_length, config.rollout)


def check_sampling(rollout: RolloutSettings) -> None:
    """Refuse to sample from another distribution than the one that is trained.

    Raises:
        ConfigError: the temperature is 0, top_p is less than 1, or top_k is on.
    """
    wanted = {"temperature": rollout.temperature > 0, "top_p": rollout.top_p == 1, "top_k": rollout.top_k == 0}
    for name, allowed in wanted.items():
        if not allowed:
            raise ConfigError(
                f"rollout.{name}={getattr(rollout, name)}: training samples from the distribution that it trains, so "
                "it needs rollout.temperature above 0, rollout.top_p=1 and rollout.top_k=0"
            )


def check_prompts(questions: Sequence[Question], tokenizer: EpisodeTokenizer, config: Config) -> None:
    """Refuse questions after whose prompt no search and no answer fit; a question is never cut.

    Raises:
        ConfigError: the longest prompt, one search, its result and a last turn exceed `model.max_length`.
    """
    room = longest_prompt(config.model.max_length, config.rollout)
    lengths = [len(prompt) for prompt in tokenizer.encode_prompts([question.question for question in questions])]
    if not lengths or max(lengths) <= room:
        return
    longest, budgets = max(lengths), config.rollout
    rest = config.model.max_length - room - budgets.max_turn_tokens - budgets.max_observation_tokens
    raise ConfigError(
        f"model.max_length={config.model.max_length} is too short: prompt {longest} (question "
        f"{questions[lengths.index(longest)].id!r}) + rollout.max_turn_tokens {budgets.max_turn_tokens} + "
        f"rollout.max_observation_tokens {budgets.max_observation_tokens} + {rest} for a last turn = "
        f"{config.model.max_length - room + longest}; raise model.max_length or lower the budgets"
    )


def check_processes(count: int, workers: int, engine: str) -> None:
    """Refuse what only one process can train with.

    Args:
        count: of processes.
        workers: threads that share a step's work in each of them.
        engine: what samples.

    Raises:
        ConfigError: several processes have several threads: policy and critic, side by side in each process, would
            exchange their gradients in no agreed order. Or they have an engine that takes its weights from one process.
    """
    if count == 1:
        return
    if engine != IN_PROCESS:
        raise ConfigError(
            f"rollout.engine={engine} is for training in one process, and there are {count}: set "
            f"rollout.engine={IN_PROCESS}"
        )
    if workers > 1:
        raise ConfigError(
            f"training.workers={workers} with {count} processes: processes share the work out already; set "
            "training.workers=1"
        )


def check_weights(network: nn.Module) -> None:
    """Refuse to train weights of 16 bits: steps of a usual size are less than the distance between two such numbers.

    Raises:
        ConfigError: a weight that learns has fewer than 32 bits.
    """
    kinds = {parameter.dtype for parameter in network.parameters() if parameter.requires_grad}
    for kind in kinds - {torch.float32, torch.float64}:
        raise ConfigError(
            f"the policy's weights are {str(kind).removeprefix('torch.')}, in which training's small steps vanish: set "
            "model.dtype=float32, and training.mixed_precision=bf16 for the speed"
        )
