"""Whether a run fits a device, and what would make it fit."""

import math
from bisect import bisect_left
from collections.abc import Generator, Sequence
from functools import partial
from typing import Protocol

from stepsearch.config import IN_PROCESS, Config, overridden_keys
from stepsearch.errors import ConfigError
from stepsearch.training.planning.devices import CPU, in_words
from stepsearch.training.planning.plan import RunPlan
from stepsearch.training.planning.quantities import Assumptions
from stepsearch.training.reading import reads_reference

_NAMED = 4
_MOST_DEVICES = 64
# What offered values are multiples of.
_SLOTS, _TOKENS, _SHARE = 4, 128, 0.05

Ladder = Sequence[tuple[str, ...]]
"""Groups of overrides of the same keys; each needs less memory than the one before."""


class Replan(Protocol):
    """Returns the plan of the same run with further overrides, on as many devices."""

    def __call__(self, overrides: Sequence[str], devices: int) -> RunPlan: ...


def memory_refusal(plan: RunPlan, config: Config, assumed: Assumptions, replan: Replan) -> str | None:
    """Return why a run does not fit its device, with the changes that make it fit; None where it fits."""
    room = assumed.device.memory_bytes
    if room is None or plan.peak_bytes <= room:
        return None
    mends = [
        f"{' '.join(overrides)} ({in_words(peak)})" for overrides, peak in _offered(config, room, assumed, replan)
    ][:_NAMED]
    shared = sharing(config, assumed)
    more = range(max(2, assumed.devices), _MOST_DEVICES + 1) if shared else ()
    enough = _least([(shared, devices) for devices in more], room, replan)
    if enough is not None:
        mends.append(f"{' '.join(shared)} --devices {enough[1]}")
    mend = f"it fits with {'; or with '.join(mends)}" if mends else "choose a smaller model.name or a larger --device"
    return (
        f"{in_words(plan.peak_bytes)} are needed during the {plan.peak_phase}, and {assumed.device.name} has "
        f"{in_words(room)}: {mend}"
    )


def _offered(
    config: Config, room: int, assumed: Assumptions, replan: Replan
) -> Generator[tuple[tuple[str, ...], float]]:
    """Yield what makes the run fit with its peak: the least of each ladder, and none that does more than one before."""
    offered: list[frozenset[str]] = []
    for ladder in savings(config):
        keys = overridden_keys(ladder[0])
        if any(less <= keys for less in offered):
            continue
        least = _least([(overrides, assumed.devices) for overrides in ladder], room, replan)
        if least is not None:
            offered.append(keys)
            yield least[0], _peak(replan, *least)


def _least(
    changes: Sequence[tuple[tuple[str, ...], int]], room: int, replan: Replan
) -> tuple[tuple[str, ...], int] | None:
    """Return the first of ever larger changes, overrides and devices, with which the run fits; None where none does."""
    peaks = [partial(_peak, replan, *change) for change in changes]
    # One that cannot be combined with the other settings, such as a share that vLLM's weights fill, goes too far.
    first = bisect_left(peaks, True, key=lambda peak: not room < peak() < math.inf)
    return changes[first] if first < len(changes) and peaks[first]() <= room else None


def _peak(replan: Replan, overrides: Sequence[str], devices: int) -> float:
    """Return what a device would need; infinity where the change cannot be combined with the other settings."""
    try:
        return replan(overrides, devices).peak_bytes
    except ConfigError:
        return math.inf


def savings(config: Config) -> list[Ladder]:
    """Return overrides that need less memory, those that change least of what is computed first."""
    settings, length = config.training, config.model.max_length
    slots = [(f"rollout.slots={slots}",) for slots in _below(config.rollout.slots, _SLOTS, 2 * _SLOTS)]
    shorter = [(f"training.microbatch_tokens={n}",) for n in _below(settings.microbatch_tokens, _TOKENS, length)]
    again = () if settings.gradient_checkpointing else ("training.gradient_checkpointing=true",)
    both = [(*again, *fewer) for fewer in shorter]
    without = ("training.kl_mode=none",) if reads_reference(settings) and not config.lora.rank else ()
    may_offload = settings.offload == "none" and settings.parallel != "fsdp" and not config.lora.rank
    offloaded = ("training.offload=all",) if may_offload else ()
    ladders: list[Ladder] = [slots, *_of_vllm(config), shorter, [again], both, [offloaded], [without]]
    if not config.lora.rank:
        adapters = ("lora.rank=32", "model.dtype=bfloat16", *_whole(config))
        ladders += [[adapters], [(*adapters, *again)], [(*adapters, *fewer) for fewer in both]]
    return [ladder for ladder in ladders if ladder and ladder[0]]


def _below(value: int, step: int, least: int) -> list[int]:
    """Return the multiples of a step below a value, in descending order, down to the least, which is the last."""
    if value <= least:
        return []
    return [*range((value - 1) // step * step, least, -step), least]


def sharing(config: Config, assumed: Assumptions) -> tuple[str, ...]:
    """Return the overrides with which further devices take a share of the weights; none with adapters or on a CPU.

    With adapters every device has the whole trunk, and processes on a CPU have one memory.
    """
    if config.lora.rank or assumed.device.name == CPU:
        return ()
    whole = ("training.offload=none",) if config.training.offload != "none" else ()
    engine = () if config.rollout.engine == IN_PROCESS else (f"rollout.engine={IN_PROCESS}",)
    return ("training.parallel=fsdp", *whole, *engine)


def _of_vllm(config: Config) -> list[Ladder]:
    """Return what lets vLLM take less of the device, or another engine none of it."""
    if config.rollout.engine != "vllm":
        return []
    sleep = () if config.vllm.sleep else ("vllm.sleep=true",)
    steps = math.ceil(config.vllm.gpu_memory_utilization / _SHARE - 1e-9)
    smaller = [(f"vllm.gpu_memory_utilization={step * _SHARE:.2g}",) for step in range(steps - 1, 0, -1)]
    return [[sleep], smaller, [(f"rollout.engine={IN_PROCESS}",)]]


def _whole(config: Config) -> tuple[str, ...]:
    """Return what adapters need to be otherwise: one trunk, whole and on the device."""
    parallel = ("training.parallel=ddp",) if config.training.parallel != "ddp" else ()
    offload = ("training.offload=none",) if config.training.offload in ("reference", "all") else ()
    return (*parallel, *offload)
