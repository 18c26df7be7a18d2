"""What samples tokens, by `rollout.engine`."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import NamedTuple, TypedDict

import torch

from stepsearch.config import IN_PROCESS, Config
from stepsearch.errors import ConfigError
from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.rollout_copy import RolloutCopy, wants_copy
from stepsearch.models.row_attention import HALF_PRECISION
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.trunk import usable_workers
from stepsearch.models.vllm_engine import VLLMEngine
from stepsearch.models.vllm_server_engine import VLLMServerEngine
from stepsearch.rollout.generation import GenerationEngine


class Engines(NamedTuple):
    """What samples from a policy: engines that may run side by side.

    Attributes:
        engines: one or several.
        sync: gives them the policy's weights as they are now, before episodes begin; None where they see to it.
    """

    engines: Sequence[GenerationEngine]
    sync: Callable[[], None] | None = None


BuildEngines = Callable[[StepSearchModel, Config, bool], Engines]


def build_engines(policy: StepSearchModel, config: Config, learns: bool) -> Engines:
    """Return what samples from a policy.

    Args:
        policy: whose tokens are sampled.
        config: which engine, how many slots and workers.
        learns: whether the policy's weights change while the engines live.

    Raises:
        ConfigError: the engine cannot be had.
        ModelError: the engine cannot sample from this policy.
    """
    check_engine(config.rollout.engine)
    return ENGINES[config.rollout.engine](policy, config, learns)


def check_engine(name: str) -> None:
    """Refuse an engine that cannot be had.

    Raises:
        ConfigError: it is not installed.
    """
    if name == "vllm" and find_spec("vllm") is None:
        raise ConfigError(
            "rollout.engine=vllm needs vLLM in this environment: docs/engines.md says which version, or set "
            "rollout.engine=in_process"
        )


def _in_process(policy: StepSearchModel, config: Config, learns: bool) -> Engines:
    """Return one engine per worker over the policy's own weights, or over one copy of them that is faster to sample."""
    device = policy.causal_lm.device
    workers = usable_workers(config.training, device)
    # Weights that learn may have an adapter beside them, which a copy has not.
    is_fast_already = not learns and policy.causal_lm.dtype in HALF_PRECISION
    copied = RolloutCopy(policy) if wants_copy(device.type, config) and not is_fast_already else None
    causal_lm = policy.causal_lm if copied is None else copied.causal_lm
    slots, max_length = -(-config.rollout.slots // workers), config.model.max_length
    engines = [InProcessEngine(causal_lm, policy.tokenizer, slots=slots, max_length=max_length) for _ in range(workers)]
    return Engines(engines, None if copied is None else copied.sync)


def _vllm(policy: StepSearchModel, config: Config, learns: bool) -> Engines:
    return Engines([VLLMEngine(policy, config.vllm, **_copied(policy, config, learns))])


def _vllm_server(policy: StepSearchModel, config: Config, learns: bool) -> Engines:
    return Engines([VLLMServerEngine(policy, config.vllm, **_copied(policy, config, learns))])


class _Copied(TypedDict):
    """What engines with weights of their own are told."""

    slots: int
    max_length: int
    learns: bool
    dtype: torch.dtype


def _copied(policy: StepSearchModel, config: Config, learns: bool) -> _Copied:
    """Under mixed precision an engine computes in 16 bits, as the policy does."""
    mixed = config.training.mixed_precision == "bf16"
    return {
        "slots": config.rollout.slots,
        "max_length": config.model.max_length,
        "learns": learns,
        "dtype": torch.bfloat16 if mixed else policy.causal_lm.dtype,
    }


ENGINES: Mapping[str, BuildEngines] = {IN_PROCESS: _in_process, "vllm": _vllm, "vllm_server": _vllm_server}
