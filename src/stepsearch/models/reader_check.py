"""Does a reader give the logits that the model gives? Asked once, when an engine is built."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stepsearch.models.context_readers import ContextReader
from stepsearch.models.packed_step import Chunk, Reading

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_COARSE_TOLERANCE = 5e-2


def plain_logits(causal_lm: nn.Module, token_ids: NDArray[np.int64]) -> Tensor:
    """Return logits [n, V] of one sequence, read in an ordinary forward pass."""
    device = next(causal_lm.parameters()).device
    return causal_lm(input_ids=torch.from_numpy(token_ids).to(device)[None], use_cache=False).logits[0]


def largest_error(causal_lm: nn.Module, reader: ContextReader, slots: int, vocabulary: int) -> float:
    """Return by how much the reader's logits are off, relative to the largest of the model's own.

    Up to three sequences of different length read a first turn, two tokens each, and a second turn, together.
    """
    rows = min(3, slots)
    noise = np.random.default_rng(0)
    sequences = [noise.integers(0, vocabulary, size=9 + 2 * row) for row in range(rows)]
    expected = [plain_logits(causal_lm, sequence) for sequence in sequences]
    errors: list[Tensor] = []
    for start, stop in ((0, 3), (3, 4), (4, 5), (5, 0)):
        parts = [(row + start, row + stop if stop else len(sequences[row])) for row in range(rows)]
        parts = [(0 if start == 0 else first, last) for first, last in parts]
        found = reader.read(_reading(sequences, parts))
        wanted = torch.stack([expected[row][last - 1] for row, (_, last) in enumerate(parts)])
        errors.append((found.float() - wanted.float()).abs().max())
    for row in range(rows):
        reader.free(row)
    scale = max(float(logits.float().abs().max()) for logits in expected)
    return float(torch.stack(errors).max()) / max(scale, 1e-6)


def is_right(causal_lm: nn.Module, reader: ContextReader, slots: int, vocabulary: int) -> bool:
    """Return whether the reader agrees with the model, within what its number type allows."""
    tolerance = _TOLERANCE.get(next(causal_lm.parameters()).dtype, _COARSE_TOLERANCE)
    return largest_error(causal_lm, reader, slots, vocabulary) <= tolerance


def _reading(sequences: list[NDArray[np.int64]], parts: list[tuple[int, int]]) -> Reading:
    """Return those parts of the sequences: a single token is decoded, more are a chunk."""
    single = [row for row, (first, last) in enumerate(parts) if last - first == 1]
    chunks = [
        Chunk(row, sequences[row][first:last], True) for row, (first, last) in enumerate(parts) if last - first > 1
    ]
    return Reading(
        np.array(single, dtype=np.int64),
        np.array([sequences[row][parts[row][0]] for row in single], dtype=np.int64),
        chunks,
    )
