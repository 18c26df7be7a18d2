"""The memory of a device and the disk that a run needs, by part."""

from collections.abc import Mapping
from math import ceil
from typing import Literal

from stepsearch.config import Config
from stepsearch.models.model_shape import ModelShape
from stepsearch.models.output_head import PROJECTION_ELEMENTS
from stepsearch.training.offload import is_offloaded
from stepsearch.training.planning import formulas
from stepsearch.training.planning.devices import CPU, GIBIBYTE
from stepsearch.training.planning.formulas import BFLOAT16, FLOAT32, LayerWidths, Precision
from stepsearch.training.planning.quantities import (
    Assumptions,
    Disk,
    EpisodeTokens,
    Parameters,
    compute_precision,
    sharers,
    weight_dtype,
    workers_of,
)
from stepsearch.training.planning.sampling import engine_memory

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
    engine = engine_memory(config, shape, parameters, longest, assumed)
    phases = {
        HELD: {**_held(config, shape, parameters, assumed), **engine.held},
        ROLLOUT: engine.rollout,
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
        "reference weights": 0 if _is_elsewhere(config, assumed, "reference") else parameters.reference * width,
        "optimiser states": 0
        if _is_elsewhere(config, assumed, "optimizer")
        else formulas.ADAM_STATES * FLOAT32 * (parameters.policy_learns + parameters.critic_learns),
    }
    shared = {part: size / sharers(config, assumed) for part, size in sizes.items()}
    return {**shared, "runtime": 0 if assumed.device.name == CPU else RUNTIME_BYTES}


def _update(
    config: Config, shape: ModelShape, parameters: Parameters, longest: EpisodeTokens, assumed: Assumptions
) -> dict[str, float]:
    settings, is_shared = config.training, sharers(config, assumed) > 1
    tokens = max(settings.microbatch_tokens, longest.total)
    sampled = ceil(tokens * longest.sampled / longest.total)
    return {
        "gradients": _gradients(config, parameters, assumed),
        "activations": formulas.activation_bytes(
            tokens,
            shape.layers,
            _widths(config, shape),
            compute_precision(config, shape),
            weight_dtype(config, shape).itemsize,
            checkpointing=settings.gradient_checkpointing,
        ),
        "logits": formulas.logits_bytes(sampled, shape.vocabulary, PROJECTION_ELEMENTS),
        "bfloat16 weights of autocast": 0 if is_shared else _cast_weights(config, shape, parameters),
        "gathered layers": _gathered_layers(config, shape) if is_shared else 0,
    }


def _optimiser_step(config: Config, parameters: Parameters, assumed: Assumptions) -> dict[str, float]:
    """A phase of its own only where states are fetched for it."""
    if not _is_elsewhere(config, assumed, "optimizer"):
        return {}
    largest = FLOAT32 * max(parameters.policy_learns, parameters.critic_learns) / sharers(config, assumed)
    return {
        "gradients": _gradients(config, parameters, assumed),
        "fetched optimiser states": formulas.ADAM_STATES * largest,
    }


def _is_elsewhere(config: Config, assumed: Assumptions, part: Literal["optimizer", "reference"]) -> bool:
    """Return whether a part is in main memory, which on a CPU is the same."""
    return is_offloaded(config.training, part) and assumed.device.name != CPU


def _gradients(config: Config, parameters: Parameters, assumed: Assumptions) -> float:
    """A critic of its own learns after the policy, whose gradients are gone by then, unless threads share the work."""
    learning = (parameters.policy_learns, parameters.critic_learns)
    together = config.training.critic == "shared" or workers_of(config, assumed) > 1
    return FLOAT32 * (sum(learning) if together else max(learning)) / sharers(config, assumed)


def _cast_weights(config: Config, shape: ModelShape, parameters: Parameters) -> int:
    """Autocast keeps a copy of every float32 weight that learns while a pass lasts."""
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
