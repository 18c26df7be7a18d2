"""BM25 over postings: exact scores, and the documents that have the best ones.

score(q, d) = sum_t idf(t) * tf / (tf + k1 * (1 - b + b * |d| / average |d|))
idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))                                   (Lucene's variant)

Terms are taken from the one that can add most to the one that can add least. As soon as those that are left cannot lift
a new document among the best, no new ones are looked at, and only those found so far are scored to the end (MaxScore;
Turtle and Flood, 1995). So a query costs what its rare words cost, and its frequent ones are looked up.
"""

from __future__ import annotations

import math
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stepsearch.search.bm25_builder import build_postings
from stepsearch.search.bm25_postings import Postings
from stepsearch.search.bm25_vocabulary import starts_of

# Lucene's own defaults.
K1 = 1.2
B = 0.75

_WORD = re.compile(r"\w+")
# More than sums of 32-bit floats are ever off, so that rounding never leaves a document out.
_SLACK = 1 + 1e-4
_REMEMBERED_WORDS = 1 << 14

Hits = list[tuple[int, float]]
"""Positions of documents with their scores, best first."""


def index_terms(text: str) -> list[str]:
    """Return the words of a text as they are indexed and asked for: lower case, no stemming, no stop words left out."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, slots=True, eq=False)
class _Listed:
    """The documents of one part of the index that have a term.

    Attributes:
        offset: position of the part's first document.
        documents: counted from there, ascending.
        frequencies: how often they have it.
    """

    offset: int
    documents: NDArray[np.int32]
    frequencies: NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True, eq=False)
class _QueryTerm:
    """A word of a query.

    Attributes:
        weight: idf times how often the query has it.
        bound: what no document gets more than from it.
        lists: the documents that have it.
    """

    weight: np.float32
    bound: float
    lists: tuple[_Listed, ...]


class BM25Index:
    """Scores documents, known by their positions, against the terms of a query.

    Its parts are sets of postings whose documents follow each other. Statistics are those of all together, so that
    scores are the same as if they were one.
    """

    def __init__(self, parts: Sequence[Postings]) -> None:
        """Take one part or several."""
        self.parts = tuple(parts)
        lengths = np.concatenate([part.lengths for part in parts])
        self._offsets = starts_of(np.array([len(part) for part in parts])).tolist()
        average = int(lengths.sum(dtype=np.int64)) / len(lengths)
        self._average = average
        # [N] float32: what stands beside tf below the fraction bar.
        self._norms = _norms(lengths, average)
        self._find = lru_cache(maxsize=_REMEMBERED_WORDS)(self._find_word)
        self._own = threading.local()

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
        return len(self._norms)

    def best(self, terms: Iterable[str], count: int) -> Hits:
        """Return position and score of at most `count` documents that have a term, best first.

        Of documents with one score the earlier comes first. A term counts as often as it is given; an unknown one not
        at all.
        """
        query = self._query(terms)
        if not query or count < 1:
            return []
        # Taken away while it is in use: what an interrupted search leaves in it is not for the next one.
        scores: NDArray[np.float32] | None = self._own.__dict__.pop("scores", None)
        if scores is None:
            scores = np.zeros(len(self), np.float32)
        left = np.cumsum([term.bound for term in reversed(query)])[::-1].tolist()
        found, taken, least = self._collect(query, left, count, scores)
        values = scores[found]
        scores[found] = 0
        self._own.scores = scores
        for term, bound in zip(query[taken:], left[taken:], strict=True):
            promising = values + bound * _SLACK >= least
            found, values = found[promising], values[promising]
            self._look_up(term, found, values)
            least = _least_of_best(values, count)
        return _sorted_best(found, values, count)

    def _collect(
        self, query: Sequence[_QueryTerm], left: Sequence[float], count: int, scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], int, float]:
        """Score the documents of as many terms as may bring one that is among the best.

        Returns:
            The documents, how many terms they were scored by, and a score that the best have at least.
        """
        found, least = np.empty(0, np.int32), 0.0
        for taken, term in enumerate(query):
            # What could still come has to beat what the terms so far can have given, or it is not worth a look.
            if taken and left[taken] * _SLACK < left[0] - left[taken] and len(found) >= count:
                least = _least_of_best(scores[found], count)
                if left[taken] * _SLACK < least:
                    return found, taken, least
            found = np.concatenate([found, *(self._add(term, listed, scores) for listed in term.lists)])
        return found, len(query), least

    def _add(self, term: _QueryTerm, listed: _Listed, scores: NDArray[np.float32]) -> NDArray[np.int32]:
        """Add what a term gives to its documents; returns those that had nothing so far."""
        here = slice(listed.offset, None)
        gained = _gained(term.weight, listed.frequencies, self._norms[here][listed.documents])
        before = scores[here][listed.documents]
        scores[here][listed.documents] = before + gained
        return listed.documents[before == 0] + np.int32(listed.offset)

    def _look_up(self, term: _QueryTerm, found: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        """Add what a term gives to the values of some documents."""
        for listed in term.lists:
            wanted = found - np.int32(listed.offset)
            # Of one type: numpy would convert the whole list otherwise.
            places = np.searchsorted(listed.documents, wanted)
            places[places == len(listed.documents)] = 0
            has = np.flatnonzero(listed.documents[places] == wanted)
            values[has] += _gained(term.weight, listed.frequencies[places[has]], self._norms[found[has]])

    def _query(self, terms: Iterable[str]) -> list[_QueryTerm]:
        """Return the known words of a query, first what can give most; of two that give the same the earlier one."""
        counts = Counter(terms)
        found = ((self._find(word), count) for word, count in counts.items())
        query = [_QueryTerm(np.float32(weight * n), bound * n, lists) for (weight, bound, lists), n in found if lists]
        return sorted(query, key=lambda term: -term.bound)

    def _find_word(self, word: str) -> tuple[float, float, tuple[_Listed, ...]]:
        """Return a word's idf, the most that a document gets from it, and its documents."""
        lists: list[_Listed] = []
        most, shortest = 0, 0
        for part, offset in zip(self.parts, self._offsets, strict=False):
            term = part.vocabulary.term(word)
            if term is None:
                continue
            here = slice(int(part.starts[term]), int(part.starts[term + 1]))
            most = max(most, int(part.most[term]))
            shortest = min(shortest, int(part.shortest[term])) if lists else int(part.shortest[term])
            lists.append(_Listed(offset, part.documents[here], part.frequencies[here]))
        frequency = sum(len(listed.documents) for listed in lists)
        weight = math.log(1 + (len(self) - frequency + 0.5) / (frequency + 0.5))
        norm = K1 * (1 - B + B * shortest / self._average)
        return weight, weight * most / (most + norm), tuple(lists)


def _norms(lengths: NDArray[np.int32], average: float) -> NDArray[np.float32]:
    norms = lengths.astype(np.float32)
    norms *= np.float32(K1 * B / average)
    norms += np.float32(K1 * (1 - B))
    return norms


def _gained(
    weight: np.float32, frequencies: NDArray[np.unsignedinteger], norms: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return what documents get from a term; `norms` is overwritten."""
    gained = frequencies.astype(np.float32)
    norms += gained
    gained /= norms
    gained *= weight
    return gained


def _least_of_best(values: NDArray[np.float32], count: int) -> float:
    """Return the `count`-th best value, 0 where there are not so many."""
    return float(np.partition(values, -count)[-count]) if len(values) >= count else 0.0


def _sorted_best(found: NDArray[np.int32], values: NDArray[np.float32], count: int) -> Hits:
    best = np.flatnonzero(values >= _least_of_best(values, count))
    found, values = found[best], values[best]
    order = np.lexsort((found, -values))[:count]
    return list(zip(found[order].tolist(), values[order].tolist(), strict=True))
