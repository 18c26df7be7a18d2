"""Reads steps with one cache row per slot, each step one captured graph of kernels.

On an accelerator a small step takes as long as it takes to launch its kernels, one by one. A graph launches them all at
once, for tensors of one size; so a step's tokens are filled up to one of a few sizes.
"""

import warnings
from bisect import bisect_left
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from stepsearch.models.kv_pools import KeyValueShape
from stepsearch.models.packed_forward import PackedForward
from stepsearch.models.packed_step import PackedStep, Reading
from stepsearch.models.row_attention import RowAttention, VariableLengthAttention

_FIRST_CAPACITY = 256
# At most a third of a step is filling.
_SIZES = [256 << power // 2 if power % 2 == 0 else 384 << power // 2 for power in range(12)]


class _Graph(NamedTuple):
    """A captured pass, what it reads, and the logits that it fills."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    logits: Tensor


class RowReader:
    """Implements `ContextReader`. Keys and values take memory only while a slot holds something.

    Args:
        slots: how many sequences there may be.
        shape: of the model's keys and values.
        forward: the pass over a step.
        kernel: attends over rows.
        capture: whether to capture steps as graphs.
    """

    def __init__(
        self,
        slots: int,
        shape: KeyValueShape,
        forward: PackedForward,
        *,
        kernel: VariableLengthAttention = varlen_attn,  # pyright: ignore[reportArgumentType] - has further arguments
        capture: bool = True,
    ) -> None:
        self._forward, self._shape, self._kernel, self._capture = forward, shape, kernel, capture
        self._lengths = np.zeros(slots, dtype=np.int64)
        self._reserved = np.zeros(slots, dtype=np.int64)
        self._let_go()

    def _let_go(self) -> None:
        """Forget the rows, and the graphs that are bound to where they are."""
        shape = self._shape
        self._capacity = 0
        self._rows = torch.empty(shape.layers, 0, 2 * shape.heads, shape.width, dtype=shape.dtype, device=shape.device)
        self._graphs: dict[int, _Graph] = {}
        self._graph_memory = None

    def reserve(self, slot: int, length: int) -> None:
        """Expect that a slot will hold `length` tokens."""
        self._reserved[slot] = max(self._reserved[slot], length)
        # One place more: a slot that only waits writes there what nobody reads.
        if length + 1 > self._capacity:
            self._grow(length + 1)

    def free(self, slot: int) -> None:
        """Forget what a slot has read."""
        self._lengths[slot] = self._reserved[slot] = 0
        if not self._reserved.any():
            self._let_go()

    def _grow(self, length: int) -> None:
        """Make every row at least `length` long."""
        shape, slots, before, held = self._shape, len(self._lengths), self._capacity, self._rows
        self._let_go()
        self._capacity = max(_FIRST_CAPACITY, 1 << (length - 1).bit_length())
        # Zeroed, because what is not read yet still meets a weight of 0, and 0 x NaN is NaN. The last place is where
        # filling goes.
        places = slots * self._capacity + 1
        size = (shape.layers, places, 2 * shape.heads, shape.width)
        self._rows = torch.zeros(size, dtype=shape.dtype, device=shape.device)
        if before:
            apart = (slots, -1)
            self._rows[:, :-1].unflatten(1, apart)[:, :, :before] = held[:, :-1].unflatten(1, apart)
        self._key_starts = torch.arange(slots + 1, dtype=torch.int32, device=shape.device) * self._capacity
        self._every = torch.arange(slots, device=shape.device)

    def read(self, reading: Reading) -> Tensor:
        """Return logits [n, V]: of the decoding slots in order, then of the chunks that are to be sampled."""
        for slot in reading.slots.tolist():
            self.reserve(slot, int(self._lengths[slot]) + 1)
        for chunk in reading.chunks:
            self.reserve(chunk.slot, int(self._lengths[chunk.slot]) + len(chunk.token_ids))
        logits = self._mixed(reading) if reading.chunks else self._decoded(reading)
        self._lengths[reading.slots] += 1
        for chunk in reading.chunks:
            self._lengths[chunk.slot] += len(chunk.token_ids)
        return logits

    def _decoded(self, reading: Reading) -> Tensor:
        """Return the logits of a reading without chunks, for which every slot reads a token."""
        inputs = np.stack([np.zeros_like(self._lengths), self._lengths, np.ones_like(self._lengths)])
        inputs[0, reading.slots] = reading.token_ids
        inputs[2, reading.slots] += self._lengths[reading.slots]
        logits = self._run(0, inputs.reshape(-1))
        if len(reading.slots) == len(logits):
            return logits
        return logits[torch.from_numpy(reading.slots).to(self._shape.device)]

    def _mixed(self, reading: Reading) -> Tensor:
        """Return the logits of a reading with chunks, whose tokens are packed slot by slot."""
        parts = [
            (slot, reading.token_ids[index : index + 1], True) for index, slot in enumerate(reading.slots.tolist())
        ]
        parts += [(chunk.slot, chunk.token_ids, chunk.sample) for chunk in reading.chunks]
        order = np.argsort([slot for slot, _, _ in parts])
        slots = np.array([slot for slot, _, _ in parts])[order]
        sampled = np.array([sample for _, _, sample in parts])[order]
        counts = np.zeros_like(self._lengths)
        counts[slots] = [len(parts[index][1]) for index in order]
        asked = np.zeros_like(self._lengths)
        asked[slots] = sampled
        token_ids = np.concatenate([parts[index][1] for index in order])
        tokens = len(token_ids)
        size = _SIZES[bisect_left(_SIZES, tokens)] if tokens <= _SIZES[-1] else tokens
        owners = np.repeat(slots, counts[slots])
        ends = np.cumsum(counts[slots])
        positions = np.arange(tokens) - np.repeat(ends - counts[slots], counts[slots]) + self._lengths[owners]
        filling = size - tokens
        # Of the parts as they came, where those that are sampled stand among the sampled ones slot by slot.
        rank = np.empty(len(parts), dtype=np.int64)
        rank[order] = np.cumsum(sampled) - 1
        rank = rank[[sample for _, _, sample in parts]]
        missing = len(self._lengths) - len(rank)
        inputs = np.concatenate(
            [
                np.pad(token_ids, (0, filling)),
                np.pad(positions, (0, filling)),
                np.pad(owners * self._capacity + positions, (0, filling), constant_values=self._rows.shape[1] - 1),
                [0, *np.cumsum(counts)],
                [0, *np.cumsum(asked)],
                np.maximum(1, self._lengths + counts),
                np.pad((ends - 1)[sampled], (0, missing)),
                np.pad(rank, (0, missing)),
            ]
        )
        return self._run(size, inputs)[: len(rank)]

    def _run(self, size: int, inputs: NDArray[np.int64]) -> Tensor:
        """Return the logits [S, V] of a step of `size` tokens, or of one in which all decode if that is 0."""
        if self._capture and size not in self._graphs:
            self._captured(size, inputs)
        if size not in self._graphs:
            return self._forward(self._step(size, torch.from_numpy(inputs).to(self._shape.device)))
        graph = self._graphs[size]
        graph.inputs.copy_(torch.from_numpy(inputs))
        graph.graph.replay()
        return graph.logits

    def _captured(self, size: int, inputs: NDArray[np.int64]) -> None:
        """Capture the step of that size as a graph, if that can be."""
        read = torch.from_numpy(inputs).to(self._shape.device)
        try:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                self._forward(self._step(size, read))
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            # The graphs share their memory: the logits of one are used before the next one runs.
            with torch.cuda.graph(graph, pool=self._graph_memory):
                logits = self._forward(self._step(size, read))
        except RuntimeError as error:
            self._capture = False
            warnings.warn(f"steps cannot be captured as graphs ({error}); generation will be slower", stacklevel=2)
            return
        self._graph_memory = graph.pool()
        self._graphs[size] = _Graph(graph, read, logits)

    def _step(self, size: int, inputs: Tensor) -> PackedStep:
        """Return the step that the inputs spell out."""
        return self._decoding(inputs) if size == 0 else self._packed(size, inputs)

    def _decoding(self, inputs: Tensor) -> PackedStep:
        """Return the step in which every slot reads a token: inputs are ids, positions and keys that it sees."""
        token_ids, positions, used = inputs.view(3, -1)
        attention = RowAttention(
            self._kernel,
            self._rows,
            self._every * self._capacity + positions,
            torch.arange(len(used) + 1, dtype=torch.int32, device=used.device),
            self._key_starts,
            used.int(),
            capacity=self._capacity,
            longest_query=1,
        )
        return PackedStep(token_ids, positions, attention, self._every, attention, self._every)

    def _packed(self, size: int, inputs: Tensor) -> PackedStep:
        """Return the step of tokens slot by slot; inputs are as `_mixed` lays them out."""
        slots = len(self._lengths)
        token_ids, positions, places, starts, asked_starts, used, wanted, order = inputs.split(
            [size, size, size, slots + 1, slots + 1, slots, slots, slots]
        )

        def attention(query_starts: Tensor, longest_query: int) -> RowAttention:
            return RowAttention(
                self._kernel,
                self._rows,
                places,
                query_starts.int(),
                self._key_starts,
                used.int(),
                capacity=self._capacity,
                longest_query=longest_query,
            )

        # More than one, as slots that ask for nothing have none.
        return PackedStep(token_ids, positions, attention(starts, size), wanted, attention(asked_starts, 2), order)
