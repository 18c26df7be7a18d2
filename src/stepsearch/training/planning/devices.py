"""What accelerators can do, by their data sheets."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from stepsearch.training.planning.formulas import Precision

CPU = "cpu"
GIGABYTE = 10**9
GIBIBYTE = 2**30


@dataclass(frozen=True, slots=True)
class Device:
    """One device.

    Attributes:
        name: as the user calls it.
        memory_bytes: what it holds; None where nothing is known, as of a CPU, whose machine says it.
        bfloat16_flops: operations in a second, dense, in bfloat16.
        float32_flops: the same in float32, without TF32, as torch multiplies by default.
        bandwidth: bytes of its memory read in a second.
    """

    name: str
    memory_bytes: int | None
    bfloat16_flops: float
    float32_flops: float
    bandwidth: float

    def flops(self, precision: Precision) -> float:
        """Return the peak for matrix products of that precision."""
        return self.float32_flops if precision is Precision.FLOAT32 else self.bfloat16_flops


def _gpu(name: str, gibibytes: int, bfloat16: float, float32: float, gigabytes_per_second: float) -> Device:
    return Device(name, gibibytes * GIBIBYTE, bfloat16 * 1e12, float32 * 1e12, gigabytes_per_second * GIGABYTE)


# TFLOP/s without sparsity and GB/s, from the vendor's data sheets (SXM where there are several). `cpu` is one core of a
# server with AVX-512, as a stated guess: measure it.
DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        _gpu("h200", 140, 989, 67, 4800),
        _gpu("h100", 79, 989, 67, 3350),
        _gpu("a100-80gb", 79, 312, 19.5, 2039),
        _gpu("a100-40gb", 39, 312, 19.5, 1555),
        _gpu("l40s", 44, 362, 91.6, 864),
        _gpu("rtx-4090", 23, 165, 82.6, 1008),
        _gpu("rtx-3090", 23, 71, 35.6, 936),
        Device(CPU, None, 60e9, 60e9, 10 * GIGABYTE),
    )
}


def machine_memory() -> int | None:
    """Return the bytes of this machine's main memory; None where the system does not say, as on Windows."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def in_words(size: float) -> str:
    """Return bytes for people."""
    return f"{size / GIBIBYTE:.1f} GiB" if size >= GIBIBYTE else f"{size / 2**20:.1f} MiB"
