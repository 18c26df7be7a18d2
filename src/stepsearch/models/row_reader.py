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
from stepsearch.models.row_attention import Chunks, RowAttention, VariableLengthAttention

# Rows are made this long, if sequences may be, and longer when one is.
_USUAL_LENGTH = 4096
# Tokens in chunks of a captured step; more are read as they are, kernel by kernel.
CHUNK_SIZES = (0, 512, 2048)


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
        longest: tokens that a sequence may have.
        kernel: attends over rows.
        capture: whether to capture steps as graphs.
    """

    def __init__(
        self,
        slots: int,
        shape: KeyValueShape,
        forward: PackedForward,
        longest: int,
        *,
        kernel: VariableLengthAttention = varlen_attn,  # pyright: ignore[reportArgumentType] - has further arguments
        capture: bool = True,
    ) -> None:
        self._forward, self._shape, self._kernel, self._capture = forward, shape, kernel, capture
        self._usual_length = min(longest, _USUAL_LENGTH)
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
        if length > self._capacity:
            self._grow(length)

    def free(self, slot: int) -> None:
        """Forget what a slot has read."""
        self._lengths[slot] = self._reserved[slot] = 0
        if not self._reserved.any():
            self._let_go()

    def _grow(self, length: int) -> None:
        """Make every row at least `length` long."""
        shape, slots, before, held = self._shape, len(self._lengths), self._capacity, self._rows
        self._let_go()
        self._capacity = max(self._usual_length, 1 << (length - 1).bit_length())
        # Zeroed, because what is not read yet still meets a weight of 0, and 0 x NaN is NaN. The last place is where
        # everything goes that nobody asked for.
        self._nowhere = slots * self._capacity
        size = (shape.layers, self._nowhere + 1, 2 * shape.heads, shape.width)
        self._rows = torch.zeros(size, dtype=shape.dtype, device=shape.device)
        if before:
            apart = (slots, -1)
            self._rows[:, :-1].unflatten(1, apart)[:, :, :before] = held[:, :-1].unflatten(1, apart)
        self._each = torch.arange(slots + 1, dtype=torch.int32, device=shape.device)
        self._key_starts = self._each * self._capacity
        self._slots = torch.arange(slots, device=shape.device)

    def read(self, reading: Reading) -> Tensor:
        """Return logits [n, V]: of the decoding slots in order, then of the chunks that are to be sampled."""
        for slot in reading.slots.tolist():
            self.reserve(slot, int(self._lengths[slot]) + 1)
        for chunk in reading.chunks:
            self.reserve(chunk.slot, int(self._lengths[chunk.slot]) + len(chunk.token_ids))
        tokens = sum(len(chunk.token_ids) for chunk in reading.chunks)
        size = CHUNK_SIZES[bisect_left(CHUNK_SIZES, tokens)] if tokens <= CHUNK_SIZES[-1] else tokens
        logits = self._run(size, self._inputs(reading, size))
        self._lengths[reading.slots] += 1
        for chunk in reading.chunks:
            self._lengths[chunk.slot] += len(chunk.token_ids)
        wanted = [*reading.slots.tolist(), *(chunk.slot for chunk in reading.chunks if chunk.sample)]
        return logits[torch.tensor(wanted, dtype=torch.int64).to(logits.device)]

    def _inputs(self, reading: Reading, size: int) -> NDArray[np.int64]:
        """Return what `_step` is made of: one token of each slot, then those of the chunks slot by slot, filled up."""
        slots = len(self._lengths)
        chunks = sorted(reading.chunks, key=lambda chunk: chunk.slot)
        token_ids, positions = np.zeros((2, slots + size), dtype=np.int64)
        places = np.full(slots + size, self._nowhere)
        token_ids[reading.slots] = reading.token_ids
        positions[reading.slots] = held = self._lengths[reading.slots]
        places[reading.slots] = reading.slots * self._capacity + held
        used = np.ones(slots, dtype=np.int64)
        used[reading.slots] += held
        if not size:
            return np.concatenate([token_ids, positions, places, used])
        counts = np.zeros(slots, dtype=np.int64)
        wanted, wanted_used, end = np.arange(slots), used.copy(), slots
        for chunk in chunks:
            counts[chunk.slot] = count = len(chunk.token_ids)
            first, end = end, end + count
            token_ids[first:end] = chunk.token_ids
            positions[first:end] = new = self._lengths[chunk.slot] + np.arange(count)
            places[first:end] = chunk.slot * self._capacity + new
            wanted[chunk.slot], wanted_used[chunk.slot] = end - 1, new[-1] + 1
        starts = np.concatenate([[0], np.cumsum(counts)])
        chunks_used = np.maximum(1, self._lengths + counts)
        return np.concatenate([token_ids, positions, places, used, starts, chunks_used, wanted, wanted_used])

    def _run(self, size: int, inputs: NDArray[np.int64]) -> Tensor:
        """Return the logits [S, V] of each slot's last token after a step with that many tokens in chunks."""
        if self._capture and size in CHUNK_SIZES and size not in self._graphs:
            self._captured(size, inputs)
        if size not in self._graphs:
            return self._forward(self._step(size, torch.from_numpy(inputs).to(self._shape.device)))
        graph = self._graphs[size]
        graph.inputs.copy_(torch.from_numpy(inputs))
        graph.graph.replay()
        return graph.logits

    def _captured(self, size: int, inputs: NDArray[np.int64]) -> None:
        """Capture steps of that size as a graph, if that can be."""
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
        """Return the step that `_inputs` spells out."""
        slots = len(self._lengths)
        token_ids, positions, places, rest = inputs.split([slots + size] * 3 + [len(inputs) - 3 * (slots + size)])

        def attention(used: Tensor, chunks: Chunks | None = None) -> RowAttention:
            return RowAttention(
                self._kernel, self._rows, places, self._key_starts, self._each, used.int(), self._capacity, chunks
            )

        if not size:
            each = attention(rest)
            return PackedStep(token_ids, positions, each, self._slots, each, self._slots)
        used, starts, chunks_used, wanted, wanted_used = rest.split([slots, slots + 1, slots, slots, slots])
        every = attention(used, Chunks(starts.int(), chunks_used.int(), size))
        return PackedStep(token_ids, positions, every, wanted, attention(wanted_used), self._slots)
