"""How an engine reads tokens into a model: packed and fast, with transformers' own cache, or all over again.

Not every architecture can be read in every way; `reader_check` tells.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache

from stepsearch.models.kv_pools import KeyValuePools, KeyValueShape
from stepsearch.models.packed_forward import PackedForward
from stepsearch.models.packed_step import Reading, plan_step


class ContextReader(Protocol):
    """Keeps what each slot has read."""

    def read(self, reading: Reading) -> Tensor:
        """Return logits [n, V]: of the decoding slots in order, then of the chunks that are to be sampled."""
        ...

    def reserve(self, slot: int, length: int) -> None:
        """Expect that a slot will hold `length` tokens."""
        ...

    def free(self, slot: int) -> None:
        """Forget what a slot has read."""
        ...


class PackedReader:
    """Reads all rows of a step in one packed forward pass.

    Args:
        slots: how many sequences there may be.
        shape: of the model's keys and values.
        forward: the pass.
    """

    def __init__(self, slots: int, shape: KeyValueShape, forward: PackedForward) -> None:
        self._forward = forward
        self._pools = KeyValuePools.empty(shape, slots)

    def reserve(self, slot: int, length: int) -> None:
        """Expect that a slot will hold `length` tokens."""
        self._pools.reserve(slot, length)

    def free(self, slot: int) -> None:
        """Forget what a slot has read."""
        self._pools.free(slot)

    def read(self, reading: Reading) -> Tensor:
        """Return logits [n, V]: of the decoding slots in order, then of the chunks that are to be sampled."""
        self._make_room(reading)
        logits = self._forward(plan_step(reading, self._pools))
        self._pools.lengths[reading.slots] += 1
        for chunk in reading.chunks:
            self._pools.lengths[chunk.slot] += len(chunk.token_ids)
        return logits

    def _make_room(self, reading: Reading) -> None:
        pools = self._pools
        full = reading.slots[pools.lengths[reading.slots] >= pools.capacities[reading.slots]]
        for slot in full.tolist():
            pools.reserve(slot, int(pools.lengths[slot]) + 1)
        for chunk in reading.chunks:
            pools.reserve(chunk.slot, int(pools.lengths[chunk.slot]) + len(chunk.token_ids))


class CacheReader:
    """Reads one slot after the other with transformers' own cache."""

    def __init__(self, causal_lm: nn.Module) -> None:
        self._causal_lm: Any = causal_lm
        self._caches: dict[int, Any] = {}
        self._device = next(causal_lm.parameters()).device

    def reserve(self, slot: int, length: int) -> None:
        """Nothing is reserved: the cache grows."""

    def free(self, slot: int) -> None:
        """Forget what a slot has read."""
        self._caches.pop(slot, None)

    def read(self, reading: Reading) -> Tensor:
        """Return logits [n, V]: of the decoding slots in order, then of the chunks that are to be sampled."""
        return _one_by_one(self._forward, reading)

    def _forward(self, slot: int, token_ids: NDArray[np.int64]) -> Tensor:
        """Return the logits [V] after the last token."""
        cache = self._caches.get(slot)
        if cache is None:
            cache = DynamicCache(config=self._causal_lm.config)
        input_ids = torch.from_numpy(token_ids).to(self._device)[None]
        output = self._causal_lm(input_ids=input_ids, past_key_values=cache, use_cache=True)
        self._caches[slot] = output.past_key_values
        return output.logits[0, -1]


class PlainReader:
    """Reads the whole context of a slot again for every token. Right for every causal LM."""

    def __init__(self, causal_lm: nn.Module) -> None:
        self._causal_lm = causal_lm
        self._contexts: dict[int, NDArray[np.int64]] = {}
        self._device = next(causal_lm.parameters()).device

    def reserve(self, slot: int, length: int) -> None:
        """Nothing is reserved."""

    def free(self, slot: int) -> None:
        """Forget what a slot has read."""
        self._contexts.pop(slot, None)

    def read(self, reading: Reading) -> Tensor:
        """Return logits [n, V]: of the decoding slots in order, then of the chunks that are to be sampled."""
        return _one_by_one(self._forward, reading)

    def _forward(self, slot: int, token_ids: NDArray[np.int64]) -> Tensor:
        """Return the logits [V] after the last token."""
        context = np.concatenate([self._contexts.get(slot, token_ids[:0]), token_ids])
        self._contexts[slot] = context
        return self._causal_lm(input_ids=torch.from_numpy(context).to(self._device)[None], use_cache=False).logits[
            0, -1
        ]


def _one_by_one(forward: Callable[[int, NDArray[np.int64]], Tensor], reading: Reading) -> Tensor:
    """Return the logits of a reading, of which `forward` reads one slot at a time."""
    decoded = [forward(slot, reading.token_ids[index : index + 1]) for index, slot in enumerate(reading.slots.tolist())]
    read = [(chunk.sample, forward(chunk.slot, chunk.token_ids)) for chunk in reading.chunks]
    wanted = [*decoded, *(logits for sample, logits in read if sample)]
    return torch.stack(wanted) if wanted else read[0][1].new_empty(0, read[0][1].shape[0])
