"""Whether a run fits a device, and what would make it fit."""

from collections.abc import Sequence
from typing import Protocol

from stepsearch.config import Config
from stepsearch.training.planning.devices import GIBIBYTE
from stepsearch.training.planning.plan import RunPlan
from stepsearch.training.planning.quantities import Assumptions
from stepsearch.training.reading import reads_reference

_NAMED = 4
_SHARED = "training.parallel=fsdp"
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
        for overrides in savings(config)
        if (peak := replan(overrides, assumed.devices).peak_bytes) <= room
    ][:_NAMED]
    # With adapters every device has the whole trunk.
    shared = () if config.lora.rank else (_SHARED,)
    devices = (n for n in _MORE_DEVICES if shared and n >= assumed.devices and replan(shared, n).peak_bytes <= room)
    enough = next(devices, None)
    if enough is not None:
        mends.append(f"{_SHARED} --devices {enough}")
    mend = f"it fits with {'; or with '.join(mends)}" if mends else "choose a smaller model.name or a larger --device"
    return (
        f"{in_words(plan.peak_bytes)} are needed during the {plan.peak_phase}, and {assumed.device.name} has "
        f"{in_words(room)}: {mend}"
    )


def savings(config: Config) -> list[tuple[str, ...]]:
    """Return groups of overrides that need less memory, those that change least of what is computed first."""
    settings, length = config.training, config.model.max_length
    slots = [(f"rollout.slots={config.rollout.slots // part}",) for part in (2, 4) if config.rollout.slots >= 8 * part]
    shorter = (f"training.microbatch_tokens={length}",) if settings.microbatch_tokens > length else ()
    again = () if settings.gradient_checkpointing else ("training.gradient_checkpointing=true",)
    without = ("training.kl_mode=none",) if reads_reference(settings) and not config.lora.rank else ()
    adapters = ("lora.rank=32", "model.dtype=bfloat16", "training.parallel=ddp", "training.offload=none")
    may_offload = settings.offload == "none" and settings.parallel != "fsdp" and not config.lora.rank
    offloaded = ("training.offload=all",) if may_offload else ()
    groups = [*slots, shorter, again, (*again, *shorter), offloaded, without]
    if not config.lora.rank:
        groups += [adapters, (*adapters, *again, *shorter)]
    return [group for group in dict.fromkeys(groups) if group]


def in_words(size: float) -> str:
    """Return bytes for people."""
    return f"{size / GIBIBYTE:.1f} GiB" if size >= GIBIBYTE else f"{size / 2**20:.1f} MiB"
