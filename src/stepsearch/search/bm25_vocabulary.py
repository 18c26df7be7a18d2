"""The words of an index on disk, found without reading them all.

words.bin        the words in the order of their code points, UTF-8, one after the other
word_starts.npy  int64 [V + 1]: where each begins, and the file's end
word_terms.npy   int32 [V]: the number that each has in the index
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORDS_FILE, STARTS_FILE, TERMS_FILE = "words.bin", "word_starts.npy", "word_terms.npy"
_CHUNK = 1 << 16


class Vocabulary:
    """The words of an index in their order, each with its number there."""

    def __init__(self, words: mmap.mmap | bytes, starts: NDArray[np.int64], terms: NDArray[np.int32]) -> None:
        """Take the files' contents."""
        # Elements of a memoryview are plain numbers, and several times as fast to get as numpy's.
        self._words, self._starts, self._terms = words, starts.data, terms.data

    @classmethod
    def open(cls, folder: Path) -> Vocabulary:
        """Memory-map what `write_vocabulary` wrote.

        Raises:
            OSError: a file is missing.
            ValueError: a file is cut off, or they do not fit each other.
        """
        starts, terms = map_array(folder / STARTS_FILE), map_array(folder / TERMS_FILE)
        with (folder / WORDS_FILE).open("rb") as file:
            words = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(starts) != len(terms) + 1 or starts[-1] != len(words):
            raise ValueError("its words do not fit each other")
        return cls(words, starts, terms)

    def __len__(self) -> int:
        return len(self._terms)

    def __getitem__(self, position: int) -> bytes:
        return self._words[self._starts[position] : self._starts[position + 1]]

    def term(self, word: str) -> int | None:
        """Return the number of a word, None where the index does not have it."""
        encoded = word.encode("utf-8", "surrogatepass")
        # Words in the order of their code points are in the order of their UTF-8 bytes, too.
        position = bisect_left(self, encoded)
        return self._terms[position] if position < len(self) and self[position] == encoded else None


def write_vocabulary(folder: Path, words: Iterable[str]) -> None:
    """Write words, given in the order of their numbers."""
    numbered = list(words)
    order = sorted(range(len(numbered)), key=numbered.__getitem__)
    lengths = np.empty(len(order), np.int64)
    with (folder / WORDS_FILE).open("wb") as file:
        for first in range(0, len(order), _CHUNK):
            encoded = [numbered[term].encode() for term in order[first : first + _CHUNK]]
            lengths[first : first + len(encoded)] = [len(word) for word in encoded]
            file.write(b"".join(encoded))
    np.save(folder / STARTS_FILE, starts_of(lengths))
    np.save(folder / TERMS_FILE, np.array(order, np.int32))


def starts_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of several runs of these lengths begins, and the end of the last one ([V + 1])."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def map_array(path: Path) -> NDArray[Any]:
    """Memory-map an array; a plain view, for slicing a numpy.memmap costs more than scoring a rare word.

    Raises:
        OSError: the file is missing.
        ValueError: it is cut off, or no array.
    """
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
