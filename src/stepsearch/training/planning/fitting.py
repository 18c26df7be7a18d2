"""Whether a run fits a device, and what would make it fit."""

import math
from collections.abc import Sequence
from typing import Protocol

from stepsearch.config import IN_PROCESS, Config, overridden_keys
from stepsearch.errors import ConfigError
from stepsearch.training.planning.devices import in_words
from stepsearch.training.planning.plan import RunPlan
from stepsearch.training.planning.quantities import Assumptions, workers_of
from stepsearch.training.reading import reads_reference

_NAMED = 4
_MORE_DEVICES = (2, 4, 8, 16, 32, 64)


class Replan(Protocol):
    """Returns the plan of the same run with further overrides, on as many devices."""

    def __call__(self, overrides: Sequence[str], devices: int) -> RunPlan: ...


def memory_refusal(plan: RunPlan, config: Config, assumed: Assumptions, replan: Replan) -> str | None:
    """Return why a run does not fit its device, with the changes that make it fit; None where it fits."""
    room = assumed.device.memory_bytes
    if room is None or plan.peak_bytes <= room:
        return None
    mends = [
        f"{' '.join(overrides)} ({in_words(peak)})"
        for overrides, peak in _minimal(savings(config), room, assumed, replan)
    ][:_NAMED]
    shared = sharing(config, assumed)
    enough = (n for n in _MORE_DEVICES if shared and n >= assumed.devices and _peak(replan, shared, n) <= room)
    devices = next(enough, None)
    if devices is not None:
        mends.append(f"{' '.join(shared)} --devices {devices}")
    mend = f"it fits with {'; or with '.join(mends)}" if mends else "choose a smaller model.name or a larger --device"
    return (
        f"{in_words(plan.peak_bytes)} are needed during the {plan.peak_phase}, and {assumed.device.name} has "
        f"{in_words(room)}: {mend}"
    )


def _minimal(
    groups: Sequence[tuple[str, ...]], room: int, assumed: Assumptions, replan: Replan
) -> list[tuple[tuple[str, ...], float]]:
    """Return the groups that make the run fit with their peaks, without those that do more than one before them."""
    fitting: list[tuple[tuple[str, ...], float]] = []
    for group in groups:
        if any(set(less) <= set(group) or overridden_keys(less) == overridden_keys(group) for less, _ in fitting):
            continue
        peak = _peak(replan, group, assumed.devices)
        if peak <= room:
            fitting.append((group, peak))
    return fitting


def _peak(replan: Replan, overrides: Sequence[str], devices: int) -> float:
    """Return what a device would need; infinity where the change cannot be combined with the other settings."""
    try:
        return replan(overrides, devices).peak_bytes
    except ConfigError:
        return math.inf


def savings(config: Config) -> list[tuple[str, ...]]:
    """Return groups of overrides that need less memory, those that change least of what is computed first."""
    settings, length = config.training, config.model.max_length
    slots = [(f"rollout.slots={config.rollout.slots // part}",) for part in (2, 4) if config.rollout.slots >= 8 * part]
    shorter = (f"training.microbatch_tokens={length}",) if settings.microbatch_tokens > length else ()
    again = () if settings.gradient_checkpointing else ("training.gradient_checkpointing=true",)
    without = ("training.kl_mode=none",) if reads_reference(settings) and not config.lora.rank else ()
    may_offload = settings.offload == "none" and settings.parallel != "fsdp" and not config.lora.rank
    offloaded = ("training.offload=all",) if may_offload else ()
    groups = [*slots, *_of_vllm(config), shorter, again, (*again, *shorter), offloaded, without]
    if not config.lora.rank:
        adapters = ("lora.rank=32", "model.dtype=bfloat16", *_whole(config))
        groups += [adapters, (*adapters, *again, *shorter)]
    return [group for group in dict.fromkeys(groups) if group]


def sharing(config: Config, assumed: Assumptions) -> tuple[str, ...]:
    """Return the overrides with which further devices take a share of the weights; none with adapters.

    With adapters every device has the whole trunk.
    """
    if config.lora.rank:
        return ()
    whole = ("training.offload=none",) if config.training.offload != "none" else ()
    engine = () if config.rollout.engine == IN_PROCESS else (f"rollout.engine={IN_PROCESS}",)
    workers = ("training.workers=1",) if workers_of(config, assumed) > 1 else ()
    return ("training.parallel=fsdp", *whole, *engine, *workers)


def _of_vllm(config: Config) -> list[tuple[str, ...]]:
    """Return what lets vLLM take less of the device, or another engine none of it."""
    if config.rollout.engine != "vllm":
        return []
    sleep = () if config.vllm.sleep else ("vllm.sleep=true",)
    smaller = (f"vllm.gpu_memory_utilization={config.vllm.gpu_memory_utilization / 2:.2g}",)
    return [sleep, smaller, (f"rollout.engine={IN_PROCESS}",)]


def _whole(config: Config) -> tuple[str, ...]:
    """Return what adapters need to be otherwise: one trunk, whole and on the device."""
    parallel = ("training.parallel=ddp",) if config.training.parallel != "ddp" else ()
    offload = ("training.offload=none",) if config.training.offload in ("reference", "all") else ()
    return (*parallel, *offload)
