"""The seconds that a step takes, by assumptions on the device."""

from math import ceil

from stepsearch.config import Config
from stepsearch.models.model_shape import ModelShape
from stepsearch.training.planning import formulas
from stepsearch.training.planning.quantities import (
    Assumptions,
    EpisodeTokens,
    Parameters,
    Seconds,
    compute_precision,
    episodes_of,
    sampled_bytes,
    sharers,
)
from stepsearch.training.reading import reads_policy, reads_reference


def step_seconds(
    config: Config, shape: ModelShape, parameters: Parameters, expected: EpisodeTokens, assumed: Assumptions
) -> Seconds:
    """Return how long a step takes as assumed; devices share it evenly, and what they exchange is not counted."""
    settings, precision = config.training, compute_precision(config, shape)
    speed = assumed.efficiency * assumed.device.flops(precision)
    bandwidth = assumed.efficiency * assumed.device.bandwidth
    episodes = episodes_of(config) / assumed.devices
    body = formulas.forward_flops(shape.read_parameters, shape.layers, shape.query_width, expected.total)
    head = formulas.head_flops(expected.sampled, shape.hidden, shape.vocabulary)
    rollout = _rollout_seconds(config, shape, expected, assumed, episodes)
    critic_body = body if settings.critic == "separate" else 0
    readers = (body + head) * (reads_policy(settings, config.rollout.engine) + reads_reference(settings)) + critic_body
    factor = formulas.learning_factor(checkpointing=settings.gradient_checkpointing)
    learned = settings.update_epochs * factor * (body + head + critic_body)
    minibatches = ceil(episodes * assumed.devices / (settings.minibatch_size or episodes * assumed.devices))
    moved = formulas.OPTIMISER_BYTES * (parameters.policy_learns + parameters.critic_learns) / sharers(config, assumed)
    dev = config.evaluation.dev_questions / assumed.devices
    return Seconds(
        rollout=rollout,
        reading=episodes * readers / speed,
        update=episodes * learned / speed + settings.update_epochs * minibatches * moved / bandwidth,
        evaluation=_rollout_seconds(config, shape, expected, assumed, dev) / config.evaluation.every_steps,
    )


def _rollout_seconds(
    config: Config, shape: ModelShape, expected: EpisodeTokens, assumed: Assumptions, episodes: float
) -> float:
    precision = compute_precision(config, shape)
    rows = min(config.rollout.slots, max(1, round(episodes)))
    body = formulas.forward_flops(shape.read_parameters, shape.layers, shape.query_width, 1)
    flops_per_second = assumed.efficiency * assumed.device.flops(precision)
    number = sampled_bytes(config, shape, assumed)
    token_bytes = formulas.key_value_bytes(shape.layers, shape.key_value_width, number)
    one_pass = formulas.decode_seconds(
        rows,
        expected.total / 2,
        number * (shape.read_parameters + shape.hidden * shape.vocabulary),
        token_bytes,
        body + formulas.head_flops(1, shape.hidden, shape.vocabulary),
        bandwidth=assumed.efficiency * assumed.device.bandwidth,
        flops_per_second=flops_per_second,
        overhead=assumed.layer_seconds * shape.layers,
    )
    read = formulas.forward_flops(
        shape.read_parameters, shape.layers, shape.query_width, expected.prompt + expected.observed
    )
    return episodes * (expected.sampled * one_pass / rows + read / flops_per_second)
