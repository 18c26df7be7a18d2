"""What a plan is about: assumptions, an episode's tokens, parameters, seconds and bytes on disk."""

from dataclasses import dataclass

import torch

from stepsearch.config import IN_PROCESS, Config
from stepsearch.models.model_shape import ModelShape
from stepsearch.models.rollout_copy import wants_copy
from stepsearch.models.trunk import usable_workers
from stepsearch.training.planning.devices import CPU, Device
from stepsearch.training.planning.formulas import BFLOAT16, Precision
from stepsearch.training.reading import reads_reference


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a plan cannot know.

    Attributes:
        device: what the run is for.
        devices: how many; they share the work, and with `training.parallel=fsdp` weights, gradients and states.
        efficiency: share of the peak that matrix products and reading from memory reach.
        layer_seconds: what a layer of one pass takes at least, however little there is to compute.
        prompt_tokens: of a question with its prompt.
        searches: that an episode makes on average.
        turn_tokens: that a turn samples on average.
    """

    device: Device
    devices: int = 1
    efficiency: float = 0.4
    layer_seconds: float = 3e-4
    prompt_tokens: int = 200
    searches: float = 3.0
    turn_tokens: int = 100


@dataclass(frozen=True, slots=True)
class EpisodeTokens:
    """The tokens of one episode.

    Attributes:
        prompt: the question with its prompt.
        sampled: by the policy.
        observed: of search results.
    """

    prompt: int
    sampled: int
    observed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.prompt + self.sampled + self.observed

    def within(self, length: int) -> "EpisodeTokens":
        """Return the tokens of an episode that ends where the context does."""
        if self.total <= length:
            return self
        share = max(length - self.prompt, 0) / (self.sampled + self.observed)
        sampled = round(self.sampled * share)
        return EpisodeTokens(self.prompt, sampled, max(length - self.prompt, 0) - sampled)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters by network.

    Attributes:
        policy: of the model as it is loaded.
        critic: of a network of its own, with its head, or of a head on the policy's trunk, or of an adapter and a head.
        reference: of a copy; 0 where there is none, or where it is the trunk with adapters off.
        adapter: of the policy's; 0 without.
        policy_learns: what the policy's optimiser moves.
        critic_learns: what the critic's does.
    """

    policy: int
    critic: int
    reference: int
    adapter: int
    policy_learns: int
    critic_learns: int


@dataclass(frozen=True, slots=True)
class Seconds:
    """What a step takes, by part.

    Attributes:
        rollout: sampling and reading what was found; answers of the search are not counted.
        reading: log-probabilities and values before the update.
        update: all passes over the batch.
        evaluation: a step's share of the dev evaluations.
        measured: the rest is scaled from a measurement, not from assumptions.
    """

    rollout: float
    reading: float
    update: float
    evaluation: float
    measured: bool = False

    @property
    def step(self) -> float:
        """A whole step."""
        return self.rollout + self.reading + self.update + self.evaluation


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes on disk: of one checkpoint, of the reference's weights, of one saved model, and the most at one time."""

    checkpoint: int
    reference: int
    model: int
    most: int


def episodes_of(config: Config) -> int:
    """Return the episodes of a step."""
    return config.training.batch_size * config.training.rollouts_per_question


def sharers(config: Config, assumed: Assumptions) -> int:
    """Return how many devices share a weight, its gradient and its states; with copies on each, 1."""
    return assumed.devices if config.training.parallel == "fsdp" else 1


def workers_of(config: Config, assumed: Assumptions) -> int:
    """Return how many threads share a step's work on each device."""
    return usable_workers(config.training, _device(assumed))


def samples_from_copy(config: Config, assumed: Assumptions) -> bool:
    """Return whether our engine samples a bfloat16 copy of the policy: on accelerators, of what learns in float32."""
    return config.rollout.engine == IN_PROCESS and wants_copy(_device(assumed).type, config)


def sampled_bytes(config: Config, shape: ModelShape, assumed: Assumptions) -> int:
    """Return the bytes of a number in what is sampled, weights and cache: the policy's, or a copy's 2."""
    of_vllm = config.rollout.engine != IN_PROCESS and config.training.mixed_precision == "bf16"
    return BFLOAT16 if samples_from_copy(config, assumed) or of_vllm else weight_dtype(config, shape).itemsize


def longest_episode(config: Config, assumed: Assumptions) -> EpisodeTokens:
    """Return the tokens of an episode that uses up its budgets: every search, and a turn after the last one."""
    searches = config.reward.max_search_steps
    return EpisodeTokens(
        prompt=assumed.prompt_tokens,
        sampled=(searches + 1) * config.rollout.max_turn_tokens,
        observed=searches * config.rollout.max_observation_tokens,
    )


def expected_episode(config: Config, assumed: Assumptions) -> EpisodeTokens:
    """Return the tokens of an episode as assumed; documents are as long as they may be."""
    searches = min(assumed.searches, config.reward.max_search_steps)
    rollout = config.rollout
    documents = min(rollout.max_observation_tokens, config.search.top_k * rollout.max_passage_tokens)
    return EpisodeTokens(
        prompt=assumed.prompt_tokens,
        sampled=round((searches + 1) * min(assumed.turn_tokens, rollout.max_turn_tokens)),
        observed=round(searches * documents),
    )


def count_parameters(config: Config, shape: ModelShape, adapter: int) -> Parameters:
    """Return the parameters of policy, critic and reference."""
    critic, settings = config.training.critic, config.training
    head = shape.value_head_parameters if critic != "group" else 0
    body = 0 if critic != "separate" else adapter if adapter else shape.trunk_parameters
    has_copy = reads_reference(settings) and not adapter
    return Parameters(
        policy=shape.parameters,
        critic=body + head,
        reference=shape.parameters if has_copy else 0,
        adapter=adapter,
        policy_learns=adapter or shape.parameters,
        critic_learns=body + head if settings.critic != "group" else 0,
    )


def compute_precision(config: Config, shape: ModelShape) -> Precision:
    """Return what the networks compute in."""
    if config.training.mixed_precision == "bf16":
        return Precision.AUTOCAST
    return Precision.FLOAT32 if weight_dtype(config, shape) == torch.float32 else Precision.BFLOAT16


def weight_dtype(config: Config, shape: ModelShape) -> torch.dtype:
    """Return what the policy's weights are loaded in."""
    return shape.dtype if config.model.dtype == "auto" else getattr(torch, config.model.dtype)


def _device(assumed: Assumptions) -> torch.device:
    return torch.device("cpu" if assumed.device.name == CPU else "cuda")
