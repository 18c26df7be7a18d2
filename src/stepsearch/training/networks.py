"""What is trained and what it is held against: policy, critic and reference, as `accelerate` prepares them."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from stepsearch.config import Config
from stepsearch.errors import ConfigError
from stepsearch.models.adapters import CRITIC, add_adapters, using
from stepsearch.models.step_search_model import StepSearchModel, TokenScores
from stepsearch.models.value_model import ValueModel, new_value_head
from stepsearch.training.offload import MAIN_MEMORY, keep_state_in_main_memory
from stepsearch.training.schedules import warmup_factor

ADAM_BETAS = (0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Learner:
    """A network's parameters with their optimiser and the course of its learning rate."""

    parameters: list[nn.Parameter]
    optimizer: Optimizer
    peak_rate: float
    warmup_ratio: float

    @classmethod
    def of(cls, module: nn.Module, peak_rate: float, warmup_ratio: float, weight_decay: float) -> "Learner":
        """Return AdamW over the parameters of `module` that learn."""
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        fused = all(parameter.device.type == "cpu" for parameter in parameters)
        optimizer = AdamW(parameters, lr=peak_rate, betas=ADAM_BETAS, weight_decay=weight_decay, fused=fused)
        return cls(parameters, optimizer, peak_rate, warmup_ratio)

    def prepared(self, accelerator: Accelerator) -> "Learner":
        """Return the learner with its optimiser wrapped for the machine."""
        return replace(self, optimizer=accelerator.prepare(self.optimizer))

    def forget_gradients(self) -> None:
        """Drop the gradients of the parameters."""
        self.optimizer.zero_grad(set_to_none=True)

    def set_rate(self, step: int, total_steps: int) -> float:
        """Set and return the learning rate of `step`."""
        rate = self.peak_rate * warmup_factor(step, total_steps, self.warmup_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate


@dataclass(frozen=True, slots=True)
class LearnedWeights:
    """The state of a network of which most never changes: what its learner learns."""

    learner: Learner

    def state_dict(self) -> dict[str, Tensor]:
        """Return the parameters by their place."""
        return {str(place): parameter.detach() for place, parameter in enumerate(self.learner.parameters)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set the parameters.

        Raises:
            ValueError: there are more or fewer of them.
            RuntimeError: one has another shape.
        """
        for weights, parameter in zip(state.values(), self.learner.parameters, strict=True):
            parameter.copy_(weights)


class Networks(NamedTuple):
    """What is trained, as `Accelerator.prepare` returned it.

    `value_model` is None for a head on the policy, and both it and `critic_learner` where there is no critic.
    """

    policy: nn.Module
    value_model: nn.Module | None
    policy_learner: Learner
    critic_learner: Learner | None


def start_accelerator(mixed_precision: str, device: torch.device) -> Accelerator:
    """Return an accelerator for that device, whatever an earlier run of this process had.

    Raises:
        ConfigError: several processes were started, or the device lacks that precision.
    """
    start = partial(Accelerator, mixed_precision=mixed_precision, cpu=device.type == "cpu")
    try:
        accelerator = start()
    except ValueError:
        # accelerate has one state per process, and refuses to change its precision or device.
        AcceleratorState._reset_state(reset_partial_state=True)  # pyright: ignore[reportPrivateUsage] - no public way
        try:
            accelerator = start()
        except ValueError as error:
            raise ConfigError(f"training.mixed_precision={mixed_precision} is not possible here: {error}") from None
    refuse_processes(accelerator.num_processes)
    return accelerator


def refuse_processes(count: int) -> None:
    """Refuse to train in several processes: each would play the same episodes and write the same files.

    Raises:
        ConfigError: there is more than one.
    """
    if count > 1:
        raise ConfigError(
            f"training was started in {count} processes, and runs in one: start it without accelerate launch or "
            "torchrun, or with --num_processes 1"
        )


def prepare_networks(policy: StepSearchModel, config: Config, accelerator: Accelerator) -> Networks:
    """Return policy and critic with their optimisers, on the machine; the critic's head is a function of the seed."""
    settings = config.training
    if settings.critic == "group":
        value_model = critic = None
    elif settings.critic == "shared":
        value_model, critic = None, new_value_head(policy.causal_lm, config.seed)
        policy.value_head = critic
    elif policy.adapters is not None:
        value_model = critic = ValueModel.on_adapters(policy.causal_lm, policy.adapters, config.seed)
    else:
        value_model = critic = ValueModel.from_causal_lm(policy.causal_lm, config.seed)
    if settings.gradient_checkpointing:
        policy.enable_gradient_checkpointing()
        if value_model is not None:
            value_model.enable_gradient_checkpointing()
    decay = settings.weight_decay
    policy_learner = Learner.of(policy.causal_lm, settings.learning_rate, settings.warmup_ratio, decay)
    critic_learner = None
    if critic is not None:
        # Of adapters, only the one that is on counts as learning.
        with using(value_model and value_model.adapters, CRITIC):
            critic_learner = Learner.of(critic, settings.critic_learning_rate, settings.critic_warmup_ratio, decay)
    if settings.offload in ("optimizer", "all"):
        for learner in filter(None, (policy_learner, critic_learner)):
            keep_state_in_main_memory(learner.optimizer)
    return Networks(
        policy=accelerator.prepare(policy),
        value_model=None if value_model is None else accelerator.prepare(value_model),
        policy_learner=policy_learner.prepared(accelerator),
        critic_learner=None if critic_learner is None else critic_learner.prepared(accelerator),
    )


def give_adapters(policy: StepSearchModel, config: Config) -> None:
    """Freeze the policy and let adapters learn in its place, if the settings ask for it.

    Raises:
        ConfigError: peft is not installed, or the settings name layers that there are not.
    """
    if config.lora.rank:
        with_critic = config.training.critic == "separate"
        policy.adapters = add_adapters(policy.causal_lm, config.lora, config.seed, with_critic)


class FrozenTrunk(nn.Module):
    """The reference of a policy with adapters: the same model with all of them off, at no memory of its own."""

    def __init__(self, policy: StepSearchModel) -> None:
        super().__init__()
        # In a tuple, so that the policy's parameters are not this module's.
        self._policy = (policy,)

    def forward(
        self, input_ids: Tensor, response_mask: Tensor, temperature: float = 1.0, with_entropy: bool = True
    ) -> TokenScores:
        """Return what `StepSearchModel` does."""
        return self._policy[0].score_as_loaded(input_ids, response_mask, temperature, with_entropy)


def prepare_reference(
    policy: StepSearchModel, accelerator: Accelerator, in_main_memory: bool = False
) -> StepSearchModel | FrozenTrunk:
    """Return the policy as it is now, never to learn, and read in the same precision as the policy.

    One in main memory has to be lent to the accelerator before it is read.
    """
    if policy.adapters is not None:
        return cast(FrozenTrunk, accelerator.prepare_model(FrozenTrunk(policy), evaluation_mode=True))
    reference = StepSearchModel(copy.deepcopy(policy.causal_lm), policy.tokenizer).requires_grad_(False)
    prepared = cast(StepSearchModel, accelerator.prepare_model(reference, evaluation_mode=True))
    return prepared.to(MAIN_MEMORY) if in_main_memory else prepared
