"""How an engine reads tokens into a model: packed and fast, with transformers' own cache, or all over again.

Not every architecture can be read in every way; `reader_check` tells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache

from stepsearch.models.kv_pools import KeyValuePools, KeyValueShape, Pool
from stepsearch.models.packed_attention import DecodeGroup, PackedUnsupportedError, PoolPlan, Prefill, attending


@dataclass(frozen=True, slots=True)
class Chunk:
    """New tokens [n] of the sequence in a slot; `sample`: the logits after the last of them are wanted."""

    slot: int
    token_ids: NDArray[np.int64]
    sample: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What one step reads: one token each for the slots that decode, and chunks of the others."""

    slots: NDArray[np.int64]
    token_ids: NDArray[np.int64]
    chunks: Sequence[Chunk] = ()


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
    """Reads all rows of a step in one packed forward pass, through a registered attention function.

    Raises:
        PackedUnsupportedError: the config does not say how large keys and values are.
    """

    def __init__(self, causal_lm: nn.Module, slots: int, max_length: int) -> None:
        self._causal_lm = causal_lm
        self._max_length = max_length
        self._configs = list({id(m.config): m.config for m in causal_lm.modules() if hasattr(m, "config")}.values())
        self._pools = KeyValuePools.empty(_key_value_shape(causal_lm), slots)

    def reserve(self, slot: int, length: int) -> None:
        """Expect that a slot will hold `length` tokens."""
        self._pools.reserve(slot, length)

    def free(self, slot: int) -> None:
        """Forget what a slot has read."""
        self._pools.free(slot)

    def read(self, reading: Reading) -> Tensor:
        """Return logits [n, V]: of the decoding slots in order, then of the chunks that are to be sampled."""
        self._make_room(reading)
        step = _plan(reading, self._pools)
        with attending(self._causal_lm, step.pools, self._configs, self._max_length):
            output = self._causal_lm(
                input_ids=step.input_ids, position_ids=step.position_ids, use_cache=False, logits_to_keep=step.keep
            )
        self._pools.lengths[reading.slots] += 1
        for chunk in reading.chunks:
            self._pools.lengths[chunk.slot] += len(chunk.token_ids)
        return output.logits[0]

    def _make_room(self, reading: Reading) -> None:
        pools = self._pools
        full = reading.slots[pools.lengths[reading.slots] >= pools.capacities[reading.slots]]
        for slot in full.tolist():
            pools.reserve(slot, int(pools.lengths[slot]) + 1)
        for chunk in reading.chunks:
            pools.reserve(chunk.slot, int(pools.lengths[chunk.slot]) + len(chunk.token_ids))


def _key_value_shape(causal_lm: nn.Module) -> KeyValueShape:
    config: Any = causal_lm.config
    config = config.get_text_config()
    weight = next(causal_lm.parameters())
    try:
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        layers = config.num_hidden_layers
    except AttributeError as error:
        raise PackedUnsupportedError(str(error)) from None
    return KeyValueShape(layers, heads, width, weight.dtype, weight.device)


@dataclass(frozen=True, slots=True)
class _PackedStep:
    """input_ids and position_ids [1, T], keep [n] the tokens whose logits are wanted, and where each belongs."""

    input_ids: Tensor
    position_ids: Tensor
    keep: Tensor
    pools: list[PoolPlan]


def _plan(reading: Reading, pools: KeyValuePools) -> _PackedStep:
    """Return the step with its tokens ordered by pool, then decoding rows by row, then chunks."""
    packing = _Packing(pools, [], [], [])
    keep = np.empty(len(reading.slots), dtype=np.int64)
    keep_chunks: dict[int, int] = {}
    capacities = pools.capacities[reading.slots]
    plans: list[PoolPlan] = []
    for capacity in sorted(pools.pools):
        chosen = np.flatnonzero(capacities == capacity)
        chosen = chosen[np.argsort(pools.rows[reading.slots[chosen]])]
        chunks = [chunk for chunk in reading.chunks if pools.capacities[chunk.slot] == capacity]
        if not len(chosen) and not chunks:
            continue
        first = packing.size
        keep[chosen] = first + np.arange(len(chosen))
        decode = packing.decode(pools.pools[capacity], reading.slots[chosen], reading.token_ids[chosen])
        prefills = [packing.prefill(chunk) for chunk in chunks]
        keep_chunks.update((chunk.slot, item.last - 1) for chunk, item in zip(chunks, prefills, strict=True))
        plans.append(packing.pool_plan(pools.pools[capacity], first, decode, prefills))
    wanted = [*keep.tolist(), *(keep_chunks[chunk.slot] for chunk in reading.chunks if chunk.sample)]
    device = pools.shape.device
    return _PackedStep(
        torch.from_numpy(np.concatenate(packing.token_ids)).to(device)[None],
        torch.from_numpy(np.concatenate(packing.positions)).to(device)[None],
        torch.tensor(wanted, dtype=torch.int64, device=device),
        plans,
    )


@dataclass(slots=True)
class _Packing:
    """Collects the tokens of a step in their packed order, with position and place of each."""

    pools: KeyValuePools
    token_ids: list[NDArray[np.int64]]
    positions: list[NDArray[np.int64]]
    rows: list[NDArray[np.int64]]
    size: int = 0

    def _append(self, token_ids: NDArray[np.int64], positions: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        self.token_ids.append(token_ids)
        self.positions.append(positions)
        self.rows.append(rows)
        self.size += len(token_ids)

    def decode(self, pool: Pool, slots: NDArray[np.int64], token_ids: NDArray[np.int64]) -> DecodeGroup | None:
        """Append one token each of slots in the order of their rows."""
        if not len(slots):
            return None
        first, rows, lengths = self.size, self.pools.rows[slots], self.pools.lengths[slots]
        self._append(token_ids, lengths, rows)
        counted = np.ones(pool.used, dtype=np.int64)
        counted[rows] = lengths + 1
        longest = -(-int(counted.max()) // 8) * 8
        device, dtype = self.pools.shape.device, self.pools.shape.dtype
        bias = _bias(np.arange(longest) < counted[:, None], device, dtype)[:, None, None]
        every = len(rows) == pool.used
        return DecodeGroup(first, self.size, None if every else torch.from_numpy(rows).to(device), bias)

    def prefill(self, chunk: Chunk) -> Prefill:
        """Append a chunk."""
        first, row, held = self.size, int(self.pools.rows[chunk.slot]), int(self.pools.lengths[chunk.slot])
        positions = np.arange(held, held + len(chunk.token_ids))
        self._append(chunk.token_ids, positions, np.full(len(positions), row))
        counts = np.arange(held + len(positions)) <= positions[:, None]
        return Prefill(first, self.size, row, _bias(counts, self.pools.shape.device, self.pools.shape.dtype))

    def pool_plan(self, pool: Pool, first: int, decode: DecodeGroup | None, prefills: list[Prefill]) -> PoolPlan:
        """Return the plan of the pool whose tokens from `first` on were just appended."""
        parts = (decode is not None) + len(prefills)
        rows, positions = np.concatenate(self.rows[-parts:]), np.concatenate(self.positions[-parts:])
        heads = np.arange(self.pools.shape.heads)
        places = (rows[:, None] * len(heads) + heads) * pool.capacity + positions[:, None]
        places = torch.from_numpy(places.reshape(-1)).to(pool.storage.device)
        return PoolPlan(pool.storage, pool.used, first, self.size, places, decode, prefills)


def _bias(counts: NDArray[np.bool_], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return 0 where a key counts and -inf where it does not."""
    return torch.from_numpy(np.where(counts, np.float32(0), np.float32(-np.inf))).to(device, dtype)


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
