"""What one step of an engine reads, and how its tokens are packed side by side in one row."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepsearch.models.kv_pools import KeyValuePools, Pool
from stepsearch.models.packed_attention import StepAttention
from stepsearch.models.pool_attention import DecodeGroup, PoolAttention, PoolPlan, Prefill


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


@dataclass(frozen=True, slots=True)
class PackedStep:
    """A reading of T tokens, n of which are wanted: the logits after them are asked for.

    Attributes:
        input_ids: [T].
        position_ids: [T].
        attention: where they belong, when all of them ask.
        wanted: [n] which are wanted, in packed order.
        wanted_attention: where they belong, when only the wanted ones ask.
        order: [n] which of the wanted ones is the first, second, ... of the reading.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention: StepAttention
    wanted: Tensor
    wanted_attention: StepAttention
    order: Tensor


def plan_step(reading: Reading, pools: KeyValuePools) -> PackedStep:
    """Return how the tokens of a reading are packed, by pool, then decoding rows by row, then chunks; there is room."""
    packing = _Packing(pools)
    capacities = pools.capacities[reading.slots]
    for capacity in sorted(pools.pools):
        chosen = np.flatnonzero(capacities == capacity)
        chosen = chosen[np.argsort(pools.rows[reading.slots[chosen]])]
        chunks = [chunk for chunk in reading.chunks if pools.capacities[chunk.slot] == capacity]
        if len(chosen) or chunks:
            packing.add(pools.pools[capacity], reading.slots[chosen], reading.token_ids[chosen], chunks)
    return packing.step([*reading.slots.tolist(), *(chunk.slot for chunk in reading.chunks if chunk.sample)])


@dataclass(slots=True)
class _Packing:
    """Collects the tokens of a step in their packed order.

    Attributes:
        pools: what they belong to.
        token_ids, positions: of the tokens, in pieces.
        size: how many there are.
        wanted: which of them are wanted, in pieces.
        wanted_slots: the slots of those.
        plans, wanted_plans: of the pools.
    """

    pools: KeyValuePools
    token_ids: list[NDArray[np.int64]] = field(default_factory=list[NDArray[np.int64]])
    positions: list[NDArray[np.int64]] = field(default_factory=list[NDArray[np.int64]])
    size: int = 0
    wanted: list[NDArray[np.int64]] = field(default_factory=list[NDArray[np.int64]])
    wanted_slots: list[int] = field(default_factory=list[int])
    plans: list[PoolPlan] = field(default_factory=list[PoolPlan])
    wanted_plans: list[PoolPlan] = field(default_factory=list[PoolPlan])

    def add(self, pool: Pool, slots: NDArray[np.int64], token_ids: NDArray[np.int64], chunks: Sequence[Chunk]) -> None:
        """Append what is read in one pool: a token each of slots in the order of their rows, and chunks."""
        lengths = self.pools.lengths[slots]
        pieces = [(self.pools.rows[slots], lengths, token_ids)] if len(slots) else []
        pieces += [self._chunk(chunk) for chunk in chunks]
        rows, positions, ids = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        first, self.size = self.size, self.size + len(ids)
        self.token_ids.append(ids)
        self.positions.append(positions)
        ends = first + len(slots) + np.cumsum([len(chunk.token_ids) for chunk in chunks], dtype=np.int64)
        places = self._places(pool, rows, positions)
        decode = self._group(pool, first, slots, lengths + 1) if len(slots) else None
        prefills = [self._prefill(chunk, int(end)) for chunk, end in zip(chunks, ends, strict=True)]
        self.plans.append(PoolPlan(pool.storage, pool.used, first, self.size, places, decode, prefills))
        self._want(self.plans[-1], pool, slots, [pair for pair in zip(chunks, ends, strict=True) if pair[0].sample])

    def _chunk(self, chunk: Chunk) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return row, position and id of each token."""
        held = int(self.pools.lengths[chunk.slot])
        positions = np.arange(held, held + len(chunk.token_ids))
        return np.full(len(positions), self.pools.rows[chunk.slot]), positions, chunk.token_ids

    def _places(self, pool: Pool, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        heads = self.pools.shape.heads
        values = len(pool.slots) * heads  # Rows of heads before the first of the values.
        kept = np.concatenate([np.arange(heads), np.arange(values, values + heads)])
        places = (rows[:, None] * heads + kept) * pool.capacity + positions[:, None]
        return torch.from_numpy(places.reshape(-1)).to(pool.storage.device)

    def _group(self, pool: Pool, first: int, slots: NDArray[np.int64], counts: NDArray[np.int64]) -> DecodeGroup:
        """Return the group of tokens from `first` on, each of which sees that many keys."""
        rows = self.pools.rows[slots]
        counted = np.ones(pool.used, dtype=np.int64)
        counted[rows] = counts
        longest = -(-int(counted.max()) // 8) * 8
        bias = self._bias(np.arange(longest) < counted[:, None])[:, None, None]
        every = len(rows) == pool.used and bool((rows == np.arange(pool.used)).all())
        return DecodeGroup(first, first + len(rows), None if every else torch.from_numpy(rows).to(bias.device), bias)

    def _prefill(self, chunk: Chunk, end: int) -> Prefill:
        """Return the chunk whose tokens end before `end`."""
        held, new = int(self.pools.lengths[chunk.slot]), len(chunk.token_ids)
        counts = np.arange(held + new) <= np.arange(held, held + new)[:, None]
        return Prefill(end - new, end, int(self.pools.rows[chunk.slot]), self._bias(counts))

    def _want(self, plan: PoolPlan, pool: Pool, slots: NDArray[np.int64], ends: "list[tuple[Chunk, np.int64]]") -> None:
        """Plan the pool for the wanted tokens alone: those of decoding slots, and the last one of sampled chunks."""
        first = len(self.wanted_slots)
        read = np.array([chunk.slot for chunk, _ in ends], dtype=np.int64)
        self.wanted.append(np.concatenate([plan.first + np.arange(len(slots)), [end - 1 for _, end in ends]]))
        self.wanted_slots += [*slots.tolist(), *read.tolist()]
        seen = self.pools.lengths[read] + [len(chunk.token_ids) for chunk, _ in ends]
        decode, prefills = None, []
        if len(slots):
            counts = np.concatenate([self.pools.lengths[slots] + 1, seen])
            decode = self._group(pool, first, np.concatenate([slots, read]), counts)
        else:  # A row on its own is read faster than all rows of its pool.
            prefills = [
                Prefill(first + index, first + index + 1, int(row), self._bias(np.ones((1, count), dtype=np.bool_)))
                for index, (row, count) in enumerate(zip(self.pools.rows[read], seen, strict=True))
            ]
        self.wanted_plans.append(
            PoolPlan(plan.storage, plan.used, plan.first, plan.last, plan.places, decode, prefills)
        )

    def _bias(self, counts: NDArray[np.bool_]) -> Tensor:
        """Return 0 where a key counts and -inf where it does not."""
        bias = torch.from_numpy(np.where(counts, np.float32(0), np.float32(-np.inf)))
        return bias.to(self.pools.shape.device, self.pools.shape.dtype)

    def step(self, slots: Sequence[int]) -> PackedStep:
        """Return the step; logits are wanted in the order of these slots."""
        device = self.pools.shape.device
        place = {slot: index for index, slot in enumerate(self.wanted_slots)}
        return PackedStep(
            torch.from_numpy(np.concatenate(self.token_ids)).to(device),
            torch.from_numpy(np.concatenate(self.positions)).to(device),
            PoolAttention(self.plans),
            torch.from_numpy(np.concatenate(self.wanted).astype(np.int64)).to(device),
            PoolAttention(self.wanted_plans),
            torch.tensor([place[slot] for slot in slots], dtype=torch.int64, device=device),
        )
