"""Writing postings of any number of documents within bounded memory.

Documents are counted in blocks of about 8 million words. A block's postings, sorted by term and document, go to disk.
Then the blocks are merged, some millions of postings at a time: terms are numbered in order of appearance, so that the
terms of a range lie together in every block, and files are read and written from front to end.

Memory: the vocabulary (about 150 bytes a distinct word), 4 bytes a document, 8 bytes a word of a block three times
over (0.2 GB), and 30 bytes a posting of a merged range, which holds 4 million postings or those of one term.
"""

from __future__ import annotations

import tempfile
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stepsearch.errors import SearchError
from stepsearch.search.bm25_postings import Postings
from stepsearch.search.bm25_vocabulary import map_array, starts_of, write_vocabulary

BLOCK_WORDS, RANGE_POSTINGS = 8_000_000, 4_000_000

Progress = Callable[[float], None]
"""Told the share of the merging that is done by now."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Postings of some documents on disk, ordered by term, then document.

    Only what is asked for is read, and not mapped, so that merging holds no more than one range in memory.
    """

    prefix: Path
    kind: np.dtype[np.unsignedinteger]

    @classmethod
    def write(
        cls,
        prefix: Path,
        terms: NDArray[np.int32],
        documents: NDArray[np.int32],
        frequencies: NDArray[np.unsignedinteger],
    ) -> _Block:
        """Write the postings of some documents into files whose names begin so."""
        for name, content in (("terms", terms), ("documents", documents), ("frequencies", frequencies)):
            content.tofile(f"{prefix}.{name}")
        return cls(prefix, frequencies.dtype)

    def terms(self) -> NDArray[np.int32]:
        """Return the term of every posting, memory-mapped."""
        return np.memmap(f"{self.prefix}.terms", np.int32, "r").view(np.ndarray)

    def documents(self, first: int, last: int) -> NDArray[np.int32]:
        """Return the documents of a range of postings."""
        return self._read("documents", np.dtype(np.int32), first, last)

    def frequencies(self, first: int, last: int) -> NDArray[np.unsignedinteger]:
        """Return the frequencies of a range of postings."""
        return self._read("frequencies", self.kind, first, last)

    def _read(self, name: str, kind: np.dtype[Any], first: int, last: int) -> NDArray[Any]:
        return np.fromfile(f"{self.prefix}.{name}", kind, last - first, offset=first * kind.itemsize)


def build_postings(
    folder: Path,
    documents: Iterable[Sequence[str]],
    merging: Progress | None = None,
    block_words: int = BLOCK_WORDS,
    range_postings: int = RANGE_POSTINGS,
) -> Postings:
    """Write the postings of documents, given as their words, into a folder, and open them.

    Args:
        folder: is there, and gets the files that `Postings.open` reads.
        documents: read once.
        merging: is told how far the merging is, once all documents are read.
        block_words: how many words are counted at a time.
        range_postings: how many postings are merged at a time.

    Raises:
        SearchError: no document has a word.
    """
    vocabulary: defaultdict[str, int] = defaultdict()
    # Numbers in order of appearance: they do not depend on how strings are hashed.
    vocabulary.default_factory = vocabulary.__len__
    with tempfile.TemporaryDirectory(dir=folder, prefix=".blocks.") as beside:
        lengths = array("i")
        blocks = list(_blocks(Path(beside), documents, vocabulary, lengths, block_words))
        if not vocabulary:
            raise SearchError("there is nothing to index: the documents hold no words")
        write_vocabulary(folder, vocabulary)
        terms = len(vocabulary)
        # From here on the words themselves are not needed, and they are most of the memory.
        vocabulary.clear()
        np.save(folder / "lengths.npy", _smallest(np.frombuffer(lengths, np.int32)))
        _merge(folder, blocks, terms, merging, range_postings)
    return Postings.open(folder)


def _blocks(
    folder: Path,
    documents: Iterable[Sequence[str]],
    vocabulary: defaultdict[str, int],
    lengths: array[int],
    block_words: int,
) -> Iterator[_Block]:
    """Write blocks into a folder and yield them, filling vocabulary and lengths on the way."""
    words, first = array("i"), 0
    for document in documents:
        words.extend(map(vocabulary.__getitem__, document))
        lengths.append(len(document))
        if len(words) >= block_words:
            yield _counted(folder, words, lengths, first)
            words, first = array("i"), len(lengths)
    if words:
        yield _counted(folder, words, lengths, first)


def _counted(folder: Path, words: array[int], lengths: array[int], first: int) -> _Block:
    """Write the block of the documents from `first` on, whose words follow each other in `words`."""
    # A copy: an array that numpy looks at cannot grow.
    counts = np.array(lengths[first:], np.int64)
    keys = np.frombuffer(words, np.int32).astype(np.int64) << 32
    keys |= np.repeat(np.arange(first, first + len(counts)), counts)
    keys.sort()
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    frequencies = np.diff(starts, append=len(keys))
    keys = keys[starts]
    terms, documents = (keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32)
    return _Block.write(folder / str(first), terms, documents, _smallest(frequencies))


def _smallest(counts: NDArray[np.integer]) -> NDArray[np.unsignedinteger]:
    """Return counts in the smallest type that holds them."""
    return counts.astype(np.min_scalar_type(counts.max()))


def _merge(folder: Path, blocks: Sequence[_Block], terms: int, progress: Progress | None, range_postings: int) -> None:
    """Write the postings of all blocks, range of terms by range of terms."""
    counts = np.zeros(terms, np.int64)
    for block in blocks:
        found = np.bincount(block.terms())
        counts[: len(found)] += found
    starts = starts_of(counts)
    lengths = map_array(folder / "lengths.npy")
    most, spacing = np.empty(terms, np.uint32), np.empty(terms, np.float32)
    kind = np.result_type(*(block.kind for block in blocks))
    with ExitStack() as files:
        documents_file = files.enter_context(_array_file(folder / "documents.npy", np.dtype(np.int32), starts[-1]))
        frequencies_file = files.enter_context(_array_file(folder / "frequencies.npy", kind, starts[-1]))
        for first, last in _ranges(starts, range_postings):
            documents, frequencies = _merged(blocks, first, last, kind)
            documents.tofile(documents_file)
            frequencies.tofile(frequencies_file)
            # Every term has a posting, so that no run is empty.
            runs = starts[first:last] - starts[first]
            most[first:last] = np.maximum.reduceat(frequencies, runs)
            spacings = np.divide(lengths[documents], frequencies, dtype=np.float32)
            spacing[first:last] = np.minimum.reduceat(spacings, runs)
            if progress is not None:
                progress(float(starts[last] / starts[-1]))
    for name, content in (("starts", starts), ("most", most), ("spacing", spacing)):
        np.save(folder / f"{name}.npy", content)


def _ranges(starts: NDArray[np.int64], postings: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of terms with at most so many postings, or a single term."""
    first, terms = 0, len(starts) - 1
    while first < terms:
        fitting = int(np.searchsorted(starts, starts[first] + postings, side="right")) - 1
        last = max(fitting, first + 1)
        yield first, last
        first = last


def _merged(
    blocks: Sequence[_Block], first: int, last: int, kind: np.dtype[np.unsignedinteger]
) -> tuple[NDArray[np.int32], NDArray[np.unsignedinteger]]:
    """Return documents and frequencies of a range of terms, ordered by term, then document."""
    # Of one type: numpy would convert all the block's terms otherwise.
    ends = np.array([first, last], np.int32)
    listed = [(block, block.terms()) for block in blocks]
    parts = [(block, terms, *np.searchsorted(terms, ends).tolist()) for block, terms in listed]
    # Blocks are in the order of their documents, and a stable sort keeps it. It finds sorted runs and merges them.
    order = np.argsort(np.concatenate([terms[start:stop] for _, terms, start, stop in parts]), kind="stable")
    documents = np.concatenate([block.documents(start, stop) for block, _, start, stop in parts])[order]
    frequencies = np.concatenate([block.frequencies(start, stop) for block, _, start, stop in parts], dtype=kind)[order]
    return documents, frequencies


def _array_file(path: Path, kind: np.dtype[np.generic], count: int) -> BinaryIO:
    """Return a file whose content is to be an array that is written piece by piece."""
    file = path.open("wb")
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (int(count),)}
    np.lib.format.write_array_header_1_0(file, header)
    return file
