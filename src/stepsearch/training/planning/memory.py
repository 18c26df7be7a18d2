"""The memory of a device and the disk that a run needs, by part."""

from collections.abc import Mapping
from math import ceil

from stepsearch.config import Config
from stepsearch.models.model_shape import ModelShape
from stepsearch.models.output_head import PROJECTION_ELEMENTS
from stepsearch.models.rollout_copy import wants_copy
from stepsearch.training.planning import formulas
from stepsearch.training.planning.devices import CPU, GIBIBYTE
from stepsearch.training.planning.formulas import BFLOAT16, FLOAT32, LayerWidths, Precision
from stepsearch.training.planning.quantities import (
    Assumptions,
    Disk,
    EpisodeTokens,
    Parameters,
    compute_precision,
    episodes_of,
    weight_dtype,
)

HELD, ROLLOUT, UPDATE, OPTIMISER_STEP = "always", "rollout", "update", "optimiser step"
# What CUDA, its libraries and an allocator's gaps take besides tensors.
RUNTIME_BYTES = 1 * GIBIBYTE

Parts = Mapping[str, int]
"""Bytes by what they are for."""


def memory_parts(
    config: Config, shape: ModelShape, parameters: Parameters, longest: EpisodeTokens, assumed: Assumptions
) -> dict[str, Parts]:
    """Return the bytes that each phase needs on one device; `HELD` is there in all of them.

    Args:
        config: the run's settings.
        shape: of the policy.
        parameters: of its networks.
        longest: the longest episode: all slots hold one, and all micro-batches are made of such.
        assumed: the device.
    """
    phases = {
        HELD: _held(config, shape, parameters, assumed),
        ROLLOUT: _rollout(config, shape, parameters, longest, assumed),
        UPDATE: _update(config, shape, parameters, longest, assumed),
        OPTIMISER_STEP: _optimiser_step(config, parameters, assumed),
    }
    return {
        phase: {part: ceil(size) for part, size in parts.items() if size} for phase, parts in phases.items() if parts
    }


def disk_bytes(config: Config, shape: ModelShape, parameters: Parameters) -> Disk:
    """Return what a run writes: checkpoints, with one more while it is written, and the best model, twice meanwhile."""
    width = weight_dtype(config, shape).itemsize
    checkpoint = (parameters.policy_learns + parameters.critic_learns) * FLOAT32 * (1 + formulas.ADAM_STATES)
    reference = parameters.reference * width
    model = parameters.policy * width + parameters.adapter * FLOAT32
    most = (config.logging.keep_checkpoints + 1) * checkpoint + reference + 2 * model
    return Disk(checkpoint, reference, model, most)


def _held(config: Config, shape: ModelShape, parameters: Parameters, assumed: Assumptions) -> dict[str, float]:
    width = weight_dtype(config, shape).itemsize
    sizes = {
        "policy weights": parameters.policy * width + parameters.adapter * FLOAT32,
        "critic weights": parameters.critic * (FLOAT32 if parameters.adapter else width),
        # Read between rollout and update, a reference that is lent for that takes less than gradients do later.
        "reference weights": 0 if _is_offloaded(config, assumed, "reference") else parameters.reference * width,
        "optimiser states": 0
        if _is_offloaded(config, assumed, "optimizer")
        else formulas.ADAM_STATES * FLOAT32 * (parameters.policy_learns + parameters.critic_learns),
    }
    shared = {part: size / assumed.devices for part, size in sizes.items()}
    if assumed.device.name == CPU:
        return shared
    copied = BFLOAT16 * parameters.policy if _is_copied(config, assumed) else 0
    return {**shared, "copy to sample from": copied, "runtime": RUNTIME_BYTES}


def _is_copied(config: Config, assumed: Assumptions) -> bool:
    return wants_copy("cpu" if assumed.device.name == CPU else "cuda", config)


def _rollout(
    config: Config, shape: ModelShape, parameters: Parameters, longest: EpisodeTokens, assumed: Assumptions
) -> dict[str, float]:
    copied = _is_copied(config, assumed)
    width = BFLOAT16 if copied else weight_dtype(config, shape).itemsize
    slots = min(config.rollout.slots, ceil(episodes_of(config) / assumed.devices))
    per_token = formulas.key_value_bytes(shape.layers, shape.key_value_width, width)
    return {
        "keys and values": formulas.cache_bytes(slots, longest.total, per_token),
        "logits": formulas.logits_bytes(slots, shape.vocabulary, slots * shape.vocabulary),
        "copies of weights in bfloat16": 0 if copied else _cast_weights(config, shape, parameters),
        # To sample without a copy, a device gathers the whole policy.
        "policy weights of other devices": 0 if copied else parameters.policy * width * (1 - 1 / assumed.devices),
    }


def _update(
    config: Config, shape: ModelShape, parameters: Parameters, longest: EpisodeTokens, assumed: Assumptions
) -> dict[str, float]:
    settings = config.training
    tokens = max(settings.microbatch_tokens, longest.total)
    sampled = ceil(tokens * longest.sampled / longest.total)
    return {
        "gradients": _gradients(config, parameters, assumed),
        "activations": formulas.activation_bytes(
            tokens,
            shape.layers,
            _widths(config, shape),
            compute_precision(config, shape),
            checkpointing=settings.gradient_checkpointing,
        ),
        "logits": formulas.logits_bytes(sampled, shape.vocabulary, PROJECTION_ELEMENTS),
        "copies of weights in bfloat16": _cast_weights(config, shape, parameters) if assumed.devices == 1 else 0,
        "gathered layers": _gathered_layers(config, shape) if assumed.devices > 1 else 0,
    }


def _optimiser_step(config: Config, parameters: Parameters, assumed: Assumptions) -> dict[str, float]:
    """A phase of its own only where states are fetched for it."""
    if not _is_offloaded(config, assumed, "optimizer"):
        return {}
    largest = FLOAT32 * max(parameters.policy_learns, parameters.critic_learns) / assumed.devices
    return {
        "gradients": _gradients(config, parameters, assumed),
        "fetched optimiser states": formulas.ADAM_STATES * largest,
    }


def _is_offloaded(config: Config, assumed: Assumptions, part: str) -> bool:
    """Return whether a part is in main memory, which on a CPU is the same."""
    return config.training.offload in (part, "all") and assumed.device.name != CPU


def _gradients(config: Config, parameters: Parameters, assumed: Assumptions) -> float:
    """A critic of its own learns after the policy, whose gradients are gone by then, unless threads share the work."""
    learning = (parameters.policy_learns, parameters.critic_learns)
    together = config.training.critic == "shared" or (config.training.workers > 1 and assumed.device.name == CPU)
    return FLOAT32 * (sum(learning) if together else max(learning)) / assumed.devices


def _cast_weights(config: Config, shape: ModelShape, parameters: Parameters) -> int:
    """Autocast keeps a copy of every weight that learns while a pass, or a whole rollout, lasts."""
    is_cast = compute_precision(config, shape) is Precision.AUTOCAST and not parameters.adapter
    return BFLOAT16 * parameters.policy if is_cast else 0


def _gathered_layers(config: Config, shape: ModelShape) -> int:
    """One layer is whole on a device while it is computed, and the next one is on its way."""
    return 2 * ceil(shape.trunk_parameters / shape.layers) * weight_dtype(config, shape).itemsize


def _widths(config: Config, shape: ModelShape) -> LayerWidths:
    return LayerWidths(
        shape.hidden,
        shape.query_width,
        shape.key_value_width,
        shape.intermediate,
        config.lora.rank,
        shape.normed_queries,
    )
