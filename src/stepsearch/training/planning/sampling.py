"""The memory that the engine takes, whatever samples: our own, vLLM beside it, or a server elsewhere."""

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

from stepsearch.config import IN_PROCESS, Config
from stepsearch.errors import ConfigError
from stepsearch.models.kv_pools import capacity_class
from stepsearch.models.model_shape import ModelShape
from stepsearch.training.planning import formulas
from stepsearch.training.planning.devices import CPU, GIBIBYTE, in_words
from stepsearch.training.planning.formulas import BFLOAT16
from stepsearch.training.planning.quantities import (
    Assumptions,
    EpisodeTokens,
    Parameters,
    episodes_of,
    sampled_bytes,
    samples_from_copy,
    sharers,
    weight_dtype,
)

_VLLM = "vllm"
# What vLLM takes on a CPU for keys and values unless it is told.
_CPU_CACHE_GIB = 1.0


class EngineMemory(NamedTuple):
    """Bytes on a device by part: what an engine always holds, and what it holds while it samples."""

    held: Mapping[str, float]
    rollout: Mapping[str, float]


def engine_memory(
    config: Config, shape: ModelShape, parameters: Parameters, longest: EpisodeTokens, assumed: Assumptions
) -> EngineMemory:
    """Return the bytes that `rollout.engine` takes on one device; a server takes none of them.

    Args:
        config: the run's settings.
        shape: of the policy.
        parameters: of its networks.
        longest: the longest episode: all slots hold one.
        assumed: the device.
    """
    if config.rollout.engine == IN_PROCESS:
        return _in_process(config, shape, parameters, longest, assumed)
    if config.rollout.engine == _VLLM:
        taken = _vllm(config, shape, parameters, assumed)
        sleeps = config.vllm.sleep and assumed.device.name != CPU
        return EngineMemory({}, taken) if sleeps else EngineMemory(taken, {})
    return EngineMemory({}, {})


def check_vllm_share(config: Config, shape: ModelShape, parameters: Parameters, assumed: Assumptions) -> None:
    """Refuse a share of the device for vLLM that its weights alone fill.

    Raises:
        ConfigError: names the key to change.
    """
    share, room = config.vllm.gpu_memory_utilization, _share_bytes(config, assumed)
    weights = parameters.policy * sampled_bytes(config, shape, assumed)
    if config.rollout.engine == _VLLM and room is not None and room <= weights:
        raise ConfigError(
            f"vllm.gpu_memory_utilization={share:g} is {in_words(room)} of {assumed.device.name}, and vLLM's weights "
            f"are {in_words(weights)}: raise it, or set rollout.engine={IN_PROCESS}"
        )


def _in_process(
    config: Config, shape: ModelShape, parameters: Parameters, longest: EpisodeTokens, assumed: Assumptions
) -> EngineMemory:
    slots, has_copy, on_cpu = config.rollout.slots, samples_from_copy(config, assumed), assumed.device.name == CPU
    number = sampled_bytes(config, shape, assumed)
    per_token = formulas.key_value_bytes(shape.layers, shape.key_value_width, number)
    # On an accelerator every slot has a row of full length from the start.
    row = capacity_class(longest.total) if on_cpu else config.model.max_length
    episodes = ceil(episodes_of(config) / assumed.devices)
    share = 1 / sharers(config, assumed)
    width = weight_dtype(config, shape).itemsize
    return EngineMemory(
        held={"copy to sample from": BFLOAT16 * parameters.policy if has_copy else 0},
        rollout={
            "keys and values": (min(slots, episodes) if on_cpu else slots) * row * per_token,
            "logits": formulas.logits_bytes(slots, shape.vocabulary, slots * shape.vocabulary),
            # Without a copy, a device gathers the whole policy to sample.
            "policy weights of other devices": 0 if has_copy else parameters.policy * width * (1 - share),
        },
    )


def _vllm(config: Config, shape: ModelShape, parameters: Parameters, assumed: Assumptions) -> dict[str, float]:
    """Return its share of the device, or, where its cache has a size of its own, weights and cache."""
    share = _share_bytes(config, assumed)
    if share is not None:
        return {"vLLM's share": share}
    return {
        "vLLM's weights": parameters.policy * sampled_bytes(config, shape, assumed),
        "vLLM's keys and values": (config.vllm.cache_gib or _CPU_CACHE_GIB) * GIBIBYTE,
    }


def _share_bytes(config: Config, assumed: Assumptions) -> float | None:
    """Return what vLLM fills of a device; None where it doesn't, on a CPU and with a cache of a set size."""
    device = assumed.device
    if device.name == CPU or device.memory_bytes is None or config.vllm.cache_gib is not None:
        return None
    return config.vllm.gpu_memory_utilization * device.memory_bytes
