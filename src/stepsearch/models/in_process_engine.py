"""Generation in the training process: continuous batching over a module as it is, nothing copied.

It may be the very one that is trained, or a `rollout_copy` of it.

A request holds a slot from its first turn to its release, and its keys and values with it, so that each further turn
reads only what is new. One forward pass per step covers every decoding row and the next part of what is to be read.
"""

import heapq
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stepsearch.errors import ModelError, one_line
from stepsearch.models.context_readers import CacheReader, ContextReader, PackedReader, PlainReader
from stepsearch.models.end_ids import all_end_ids
from stepsearch.models.held_requests import NOT_FINITE, HeldRequest, check_extension, check_size, longest_request
from stepsearch.models.kv_pools import shape_of
from stepsearch.models.packed_forward import LayeredForward, PackedForward, WholeForward
from stepsearch.models.packed_step import Chunk, Reading
from stepsearch.models.reader_check import is_right, plain_logits
from stepsearch.models.row_attention import HALF_PRECISION
from stepsearch.models.row_reader import CHUNK_SIZES, RowReader
from stepsearch.models.sampling import sample
from stepsearch.models.shared_change import SharedChange
from stepsearch.models.slot_table import SlotTable
from stepsearch.models.stop_automaton import StopAutomaton
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.protocol import STOP_TAGS
from stepsearch.rollout.generation import Sampling, Segment, SegmentEnd

_NO_SLOT = -1
_evaluating = SharedChange()


class _ReadingPace(NamedTuple):
    """How many context tokens are read in how many-th step while others decode."""

    tokens: int
    every: int


_CPU_PACE = _ReadingPace(384, 1)
# A step that reads and decodes takes several times as long there as one that only decodes (`row_reader`).
_ACCELERATOR_PACE = _ReadingPace(CHUNK_SIZES[-1], 8)


@dataclass(slots=True, eq=False)
class _Request(HeldRequest):
    """A held request with its place in the cache.

    Attributes:
        read: how many tokens of the context the model has read.
        slot: `_NO_SLOT` while it waits.
    """

    read: int = 0
    slot: int = _NO_SLOT


class InProcessEngine:
    """Implements `rollout.GenerationEngine` over a transformers causal LM, on whatever device it is.

    The module is used as it is: evaluation mode and the packed attention hold only within `step`. Several engines over
    one module may step at the same time, a thread each, once all are built; nothing else may run it meanwhile.

    Args:
        causal_lm: the model; its weights may change between segments of different requests.
        tokenizer: the model's.
        slots: requests sampled at the same time; further ones wait.
        max_length: tokens that a request may have; default: what the model's positions allow.
        read_tokens: context tokens read in one step besides those that decode; default: what suits the device.
        read_every: while others decode, less context than that is read every so many steps; default: what suits the
            device.

    Raises:
        ModelError: `max_length` is more than the model has positions for.
    """

    def __init__(
        self,
        causal_lm: nn.Module,
        tokenizer: ModelTokenizer,
        *,
        slots: int,
        max_length: int | None = None,
        read_tokens: int | None = None,
        read_every: int | None = None,
    ) -> None:
        self._max_length = longest_request(causal_lm, max_length)
        self._causal_lm = causal_lm
        self._modules = list(causal_lm.modules())
        self._device = next(causal_lm.parameters()).device
        pace = _CPU_PACE if self._device.type == "cpu" else _ACCELERATOR_PACE
        self._read_tokens, self._read_every = read_tokens or pace.tokens, read_every or pace.every
        self._steps_since_reading = 0
        self._requests: dict[int, _Request] = {}
        self._waiting: deque[_Request] = deque()
        self._reading: deque[_Request] = deque()
        self._holders: dict[int, _Request] = {}
        # The lowest free slot is taken first, so that an idle engine has no memory of what it did before.
        self._free = list(range(slots))
        self._submits = 0
        with self._generating():
            self._reader, vocabulary = _choose_reader(causal_lm, slots, self._max_length)
        self._stops = StopAutomaton(tokenizer.token_pieces(), STOP_TAGS, vocabulary)
        self._ends = np.zeros(vocabulary, dtype=np.bool_)
        self._ends[all_end_ids(causal_lm, tokenizer, vocabulary)] = True
        self._table = SlotTable.empty(slots)

    @property
    def active(self) -> int:
        """How many segments are being sampled or wait for a slot."""
        return len(self._waiting) + len(self._reading) + int(self._table.decoding.sum())

    def submit(self, request_id: int, token_ids: Sequence[int], sampling: Sampling) -> None:
        """Sample the next segment after `token_ids`, the request's whole context so far.

        Raises:
            ModelError: the context and the segment do not fit the cache.
            ValueError: there is nothing to read or to sample, the request's last segment is not finished, or the
                context does not extend that of a held request.
        """
        check_size(request_id, len(token_ids), sampling.max_tokens, self._max_length)
        request = self._requests.get(request_id)
        if request is None:
            request = self._requests[request_id] = _Request(request_id, list(token_ids), sampling, self._submits)
            self._waiting.append(request)
        else:
            self._extend(request, token_ids, sampling)
        self._submits += 1

    def _extend(self, request: _Request, token_ids: Sequence[int], sampling: Sampling) -> None:
        check_extension(request.id, request.context, request.busy, token_ids)
        request.context.extend(token_ids[len(request.context) :])
        request.sampling, request.order, request.busy = sampling, self._submits, True
        self._reader.reserve(request.slot, len(request.context))
        self._reading.append(request)

    def release(self, request_id: int) -> None:
        """Forget a request and free its memory."""
        request = self._requests.pop(request_id, None)
        if request is None:
            return
        for queue in (self._waiting, self._reading):
            if request in queue:
                queue.remove(request)
        if request.slot != _NO_SLOT:
            self._reader.free(request.slot)
            self._table.decoding[request.slot] = False
            heapq.heappush(self._free, request.slot)

    def step(self) -> list[Segment]:
        """Advance every active segment by a token, or by a part of what it has to read; return what finished.

        Raises:
            ModelError: the model's scores are not finite.
        """
        while self._waiting and self._free:
            self._seat(self._waiting.popleft(), heapq.heappop(self._free))
        decoding = np.flatnonzero(self._table.decoding)
        chunks = self._next_chunks()
        if not len(decoding) and not chunks:
            return []
        slots = np.concatenate([decoding, [chunk.slot for chunk in chunks if chunk.sample]]).astype(np.int64)
        with self._generating():
            logits = self._reader.read(Reading(decoding, self._table.last_token[decoding], chunks))
            token_ids, logprobs = sample(logits, self._table.sampling_rows(slots, self._device))
        sampled = logprobs.cpu().numpy()
        if not np.isfinite(sampled).all():
            raise ModelError(NOT_FINITE)
        return self._record(slots, token_ids.cpu().numpy(), sampled)

    def _next_chunks(self) -> list[Chunk]:
        """Return what is read this step, oldest first, and start the segments of those that are read to the end."""
        chunks: list[Chunk] = []
        self._steps_since_reading += 1
        if not (self._reading and self._is_time_to_read()):
            return chunks
        self._steps_since_reading = 0
        left = self._read_tokens
        while self._reading and left > 0:
            request = self._reading[0]
            unread = request.context[request.read : request.read + left]
            request.read += len(unread)
            left -= len(unread)
            whole = request.read == len(request.context)
            chunks.append(Chunk(request.slot, np.array(unread, dtype=np.int64), whole))
            if whole:
                self._reading.popleft()
                self._table.begin(request.slot, request.sampling, request.read, self._stops.start)
        return chunks

    def _is_time_to_read(self) -> bool:
        """Return whether nothing else can be done, reading is due, or there is as much to read as a step takes."""
        if self._steps_since_reading >= self._read_every or not self._table.decoding.any():
            return True
        return sum(len(request.context) - request.read for request in self._reading) >= self._read_tokens

    def _record(
        self, slots: NDArray[np.int64], token_ids: NDArray[np.int64], logprobs: NDArray[np.float32]
    ) -> list[Segment]:
        """Note the sampled tokens; return the segments that end with them, in order of submission."""
        table = self._table
        table.record(slots, token_ids, logprobs)
        table.stop_state[slots] = states = self._stops.advance(table.stop_state[slots], token_ids)
        closed, ended = states == self._stops.closed, self._ends[token_ids]
        finished = slots[closed | ended | (table.count[slots] >= table.limit[slots])]
        table.decoding[finished] = False
        requests = sorted((self._holders[slot] for slot in finished.tolist()), key=lambda request: request.order)
        return [self._segment(request) for request in requests]

    def _segment(self, request: _Request) -> Segment:
        """Return the finished segment of a request, and note that its last token is not read yet."""
        slot, table = request.slot, self._table
        count = int(table.count[slot])
        token_ids, logprobs = table.token_ids[slot, :count].tolist(), table.logprobs[slot, :count].tolist()
        if table.stop_state[slot] == self._stops.closed:
            end = SegmentEnd.STOP_TAG
        else:
            end = SegmentEnd.END_OF_SEQUENCE if self._ends[token_ids[-1]] else SegmentEnd.LENGTH
        segment = request.finish(token_ids, logprobs, end)
        request.read = len(request.context) - 1
        return segment

    def _seat(self, request: _Request, slot: int) -> None:
        """Give a waiting request a slot."""
        request.slot = slot
        self._holders[slot] = request
        self._reader.reserve(slot, len(request.context))
        self._reading.append(request)

    @contextmanager
    def _generating(self) -> Generator[None]:
        """Evaluation mode without gradients; afterwards every module is in the mode it was in before."""
        with _evaluating.holds(self._causal_lm, self._evaluate), torch.no_grad(), self._own_precision():
            yield

    def _own_precision(self) -> AbstractContextManager[Any]:
        """Return a block in which weights of half precision are computed with as they are, autocast or not."""
        half = next(self._causal_lm.parameters()).dtype in HALF_PRECISION
        return torch.autocast(self._device.type, enabled=False) if half else nullcontext()

    def _evaluate(self) -> Callable[[], None]:
        """Put every module into evaluation mode; return what puts those back that were not."""
        training = [module for module in self._modules if module.training]

        def restore() -> None:
            for module in training:
                module.training = True

        for module in training:
            module.training = False
        return restore


def _choose_reader(causal_lm: nn.Module, slots: int, max_length: int) -> tuple[ContextReader, int]:
    """Return the fastest reader that agrees with the model, and the width of the logits."""
    vocabulary = plain_logits(causal_lm, np.zeros(1, dtype=np.int64)).shape[-1]

    def in_rows(forward: PackedForward) -> ContextReader:
        return RowReader(slots, shape_of(causal_lm), forward, max_length)

    def in_pools(forward: PackedForward) -> ContextReader:
        return PackedReader(slots, shape_of(causal_lm), forward)

    forwards = {"layer by layer": LayeredForward, "packed": WholeForward}
    weight = next(causal_lm.parameters())
    # The kernel for rows is one that not every GPU has.
    packed = (in_rows, in_pools) if weight.is_cuda and weight.dtype in HALF_PRECISION else (in_pools,)
    fast: list[tuple[str, Callable[[], ContextReader]]] = [
        (way, lambda read=read, forward=forward: read(forward(causal_lm, max_length)))
        for read in packed
        for way, forward in forwards.items()
    ]
    for way, build in [*fast, ("with a cache", lambda: CacheReader(causal_lm))]:
        try:
            reader = build()
            if is_right(causal_lm, reader, slots, vocabulary):
                return reader, vocabulary
            reason = "its logits differ"
        except Exception as error:
            # Whatever a foreign model raises here, a slower reader remains.
            reason = f"{type(error).__name__}: {one_line(error)}"
        if way != "layer by layer":  # A gain for some kinds of models, whose absence is no news.
            name = type(causal_lm).__name__
            warnings.warn(f"{name} cannot be read {way} ({reason}); generation will be slow", stacklevel=3)
    return PlainReader(causal_lm), vocabulary
