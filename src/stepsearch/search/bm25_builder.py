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
from typing import BinaryIO

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
    """Postings of some documents, ordered by term, then document."""

    terms: NDArray[np.int32]
    documents: NDArray[np.int32]
    frequencies: NDArray[np.unsignedinteger]

    def save(self, prefix: Path) -> None:
        for name in ("terms", "documents", "frequencies"):
            np.save(f"{prefix}.{name}.npy", getattr(self, name))

    @classmethod
    def open(cls, prefix: Path) -> _Block:
        return cls(*(map_array(Path(f"{prefix}.{name}.npy")) for name in ("terms", "documents", "frequencies")))


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
        prefixes: list[Path] = []
        for block in _blocks(documents, vocabulary, lengths, block_words):
            prefixes.append(Path(beside) / str(len(prefixes)))
            block.save(prefixes[-1])
        if not vocabulary:
            raise SearchError("there is nothing to index: the documents hold no words")
        write_vocabulary(folder, vocabulary)
        terms = len(vocabulary)
        # From here on the words themselves are not needed, and they are most of the memory.
        vocabulary.clear()
        np.save(folder / "lengths.npy", np.frombuffer(lengths, np.int32))
        _merge(folder, [_Block.open(prefix) for prefix in prefixes], terms, merging, range_postings)
    return Postings.open(folder)


def _blocks(
    documents: Iterable[Sequence[str]], vocabulary: defaultdict[str, int], lengths: array[int], block_words: int
) -> Iterator[_Block]:
    """Yield the blocks, filling vocabulary and lengths on the way."""
    words, first = array("i"), 0
    for document in documents:
        words.extend(map(vocabulary.__getitem__, document))
        lengths.append(len(document))
        if len(words) >= block_words:
            yield _counted(words, lengths, first)
            words, first = array("i"), len(lengths)
    if words:
        yield _counted(words, lengths, first)


def _counted(words: array[int], lengths: array[int], first: int) -> _Block:
    """Return the block of the documents from `first` on, whose words follow each other in `words`."""
    # A copy: an array that numpy looks at cannot grow.
    counts = np.array(lengths[first:], np.int64)
    keys = np.frombuffer(words, np.int32).astype(np.int64) << 32
    keys |= np.repeat(np.arange(first, first + len(counts)), counts)
    keys.sort()
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    frequencies = np.diff(starts, append=len(keys))
    keys = keys[starts]
    frequencies = frequencies.astype(np.min_scalar_type(frequencies.max()))
    return _Block((keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32), frequencies)


def _merge(folder: Path, blocks: Sequence[_Block], terms: int, progress: Progress | None, range_postings: int) -> None:
    """Write the postings of all blocks, range of terms by range of terms."""
    counts = np.zeros(terms, np.int64)
    for block in blocks:
        found = np.bincount(block.terms)
        counts[: len(found)] += found
    starts = starts_of(counts)
    lengths = map_array(folder / "lengths.npy")
    most, shortest = np.empty(terms, np.uint32), np.empty(terms, np.int32)
    kind = np.result_type(*(block.frequencies.dtype for block in blocks))
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
            shortest[first:last] = np.minimum.reduceat(lengths[documents], runs)
            if progress is not None:
                progress(float(starts[last] / starts[-1]))
    for name, content in (("starts", starts), ("most", most), ("shortest", shortest)):
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
    parts = [(block, slice(*np.searchsorted(block.terms, (first, last)))) for block in blocks]
    # Blocks are in the order of their documents, and a stable sort keeps it. It finds sorted runs and merges them.
    order = np.argsort(np.concatenate([block.terms[part] for block, part in parts]), kind="stable")
    documents = np.concatenate([block.documents[part] for block, part in parts])[order]
    frequencies = np.concatenate([block.frequencies[part] for block, part in parts], dtype=kind)[order]
    return documents, frequencies


def _array_file(path: Path, kind: np.dtype[np.generic], count: int) -> BinaryIO:
    """Return a file whose content is to be an array that is written piece by piece."""
    file = path.open("wb")
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (int(count),)}
    np.lib.format.write_array_header_1_0(file, header)
    return file
