"""What is trained and what it is held against: policy, critic and reference, as `accelerate` prepares them."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from stepsearch.config import Config
from stepsearch.errors import ConfigError, one_line
from stepsearch.models.adapters import CRITIC, add_adapters, using
from stepsearch.models.step_search_model import StepSearchModel, TokenScores
from stepsearch.models.value_model import ValueModel, new_value_head
from stepsearch.training.offload import MAIN_MEMORY, is_offloaded, keep_state_in_main_memory
from stepsearch.training.processes import join_processes
from stepsearch.training.schedules import warmup_factor
from stepsearch.training.sharding import shard

ADAM_BETAS = (0.9, 0.95)
# What a user's `accelerate config` may ask for, and would be on top of what `training.parallel` does.
_FOREIGN = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


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
        fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
        optimizer = AdamW(parameters, lr=peak_rate, betas=ADAM_BETAS, weight_decay=weight_decay, fused=fused)
        return cls(parameters, optimizer, peak_rate, warmup_ratio)

    def prepared(self, accelerator: Accelerator) -> "Learner":
        """Return the learner with its optimiser wrapped for the machine."""
        return replace(self, optimizer=accelerator.prepare(self.optimizer))

    def forget_gradients(self) -> None:
        """Drop the gradients of the parameters."""
        self.optimizer.zero_grad(set_to_none=True)

    def set_rate(self, step: int, total_steps: int, decay: float = 1.0) -> float:
        """Set and return the learning rate of `step`, from 0: what the warm-up leaves of the peak rate, x `decay`."""
        rate = self.peak_rate * warmup_factor(step, total_steps, self.warmup_ratio) * decay
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


def start_accelerator(mixed_precision: str, device: torch.device, with_idle_weights: bool = False) -> Accelerator:
    """Return an accelerator for that device, whatever an earlier run of this process had.

    Args:
        mixed_precision: accelerate's name of it.
        device: where the policy is.
        with_idle_weights: some losses leave weights that learn out; then several processes look which, in every pass.

    Raises:
        ConfigError: the device lacks that precision, or accelerate is configured to share networks out itself.
    """
    join_processes(device.type)
    ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True, find_unused_parameters=with_idle_weights)
    start = partial(Accelerator, mixed_precision=mixed_precision, cpu=device.type == "cpu", kwargs_handlers=[ddp])
    try:
        accelerator = start()
    except ValueError:
        # accelerate has one state per process, and refuses to change its precision or device.
        AcceleratorState._reset_state(reset_partial_state=True)  # pyright: ignore[reportPrivateUsage] - no public way
        try:
            accelerator = start()
        except ValueError as error:
            raise ConfigError(
                f"training.mixed_precision={mixed_precision} is not possible here: {one_line(error)}"
            ) from None
    if accelerator.distributed_type in _FOREIGN:
        raise ConfigError(
            f"accelerate is configured for {accelerator.distributed_type.value}: choose training.parallel=fsdp or ddp "
            "instead, and start with accelerate launch --multi_gpu, or with stepsearch train --num-processes"
        )
    return accelerator


def prepare_networks(policy: StepSearchModel, config: Config, accelerator: Accelerator) -> Networks:
    """Return policy and critic with their optimisers, on the machine; the critic's head is a function of the seed.

    Every process has whole copies of both, or a share of them, as `training.parallel` says.
    """
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
    prepare = partial(_prepare, accelerator=accelerator, is_sharded=is_sharded(config, accelerator))
    # Of adapters, only the one that is on counts as learning. What is sharded has other parameters afterwards, so that
    # learners come last; and the critic is sharded first, so that there are never three whole networks.
    with using(value_model and value_model.adapters, CRITIC):
        prepared_value_model = None if value_model is None else prepare(value_model)
    prepared_policy = prepare(policy)
    decay = settings.weight_decay
    policy_learner = Learner.of(policy.causal_lm, settings.learning_rate, settings.warmup_ratio, decay)
    critic_learner = None
    if critic is not None:
        with using(value_model and value_model.adapters, CRITIC):
            critic_learner = Learner.of(critic, settings.critic_learning_rate, settings.critic_warmup_ratio, decay)
    if is_offloaded(settings, "optimizer"):
        for learner in filter(None, (policy_learner, critic_learner)):
            keep_state_in_main_memory(learner.optimizer)
    return Networks(
        policy=prepared_policy,
        value_model=prepared_value_model,
        policy_learner=policy_learner.prepared(accelerator),
        critic_learner=None if critic_learner is None else critic_learner.prepared(accelerator),
    )


def is_sharded(config: Config, accelerator: Accelerator) -> bool:
    """Return whether every process keeps a share of the networks; one process has nobody to share them with."""
    return config.training.parallel == "fsdp" and accelerator.num_processes > 1


def _prepare(network: nn.Module, accelerator: Accelerator, is_sharded: bool) -> nn.Module:
    """Return a network that learns, ready for the machine and its processes."""
    if not is_sharded:
        return accelerator.prepare(network)
    shard(network, accelerator.device)
    # Of what accelerate does to a network, precision alone: it has no sharding on CPUs, and would wrap it for DDP.
    return accelerator.prepare_model(network, evaluation_mode=True)


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
    policy: StepSearchModel, config: Config, accelerator: Accelerator
) -> StepSearchModel | FrozenTrunk:
    """Return the policy as it is now, never to learn, and read in the same precision as the policy.

    One that `training.offload` keeps in main memory has to be lent to the accelerator before it is read.
    """
    if policy.adapters is not None:
        return cast(FrozenTrunk, accelerator.prepare_model(FrozenTrunk(policy), evaluation_mode=True))
    reference = StepSearchModel(copy.deepcopy(policy.causal_lm), policy.tokenizer).requires_grad_(False)
    if is_sharded(config, accelerator):
        shard(reference, accelerator.device)
    prepared = cast(StepSearchModel, accelerator.prepare_model(reference, evaluation_mode=True))
    return prepared.to(MAIN_MEMORY) if is_offloaded(config.training, "reference") else prepared
