"""Vectors of passages, known by their positions, and the nearest of them.

Up to COMPRESSED_FROM vectors all are compared: by numpy, whose matrix product was four times as fast as faiss' flat
index (100,000 vectors of 384 numbers, batches of 256). Beyond that faiss looks in some of about sqrt(N) groups of
vectors, kept in one byte a dimension; what it finds is scored again with the vectors themselves.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsearch.errors import SearchError
from stepsearch.search.encoder import Vectors

COMPRESSED_FROM = 100_000
_BLOCK = 65_536
# Found beyond what is asked for, so that scores of reduced precision do not decide who is left out.
_SPARE = 16
# Scores are rounded: the last bits of a product depend on how many others were computed beside it.
DECIMALS = 5
_SLACK = 2 * 10.0**-DECIMALS
_TRAINING_VECTORS_PER_GROUP = 64

Hits = list[tuple[int, float]]


class DenseIndex:
    """Finds the vectors with the largest dot products.

    Args:
        vectors: [N, dimensions] float32, in memory or memory-mapped.
        compressed: faiss' index over all of them, where there is one.
    """

    def __init__(self, vectors: Vectors, compressed: Any = None) -> None:
        self._vectors = vectors
        self._compressed = compressed
        self._added = vectors[:0]

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self._vectors.shape[1]

    def __len__(self) -> int:
        return len(self._vectors) + len(self._added)

    def add(self, vectors: Vectors) -> None:
        """Append vectors, in memory."""
        self._added = np.concatenate([self._added, vectors])

    def blocks(self) -> Iterator[Vectors]:
        """Yield all vectors in their order, some at a time."""
        for part in (self._vectors, self._added):
            yield from (part[start : start + _BLOCK] for start in range(0, len(part), _BLOCK))

    def best(self, queries: Vectors, count: int) -> list[Hits]:
        """Return, for each query, position and score of at most `count` vectors, best first.

        Of equal scores the earlier position comes first.

        Args:
            queries: [queries, dimensions] float32.
            count: at least 1.
        """
        candidates = self._candidates(queries, count)
        return [self._ranked(query, found, count) for query, found in zip(queries, candidates, strict=True)]

    def _candidates(self, queries: Vectors, count: int) -> list[NDArray[np.int64]]:
        """Return positions that hold the best of each query, in no order."""
        if self._compressed is None:
            first = _all_compared(queries, self._vectors, count)
        else:
            _, positions = self._compressed.search(np.ascontiguousarray(queries), count + _SPARE)
            first = [found[found >= 0] for found in positions]
        if not len(self._added):
            return first
        later = _all_compared(queries, self._added, count)
        return [np.concatenate([a, b + len(self._vectors)]) for a, b in zip(first, later, strict=True)]

    def _ranked(self, query: Vectors, positions: NDArray[np.int64], count: int) -> Hits:
        scores = np.einsum("nd,d->n", self._rows(positions), query).round(DECIMALS)
        order = np.lexsort((positions, -scores))[:count]
        return list(zip(positions[order].tolist(), scores[order].tolist(), strict=True))

    def _rows(self, positions: NDArray[np.int64]) -> Vectors:
        if not len(self._added):
            return self._vectors[positions]
        here = len(self._vectors)
        rows = np.empty((len(positions), self.dimension), dtype=np.float32)
        rows[positions < here] = self._vectors[positions[positions < here]]
        rows[positions >= here] = self._added[positions[positions >= here] - here]
        return rows


def _all_compared(queries: Vectors, vectors: Vectors, count: int) -> list[NDArray[np.int64]]:
    """Return, for each query, the positions of its best vectors, with all that tie with the last of them."""
    positions: list[list[NDArray[np.int64]]] = [[] for _ in queries]
    scores: list[list[Vectors]] = [[] for _ in queries]
    for start in range(0, len(vectors), _BLOCK):
        products = queries @ vectors[start : start + _BLOCK].T
        for place, row in enumerate(products):
            found = _not_below_the_last(row, count)
            positions[place].append(found + start)
            scores[place].append(row[found])
    merged = [(np.concatenate(p), np.concatenate(s)) for p, s in zip(positions, scores, strict=True)]
    return [found[_not_below_the_last(values, count)] for found, values in merged]


def _not_below_the_last(scores: Vectors, count: int) -> NDArray[np.int64]:
    """Return where the scores are that are, up to rounding, no less than the `count`-th largest."""
    if len(scores) <= count:
        return np.arange(len(scores))
    last = float(np.partition(scores, -count)[-count])
    return np.flatnonzero(scores >= last - _SLACK * max(1.0, abs(last)))


def groups_of(vectors: int) -> int:
    """Return in how many groups that many vectors are kept: the power of two nearest to their square root."""
    return 2 ** round(math.log2(math.sqrt(vectors)))


def probes_of(groups: int) -> int:
    """Return in how many groups of so many a query is looked for: an eighth of 256, a sixteenth of 1,024."""
    return min(2 * math.isqrt(groups), groups)


def faiss_kind(vectors: int) -> str:
    """Return faiss' name of the index over that many vectors."""
    return f"IVF{groups_of(vectors)},SQ8"


def build_compressed(vectors: Vectors, path: Path, kind: str) -> None:
    """Write faiss' index of a kind over vectors to `path`; equal vectors make equal indexes.

    Raises:
        SearchError: faiss is not installed.
    """
    faiss = import_faiss()
    index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    sample = min(len(vectors), index.nlist * _TRAINING_VECTORS_PER_GROUP)
    rows = np.sort(np.random.default_rng(0).choice(len(vectors), sample, replace=False))
    index.train(np.ascontiguousarray(vectors[rows]))
    for start in range(0, len(vectors), _BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + _BLOCK]))
    faiss.write_index(index, str(path))


def open_compressed(path: Path) -> Any:
    """Memory-map what `build_compressed` wrote.

    Raises:
        SearchError: faiss is not installed, or the file is damaged.
    """
    faiss = import_faiss()
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise SearchError(f"the index {path} cannot be read: {str(error).splitlines()[0]}") from None
    index.nprobe = probes_of(index.nlist)
    return index


def import_faiss() -> Any:
    """Return faiss.

    Raises:
        SearchError: it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError:
        raise SearchError(
            f'more than {COMPRESSED_FROM:,} passages are searched with faiss: pip install "stepsearch[dense]"'
        ) from None
