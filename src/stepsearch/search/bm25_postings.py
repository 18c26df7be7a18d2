"""Which documents have which words, on disk.

    starts.npy       int64 [V + 1]: where the postings of each term begin, and where the last one's end
    documents.npy    int32 [P]: the documents that have the term, ascending
    frequencies.npy  uint8, uint16 or uint32 [P]: how often they have it
    lengths.npy      uint8, uint16 or uint32 [N]: how many words each document has
    most.npy         uint32 [V]: the largest of a term's frequencies
    spacing.npy      float32 [V]: the least length of a document for each time that it has the term
    and the words    (bm25_vocabulary)

What is stored does not depend on other documents, so that scores over several such sets are as exact as over one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsearch.data.packed_files import not_permitted
from stepsearch.errors import SearchError
from stepsearch.search.bm25_vocabulary import Vocabulary, map_array

_TYPES = {
    "starts": "i8",
    "documents": "i4",
    "frequencies": "u1 u2 u4",
    "lengths": "u1 u2 u4",
    "most": "u4",
    "spacing": "f4",
}


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """The files' contents; V terms, P postings, N documents."""

    vocabulary: Vocabulary
    starts: NDArray[np.int64]
    documents: NDArray[np.int32]
    frequencies: NDArray[np.unsignedinteger]
    lengths: NDArray[np.unsignedinteger]
    most: NDArray[np.uint32]
    spacing: NDArray[np.float32]

    @classmethod
    def open(cls, folder: Path) -> Postings:
        """Memory-map what `build_postings` wrote.

        Raises:
            SearchError: a file is missing, or the files are not whole.
            DataError: a file may not be read.
        """
        try:
            arrays = {name: map_array(folder / f"{name}.npy") for name in _TYPES}
            vocabulary = Vocabulary.open(folder)
            typed = all(array.dtype.str[1:] in _TYPES[name] for name, array in arrays.items())
            whole = typed and _fit(arrays, len(vocabulary))
        except FileNotFoundError as error:
            raise SearchError(f"the BM25 index {folder} lacks {Path(error.filename).name}") from None
        except PermissionError as error:
            raise not_permitted(error) from None
        except (OSError, ValueError, EOFError, IndexError, TypeError) as error:
            raise SearchError(f"the BM25 index {folder} cannot be read ({error})") from None
        if not whole:
            raise SearchError(f"the BM25 index {folder} is not whole")
        return cls(vocabulary, **arrays)

    def __len__(self) -> int:
        return len(self.lengths)

    def alike(self, words: Sequence[str]) -> list[int]:
        """Return the documents that may consist of just these words: those of the length that have the rarest one."""
        terms = [self.vocabulary.term(word) for word in set(words)]
        lists = [slice(*self.starts[term : term + 2].tolist()) for term in terms if term is not None]
        if not terms or len(lists) < len(terms):
            return []
        documents = self.documents[min(lists, key=lambda here: (here.stop - here.start, here.start))]
        return documents[self.lengths[documents] == len(words)].tolist()


def _fit(arrays: dict[str, NDArray[Any]], terms: int) -> bool:
    count = len(arrays["documents"])
    per_term = len(arrays["starts"]) - 1 == len(arrays["most"]) == len(arrays["spacing"]) == terms
    return per_term and len(arrays["frequencies"]) == count == int(arrays["starts"][-1])
