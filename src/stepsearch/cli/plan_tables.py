"""A plan for people: tables, each with its title."""

from collections.abc import Mapping

from rich.table import Table

from stepsearch.config import Config
from stepsearch.models.model_shape import ModelShape
from stepsearch.training.planning.devices import in_words
from stepsearch.training.planning.measurement import Measurement
from stepsearch.training.planning.memory import HELD
from stepsearch.training.planning.plan import RunPlan
from stepsearch.training.planning.quantities import Assumptions, compute_precision, sharers

Titled = tuple[str, Table]


def plan_tables(
    config: Config, shape: ModelShape, plan: RunPlan, assumed: Assumptions, measured: Measurement | None
) -> list[Titled]:
    """Return what is computed, and memory, time and disk with what they are made of."""
    return [
        _what(config, shape, plan),
        _memory(config, plan, assumed, measured),
        _time(config, plan, assumed, measured),
        _disk(config, plan),
    ]


def _what(config: Config, shape: ModelShape, plan: RunPlan) -> Titled:
    parameters, expected, longest = plan.parameters, plan.expected, plan.longest
    no_copy = "the trunk with adapters off" if parameters.adapter and config.training.kl_mode != "none" else "none"
    rows = {
        "policy": _parameters(parameters.policy),
        "adapters": f"{_parameters(parameters.adapter)} each" if parameters.adapter else "none",
        "critic": f"{_parameters(parameters.critic)} ({config.training.critic})" if parameters.critic else "none",
        "reference": _parameters(parameters.reference) if parameters.reference else no_copy,
        "parameters that learn": _parameters(parameters.policy_learns + parameters.critic_learns),
        "computed in": str(compute_precision(config, shape)),
        "episodes a step": f"{plan.episodes:,}",
        "tokens of an episode, as assumed": f"{expected.total:,}: prompt {expected.prompt:,}, sampled "
        f"{expected.sampled:,}, found {expected.observed:,}",
        "tokens of an episode, at most": f"{longest.total:,} (model.max_length {config.model.max_length:,})",
        "tokens a step, as assumed": f"{expected.total * plan.episodes:,}",
        "tokens a step, at most": f"{longest.total * plan.episodes:,}",
    }
    title = f"{config.model.name}: {shape.kind}, {shape.layers} layers of {shape.hidden} ({shape.source})"
    return title, _table(rows)


def _memory(config: Config, plan: RunPlan, assumed: Assumptions, measured: Measurement | None) -> Titled:
    rows: dict[str, str] = {}
    for phase, parts in plan.memory.items():
        for part, size in sorted(parts.items(), key=lambda item: -item[1]):
            rows[f"{phase}: {part}"] = in_words(size)
        if phase != HELD:
            rows[f"{phase}, with what is always there"] = in_words(plan.phase_bytes(phase))
    room = assumed.device.memory_bytes
    rows["most"] = f"{in_words(plan.peak_bytes)} ({plan.peak_phase})"
    rows[f"{assumed.device.name} has"] = "not known" if room is None else in_words(room)
    if measured is not None and measured.update_bytes is not None and measured.rollout_bytes is not None:
        rows["measured while sampling"] = in_words(measured.rollout_bytes)
        rows["measured while learning"] = in_words(measured.update_bytes)
    how = "which share all weights" if sharers(config, assumed) > 1 else "with all weights on each"
    where = "" if assumed.devices == 1 else f" on each of {assumed.devices} devices, {how}"
    return f"Memory{where}, with all slots and micro-batches full of the longest episodes", _table(rows)


def _time(config: Config, plan: RunPlan, assumed: Assumptions, measured: Measurement | None) -> Titled:
    seconds = plan.seconds
    rows = {
        "rollout": _seconds(seconds.rollout),
        "reading": _seconds(seconds.reading),
        "update": _seconds(seconds.update),
        f"evaluation, every {config.evaluation.every_steps} steps": _seconds(seconds.evaluation),
        "a step": _seconds(seconds.step),
        "steps": "not known: name the questions by --musique-path" if plan.steps is None else f"{plan.steps:,}",
    }
    if plan.hours is not None:
        rows["the run"] = f"{plan.hours:,.2f} h"
        if assumed.devices > 1:
            rows["device-hours"] = f"{plan.hours * assumed.devices:,.1f} h"
    return _basis(assumed, measured), _table(rows)


def _basis(assumed: Assumptions, measured: Measurement | None) -> str:
    """Return what the times come from."""
    if measured is not None:
        return (
            f"Time, scaled from a trial here: {measured.episodes} episodes sampled at once, "
            f"{measured.update_episodes} learned from"
        )
    device = assumed.device
    return (
        f"Time on {assumed.devices} x {device.name}, assumed: {assumed.efficiency:.0%} of "
        f"{device.bfloat16_flops / 1e12:g} TFLOP/s in bfloat16 ({device.float32_flops / 1e12:g} in float32) and of "
        f"{device.bandwidth / 1e9:g} GB/s, {1000 * assumed.layer_seconds:g} ms a layer and pass at least; searches "
        "are not counted"
    )


def _disk(config: Config, plan: RunPlan) -> Titled:
    disk = plan.disk
    rows = {
        "a checkpoint": in_words(disk.checkpoint),
        "reference": in_words(disk.reference),
        "best model": in_words(disk.model),
        f"most, with {config.logging.keep_checkpoints} checkpoints kept": in_words(disk.most),
    }
    return "Disk", _table(rows)


def _table(rows: Mapping[str, str]) -> Table:
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(name, value, style="bold" if name in ("most", "a step", "the run") else "")
    return table


def _parameters(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"


def _seconds(value: float) -> str:
    return f"{value:,.1f} s" if value < 100 else f"{value:,.0f} s"
