"""Keys and values of many ragged sequences, kept so that sequences of like length are read together without padding.

A sequence lives in a pool of its capacity class; when it outgrows the class it moves up. Rows of a pool are dense: who
leaves is replaced by the last row.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_UNIT = 64
_STEPS = (4, 5, 6, 7)
_FIRST_ROWS = 8


@dataclass(frozen=True, slots=True)
class KeyValueShape:
    """What one token's keys and values need.

    Attributes:
        layers: attention layers.
        heads: key-value heads.
        width: numbers per head.
        dtype: of the numbers.
        device: where they live.
    """

    layers: int
    heads: int
    width: int
    dtype: torch.dtype
    device: torch.device


def shape_of(causal_lm: nn.Module) -> KeyValueShape:
    """Return the shape that a model's config says.

    Raises:
        AttributeError: it does not say it.
    """
    config: Any = causal_lm.config
    config = config.get_text_config()
    weight = next(causal_lm.parameters())
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return KeyValueShape(config.num_hidden_layers, heads, width, weight.dtype, weight.device)


def capacity_class(length: int) -> int:
    """Return the smallest capacity that holds `length` tokens: multiples of 64, then steps of at most a quarter."""
    units = -(-length // _UNIT)
    if units <= _STEPS[0]:
        return units * _UNIT
    scale = 1
    while _STEPS[-1] * scale + scale < units:
        scale *= 2
    return next(step * scale for step in (*_STEPS, 2 * _STEPS[0]) if step * scale >= units) * _UNIT


@dataclass(slots=True)
class Pool:
    """The sequences of one capacity class.

    Attributes:
        capacity: tokens per row.
        storage: [layers, 2, rows, heads, capacity, width] keys (0) and values (1).
        slots: [rows] which slot lives in each row; the first `used` count.
        used: rows in use.
    """

    capacity: int
    storage: Tensor
    slots: NDArray[np.int64]
    used: int = 0


@dataclass(slots=True)
class KeyValuePools:
    """Where each slot's keys and values are.

    Attributes:
        shape: of one token.
        lengths: [slots] tokens held per slot.
        capacities: [slots] capacity class of each slot, 0 without one; the key into `pools`.
        rows: [slots] row within the pool.
        pools: by capacity.
    """

    shape: KeyValueShape
    lengths: NDArray[np.int64]
    capacities: NDArray[np.int64]
    rows: NDArray[np.int64]
    pools: dict[int, Pool] = field(default_factory=dict[int, Pool])

    @classmethod
    def empty(cls, shape: KeyValueShape, slots: int) -> "KeyValuePools":
        """Return pools that hold nothing, for slots 0 to `slots` - 1."""
        lengths, capacities, rows = np.zeros((3, slots), dtype=np.int64)
        return cls(shape, lengths, capacities, rows)

    def reserve(self, slot: int, length: int) -> None:
        """Make room for `length` tokens in a slot, moving what it holds if it has to."""
        before = int(self.capacities[slot])
        if length <= before:
            return
        capacity = capacity_class(length)
        pool, row = self._take_row(capacity, slot)
        if before:
            held = int(self.lengths[slot])
            old = self.pools[before]
            pool.storage[:, :, row, :, :held] = old.storage[:, :, int(self.rows[slot]), :, :held]
            self._leave_row(slot)
        self.capacities[slot], self.rows[slot] = capacity, row

    def free(self, slot: int) -> None:
        """Forget what a slot holds."""
        if self.capacities[slot]:
            self._leave_row(slot)
        self.capacities[slot] = self.lengths[slot] = 0

    def _take_row(self, capacity: int, slot: int) -> tuple[Pool, int]:
        pool = self.pools.get(capacity)
        if pool is None or pool.used == len(pool.slots):
            pool = self._grown(capacity, pool)
        row = pool.used
        pool.slots[row] = slot
        pool.used += 1
        return pool, row

    def _grown(self, capacity: int, old: Pool | None) -> Pool:
        # Zeroed, because what is masked out still meets a weight of 0, and 0 x NaN is NaN.
        rows = min(len(self.lengths), _FIRST_ROWS if old is None else 2 * len(old.slots))
        shape = self.shape
        size = (shape.layers, 2, rows, shape.heads, capacity, shape.width)
        pool = Pool(capacity, torch.zeros(size, dtype=shape.dtype, device=shape.device), np.zeros(rows, dtype=np.int64))
        if old is not None:
            pool.storage[:, :, : old.used] = old.storage[:, :, : old.used]
            pool.slots[: old.used] = old.slots[: old.used]
            pool.used = old.used
        self.pools[capacity] = pool
        return pool

    def _leave_row(self, slot: int) -> None:
        pool = self.pools[int(self.capacities[slot])]
        row, last = int(self.rows[slot]), pool.used - 1
        if row != last:
            moved = int(pool.slots[last])
            held = int(self.lengths[moved])
            pool.storage[:, :, row, :, :held] = pool.storage[:, :, last, :, :held]
            pool.slots[row] = moved
            self.rows[moved] = row
        pool.used = last
        if not last:
            del self.pools[pool.capacity]
