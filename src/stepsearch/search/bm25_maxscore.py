"""The best documents of a query with numpy, term by term.

Terms are taken from the one that can add most to the one that can add least. As soon as those that are left cannot lift
a new document among the best, no new ones are looked at, and only those found so far are scored to the end (MaxScore;
Turtle and Flood, 1995). So a query costs what its rare words cost, and its frequent ones are looked up.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stepsearch.search.bm25_postings import Postings
from stepsearch.search.bm25_query import SLACK, Hits, LengthNorm, QueryTerm, gained
from stepsearch.search.bm25_vocabulary import starts_of


class MaxScore:
    """Ranks with a buffer of 4 bytes a document for every thread that searches."""

    def __init__(self, parts: Sequence[Postings], norm: LengthNorm) -> None:
        """Take the parts of an index."""
        self._parts, self._norm = parts, norm
        self._offsets: list[int] = starts_of(np.array([len(part) for part in parts])).tolist()
        self._own = threading.local()

    def best_of_each(self, queries: Sequence[Sequence[QueryTerm]], count: int) -> list[Hits]:
        """Return at most `count` documents for each query; its terms come in the order of falling bounds."""
        return [self._best(query, count) if query else [] for query in queries]

    def _best(self, query: Sequence[QueryTerm], count: int) -> Hits:
        # Taken away while it is in use: what an interrupted search leaves in it is not for the next one.
        scores: NDArray[np.float32] | None = self._own.__dict__.pop("scores", None)
        if scores is None:
            scores = np.zeros(self._offsets[-1], np.float32)
        left = np.cumsum([term.bound for term in reversed(query)])[::-1].tolist()
        found, taken, least = self._collect(query, left, count, scores)
        values = scores[found]
        scores[found] = 0
        self._own.scores = scores
        for term, bound in zip(query[taken:], left[taken:], strict=True):
            promising = values + bound * SLACK >= least
            found, values = found[promising], values[promising]
            self._look_up(term, found, values)
            least = _least_of_best(values, count)
        return _sorted_best(found, values, count)

    def _collect(
        self, query: Sequence[QueryTerm], left: Sequence[float], count: int, scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], int, float]:
        """Score the documents of as many terms as may bring one that is among the best.

        Returns:
            The documents, how many terms they were scored by, and a score that the best have at least.
        """
        found, least = np.empty(0, np.int32), 0.0
        for taken, term in enumerate(query):
            # What could still come has to beat what the terms so far can have given, or it is not worth a look.
            if taken and left[taken] * SLACK < left[0] - left[taken] and len(found) >= count:
                least = _least_of_best(scores[found], count)
                if left[taken] * SLACK < least:
                    return found, taken, least
            found = np.concatenate([found, *self._add(term, scores)])
        return found, len(query), least

    def _add(self, term: QueryTerm, scores: NDArray[np.float32]) -> list[NDArray[np.int32]]:
        """Add what a term gives to its documents; returns those that had nothing so far."""
        new: list[NDArray[np.int32]] = []
        for part, offset, (start, stop) in zip(self._parts, self._offsets, term.runs, strict=False):
            documents = part.documents[start:stop]
            gains = gained(term.weight, part.frequencies[start:stop], self._norm.of(part.lengths[documents]))
            before = scores[offset:][documents]
            scores[offset:][documents] = before + gains
            new.append(documents[before == 0] + np.int32(offset))
        return new

    def _look_up(self, term: QueryTerm, found: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        """Add what a term gives to the values of some documents."""
        for part, offset, (start, stop) in zip(self._parts, self._offsets, term.runs, strict=False):
            if start == stop:
                continue
            documents, wanted = part.documents[start:stop], found - np.int32(offset)
            # Of one type: numpy would convert the whole list otherwise.
            places = np.searchsorted(documents, wanted)
            places[places == stop - start] = 0
            has = np.flatnonzero(documents[places] == wanted)
            frequencies = part.frequencies[start:stop][places[has]]
            values[has] += gained(term.weight, frequencies, self._norm.of(part.lengths[wanted[has]]))


def _least_of_best(values: NDArray[np.float32], count: int) -> float:
    """Return the `count`-th best value, 0 where there are not so many."""
    return float(np.partition(values, -count)[-count]) if len(values) >= count else 0.0


def _sorted_best(found: NDArray[np.int32], values: NDArray[np.float32], count: int) -> Hits:
    best = np.flatnonzero(values >= _least_of_best(values, count))
    found, values = found[best], values[best]
    order = np.lexsort((found, -values))[:count]
    return list(zip(found[order].tolist(), values[order].tolist(), strict=True))
