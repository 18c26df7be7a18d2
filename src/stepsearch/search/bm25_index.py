"""BM25 over postings: exact scores, and the documents that have the best ones."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

import numpy as np

from stepsearch.matching.unspaced import UNSPACED
from stepsearch.search.bm25_builder import build_postings
from stepsearch.search.bm25_maxscore import MaxScore
from stepsearch.search.bm25_postings import Postings
from stepsearch.search.bm25_query import K1, B, Hits, LengthNorm, QueryTerm, Ranker, idf

# With fewer documents numpy is fast enough, and numba takes half a second to import.
COMPILED_FROM = 20_000

# Chinese and Japanese put no spaces between words: ideographs and hiragana are words of their own, as in Lucene's
# standard tokenizer.
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
_ASCII_WORD = re.compile(r"\w+", re.ASCII)
_REMEMBERED_WORDS = 1 << 14
_bound = attrgetter("bound")


def index_terms(text: str) -> list[str]:
    """Return the words of a text as they are indexed and asked for: lower case, no stemming, no stop words left out."""
    # The same words, found faster where only ASCII is.
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text.lower())


class BM25Index:
    """Scores documents, known by their positions, against the terms of a query.

    Its parts are sets of postings whose documents follow each other. Statistics are those of all together, so that
    scores are the same as if they were one.
    """

    def __init__(self, parts: Sequence[Postings], compiled_from: int = COMPILED_FROM) -> None:
        """Take one part or several; from so many documents on they are ranked with numba, where it is installed."""
        self.parts = tuple(parts)
        self._documents = sum(map(len, parts))
        self._average = sum(int(part.lengths.sum(dtype=np.int64)) for part in parts) / self._documents
        self._ranker = _ranker(self.parts, LengthNorm.around(self._average), self._documents >= compiled_from)
        self._find = lru_cache(maxsize=_REMEMBERED_WORDS)(self._find_word)

    @classmethod
    def build(cls, documents: Iterable[Sequence[str]]) -> BM25Index:
        """Index documents given as their terms, in memory.

        Raises:
            SearchError: no document has a term.
        """
        with tempfile.TemporaryDirectory(prefix="stepsearch-") as folder:
            # What is mapped stays there after its file is gone.
            return cls([build_postings(Path(folder), documents)])

    @classmethod
    def open(cls, folder: Path) -> BM25Index:
        """Memory-map the index that `build_postings` wrote.

        Raises:
            SearchError: a file is missing or the files are not whole.
        """
        return cls([Postings.open(folder)])

    def __len__(self) -> int:
        return self._documents

    def best(self, terms: Iterable[str], count: int) -> Hits:
        """Return position and score of at most `count` documents that have a term, best first.

        Of documents with one score the earlier comes first. A term counts as often as it is given; an unknown one not
        at all.
        """
        return self.best_of_each([terms], count)[0]

    def best_of_each(self, queries: Sequence[Iterable[str]], count: int) -> list[Hits]:
        """Return what `best` does for each query; several at once cost less than one by one."""
        if count < 1:
            return [[] for _ in queries]
        return self._ranker.best_of_each([self._query(terms) for terms in queries], count)

    def _query(self, terms: Iterable[str]) -> list[QueryTerm]:
        """Return the known words of a query, first what can give most; of two that give the same the earlier one."""
        counts = Counter(terms)
        found = ((self._find(word), count) for word, count in counts.items())
        return sorted((term.times(count) for term, count in found if term), key=_bound, reverse=True)

    def _find_word(self, word: str) -> QueryTerm | None:
        """Return a word that a query has once; None where no document has it."""
        runs: list[tuple[int, int]] = []
        most, spacing = 0, float("inf")
        for part in self.parts:
            term = part.vocabulary.term(word)
            if term is None:
                runs.append((0, 0))
                continue
            runs.append((int(part.starts[term]), int(part.starts[term + 1])))
            most, spacing = max(most, int(part.most[term])), min(spacing, float(part.spacing[term]))
        if not most:
            return None
        weight = idf(self._documents, sum(stop - start for start, stop in runs))
        # tf / (tf + norm) is 1 / (1 + norm / tf), and norm / tf is made of 1 / tf and |d| / tf.
        bound = weight / (1 + K1 * ((1 - B) / most + B / self._average * spacing))
        return QueryTerm(np.float32(weight), bound, tuple(runs))


def _ranker(parts: Sequence[Postings], norm: LengthNorm, large: bool) -> Ranker:
    if not large or find_spec("numba") is None:
        return MaxScore(parts, norm)
    # Imported here: it is optional, and its import takes long.
    from stepsearch.search.bm25_compiled import CompiledMaxScore

    return CompiledMaxScore(parts, norm)
