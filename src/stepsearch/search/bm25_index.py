"""The BM25 index over documents given as words: built, saved, memory-mapped and asked with bm25s.

score(q, d) = sum_t idf(t) * tf / (tf + k1 * (1 - b + b * |d| / average |d|))
idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))                    (bm25s's method "lucene")
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stepsearch.errors import SearchError

if TYPE_CHECKING:
    import bm25s

# Lucene's own defaults.
K1 = 1.2
B = 0.75

_WORD = re.compile(r"\w+")


def index_terms(text: str) -> list[str]:
    """Return the words of a text as they are indexed and asked for: lower case, no stemming, no stop words left out."""
    return _WORD.findall(text.lower())


class BM25Index:
    """Scores documents, known by their positions, against the terms of a query."""

    def __init__(self, scorer: bm25s.BM25) -> None:
        self._scorer = scorer

    @classmethod
    def build(cls, documents: Iterable[Sequence[str]], k1: float = K1, b: float = B) -> BM25Index:
        """Index documents given as their terms.

        Raises:
            SearchError: no document has a term.
        """
        import bm25s  # Slow to import where numba is installed.

        # It asks for debug messages, which would end up in the training log.
        logging.getLogger("bm25s").setLevel(logging.WARNING)
        vocabulary: dict[str, int] = {}
        # Ids in order of appearance: bm25s's own vocabulary depends on the hash seed, and so would the files.
        ids = [[vocabulary.setdefault(term, len(vocabulary)) for term in document] for document in documents]
        if not vocabulary:
            raise SearchError("there is nothing to index: the documents hold no words")
        scorer = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numpy")
        scorer.index((ids, vocabulary), create_empty_token=False, show_progress=False)
        return cls(scorer)

    @classmethod
    def open(cls, folder: Path) -> BM25Index:
        """Memory-map the index that `save` wrote.

        Raises:
            SearchError: a file is missing or the files are not whole.
        """
        import bm25s

        try:
            scorer = bm25s.BM25.load(folder, mmap=True, show_progress=False)
            # Plain views of the same memory map: slicing a numpy.memmap costs more than scoring a rare word.
            arrays = {name: np.asarray(scorer.scores[name]) for name in ("data", "indices", "indptr")}
            whole = len(arrays["data"]) == len(arrays["indices"]) == int(arrays["indptr"][-1])
            whole = whole and len(arrays["indptr"]) == len(scorer.vocab_dict) + 1
        except (OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise SearchError(f"the BM25 index {folder} cannot be read ({error})") from None
        if not whole:
            raise SearchError(f"the BM25 index {folder} is not whole")
        scorer.scores.update(arrays)
        return cls(scorer)

    def save(self, folder: Path) -> None:
        """Write the index into `folder`."""
        self._scorer.save(folder, show_progress=False)

    def __len__(self) -> int:
        return int(self._scorer.scores["num_docs"])

    def best(self, terms: Iterable[str], count: int) -> list[tuple[int, float]]:
        """Return position and score of at most `count` documents that have a term, best first.

        Of documents with one score the earlier comes first. A term counts as often as it is given; an unknown one not
        at all.
        """
        ids = [self._scorer.vocab_dict[term] for term in terms if term in self._scorer.vocab_dict]
        if not ids or count < 1:
            return []
        # Not bm25s's own selection: which of several equal scores it returns is left to chance.
        scores = self._scorer.get_scores_from_ids(ids)
        count = min(count, len(scores))
        least = np.partition(scores, -count)[-count]
        found = np.flatnonzero(scores >= least) if least > 0 else np.flatnonzero(scores)
        found = found[np.argsort(-scores[found], kind="stable")[:count]]
        return list(zip(found.tolist(), scores[found].tolist(), strict=True))
