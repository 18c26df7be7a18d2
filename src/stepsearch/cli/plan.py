"""`stepsearch plan`: what a run needs before it starts."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedConfig

from stepsearch.cli.assembly import TINY
from stepsearch.cli.plan_tables import plan_tables
from stepsearch.cli.players import use_threads
from stepsearch.cli.progress import open_console, say
from stepsearch.config import Config, LoraSettings, ModelSettings, load_config
from stepsearch.data import read_questions
from stepsearch.errors import ConfigError
from stepsearch.models.model_shape import PUBLISHED, ModelShape, adapter_parameters, find_config, shape_of_config
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tiny import tiny_config
from stepsearch.models.untrained import untrained_policy
from stepsearch.training.planning.devices import CPU, DEVICES, GIBIBYTE, GIGABYTE, Device, machine_memory
from stepsearch.training.planning.fitting import memory_refusal
from stepsearch.training.planning.measurement import Measurement, measure_step, trial_notes
from stepsearch.training.planning.notes import missing_notes, time_notes
from stepsearch.training.planning.plan import RunPlan, plan_run
from stepsearch.training.planning.quantities import Assumptions

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def run(args: argparse.Namespace) -> None:
    """Print what a run needs, as tables or as JSON.

    Raises:
        ConfigError: the settings exclude each other, or the run does not fit the device.
        DataError: the questions cannot be read.
        ModelError: the model's dimensions cannot be found, or, to measure, it cannot be loaded.
    """
    config = load_config(args.config, args.overrides)
    hf_config, source = _find_config(config.model)
    shape, assumed = shape_of_config(hf_config, source), assumptions(args, config)
    questions = len(read_questions(args.musique_path)) if args.musique_path else None

    @cache
    def adapter(rank: int, target_modules: str | tuple[str, ...]) -> int:
        return adapter_parameters(hf_config, LoraSettings(rank=rank, target_modules=target_modules))

    def plan(overrides: Sequence[str], devices: int) -> RunPlan:
        changed = load_config(args.config, [*args.overrides, *overrides])
        lora, on = changed.lora, replace(assumed, devices=devices)
        return plan_run(changed, shape, on, adapter=adapter(lora.rank, lora.target_modules), questions=questions)

    planned, measured = plan((), assumed.devices), None
    if args.measure:
        use_threads(config)
        policy = _policy_to_measure(config, hf_config, source)
        measured = measure_step(policy, config, planned.expected)
        planned = replace(planned, seconds=measured.seconds, notes=[*planned.notes, *trial_notes(config)])
    of_time = time_notes(config, planned.hours, measured=measured is not None, warm_start=config.model.name == TINY)
    planned = replace(planned, notes=[*planned.notes, *of_time, *missing_notes(config)])
    refusal = memory_refusal(planned, config, assumed, plan)
    if args.json:
        print(json.dumps(to_json(config, shape, planned, assumed, measured, refusal), indent=2))
    else:
        show(open_console(), config, shape, planned, assumed, measured)
    if refusal:
        raise ConfigError(refusal)


def assumptions(args: argparse.Namespace, config: Config) -> Assumptions:
    """Return what the flags say, with defaults for the rest."""
    device = DEVICES[args.device] if args.device else _default_device(config, args.measure)
    memory = machine_memory() if device.name == CPU else None
    if memory is not None:
        device = replace(device, memory_bytes=memory // args.devices)
    if args.memory_gib is not None:
        device = replace(device, memory_bytes=round(args.memory_gib * GIBIBYTE))
    if args.teraflops is not None:
        device = replace(device, bfloat16_flops=args.teraflops * 1e12, float32_flops=args.teraflops * 1e12)
    if args.gigabytes_per_second is not None:
        device = replace(device, bandwidth=args.gigabytes_per_second * GIGABYTE)
    return Assumptions(
        device=device,
        devices=args.devices,
        efficiency=args.efficiency,
        layer_seconds=args.layer_milliseconds / 1000,
        prompt_tokens=args.prompt_tokens,
        searches=args.searches,
        turn_tokens=args.turn_tokens,
    )


def _default_device(config: Config, measure: bool) -> Device:
    """Return what is measured on, else a core for the tiny policy and an H100 for all others."""
    if measure and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        return replace(DEVICES["h100"], name=properties.name, memory_bytes=properties.total_memory)
    return DEVICES[CPU if measure or config.model.name == TINY else "h100"]


def _find_config(settings: ModelSettings) -> tuple[PreTrainedConfig, str]:
    """Return the policy's configuration, and where it is from."""
    if settings.name == TINY:
        return tiny_config(settings.tiny_width, settings.tiny_layers), "built in"
    return find_config(settings.name)


def _policy_to_measure(config: Config, hf_config: PreTrainedConfig, source: str) -> StepSearchModel:
    """Return the policy where its weights are there, else one of its shape with random weights."""
    if config.model.name == TINY:
        return untrained_policy(hf_config, config.model)
    folder = Path(config.model.name).expanduser()
    has_weights = any(any(folder.glob(pattern)) for pattern in WEIGHTS) if folder.is_dir() else source != PUBLISHED
    return StepSearchModel.load(config.model) if has_weights else untrained_policy(hf_config, config.model)


def show(
    console: Console,
    config: Config,
    shape: ModelShape,
    plan: RunPlan,
    assumed: Assumptions,
    measured: Measurement | None,
) -> None:
    """Print a plan for people."""
    for title, table in plan_tables(config, shape, plan, assumed, measured):
        say(console, title, style="bold")
        console.print(table)
    for line in plan.notes:
        say(console, f"note: {line}")


def to_json(
    config: Config,
    shape: ModelShape,
    plan: RunPlan,
    assumed: Assumptions,
    measured: Measurement | None,
    refusal: str | None,
) -> dict[str, Any]:
    """Return a plan as plain JSON values; bytes, seconds and tokens are numbers without a unit's name."""
    seconds = asdict(plan.seconds) | {"step": plan.seconds.step}
    return {
        "model": {"name": config.model.name, **asdict(shape), "dtype": str(shape.dtype).removeprefix("torch.")},
        "parameters": asdict(plan.parameters),
        "episodes": plan.episodes,
        "tokens": {
            name: asdict(tokens) | {"total": tokens.total, "step": tokens.total * plan.episodes}
            for name, tokens in (("expected", plan.expected), ("longest", plan.longest))
        },
        "memory": {phase: dict(parts) for phase, parts in plan.memory.items()},
        "peak": {"phase": plan.peak_phase, "bytes": plan.peak_bytes},
        "seconds": seconds,
        "steps": plan.steps,
        "hours": plan.hours,
        "disk": asdict(plan.disk),
        "assumed": asdict(assumed),
        "measured": None if measured is None else asdict(measured),
        "notes": list(plan.notes),
        "refusal": refusal,
    }
