"""The best documents of a query with numba, document by document.

The principle is that of bm25_maxscore. The documents of the rarest term are scored one after the other, in the other
terms only as far as they may still be among the best; then those of the next term, until what is left of the terms
cannot lift a document among the best. Rare words decide most of a score, so that this is soon.

A search needs no memory that grows with the number of documents.
"""

# pyright: reportUntypedFunctionDecorator=false
from __future__ import annotations

from collections.abc import Sequence
from heapq import heappush, heapreplace
from itertools import islice
from typing import Any

import numpy as np
from numba import njit

from stepsearch.search.bm25_postings import Postings
from stepsearch.search.bm25_query import SLACK, Hits, LengthNorm, QueryTerm
from stepsearch.search.bm25_vocabulary import starts_of

_compiled = njit(cache=True, nogil=True, error_model="numpy")
# A call that is handed several arrays counts references to each of them, which would take a fourth of a search.
_inlined = njit(inline="always", error_model="numpy")


class CompiledMaxScore:
    """Ranks as MaxScore does, with the same results to the last bit."""

    def __init__(self, parts: Sequence[Postings], norm: LengthNorm) -> None:
        """Take the parts of an index; the first time on a machine this compiles for some seconds."""
        self._parts, self._norm = parts, norm
        self._shortest = [int(part.lengths.min()) for part in parts]
        self.best_of_each([[QueryTerm(np.float32(1), 1.0, ((0, 0),) * len(parts))]], 1)

    def best_of_each(self, queries: Sequence[Sequence[QueryTerm]], count: int) -> list[Hits]:
        """Return at most `count` documents for each query; its terms come in the order of falling bounds."""
        terms = [term for query in queries for term in query]
        starts = starts_of(np.array([len(query) for query in queries]))
        weights = np.array([term.weight for term in terms], np.float32)
        bounds = np.array([term.bound for term in terms], np.float64)
        best: list[list[tuple[float, int]]] = [[] for _ in queries]
        offset = 0
        for number, part in enumerate(self._parts):
            least = np.array([hits[-1][0] if len(hits) == count else 0.0 for hits in best])
            runs = np.array([term.runs[number] for term in terms], np.int64).reshape(-1, 2)
            norm = (self._norm.base, self._norm.slope, self._shortest[number])
            arrays = (part.documents, part.frequencies, part.lengths)
            found, sizes = _best_of_part(arrays, norm, starts, runs, weights, bounds, count, least)
            rest = iter(found)
            for hits, size in zip(best, sizes.tolist(), strict=True):
                hits += [(value, negative - offset) for value, negative in islice(rest, size)]
                hits.sort(reverse=True)
                del hits[count:]
            offset += len(part)
        return [[(-negative, value) for value, negative in hits] for hits in best]


@_compiled
def _best_of_part(
    arrays: Any, norm: Any, starts: Any, runs: Any, weights: Any, bounds: Any, count: int, least: Any
) -> Any:
    """Return score and negative position of the best documents of one part, and how many of them are each query's.

    Args:
        arrays: the part's postings, documents and frequencies [P], and lengths of its documents [N].
        norm: base and slope of the length norm, and the least of the lengths.
        starts: where the terms of each query begin, and the end, int64 [Q + 1].
        runs: where the postings of each term begin and end, int64 [T, 2].
        weights, bounds: of the terms, float32 and float64 [T].
        count: how many are wanted for each query.
        least: a score that those wanted exceed, float64 [Q].
    """
    found = [(np.float32(0), np.int64(0)) for _ in range(0)]
    sizes = np.empty(len(least), np.int64)
    for query in range(len(least)):
        own = slice(starts[query], starts[query + 1])
        best = _best_of_query(arrays, norm, runs[own], weights[own], bounds[own], count, least[query])
        found.extend(best)
        sizes[query] = len(best)
    return found, sizes


@_compiled
def _best_of_query(arrays: Any, norm: Any, runs: Any, weights: Any, bounds: Any, count: int, floor: float) -> Any:
    """Return score and negative position of the best documents of one query whose score exceeds `floor`, as a heap."""
    documents, frequencies, lengths = arrays
    base, slope, shortest = norm
    terms = len(weights)
    # What the terms from each on can add, and 0.
    left = np.zeros(terms + 1)
    for term in range(terms - 1, -1, -1):
        left[term] = left[term + 1] + bounds[term]
    # What a document gets at most from a term that it has once.
    once = weights / (base + slope * np.float32(shortest) + np.float32(1))
    density = (runs[:, 1] - runs[:, 0]) / len(lengths)
    best = [(np.float32(0), np.int64(0)) for _ in range(0)]
    least = floor
    for first in range(terms):
        if left[first] * SLACK <= least:
            break
        places = runs[:, 0].copy()
        for own in range(runs[first, 0], runs[first, 1]):
            bound = left[first + 1] + (once[first] if frequencies[own] == 1 else bounds[first])
            if bound * SLACK <= least:
                continue
            document = documents[own]
            length_norm = base + slope * np.float32(lengths[document])
            frequency = np.float32(frequencies[own])
            value = weights[first] * (frequency / (length_norm + frequency))
            term = first + 1
            while term < terms and (value + left[term]) * SLACK > least:
                if _has(documents, runs, density, places, term, document):
                    frequency = np.float32(frequencies[places[term]])
                    value += weights[term] * (frequency / (length_norm + frequency))
                term += 1
            hit = (value, np.int64(-document))
            if term < terms or value <= floor or (len(best) == count and hit < best[0]):
                continue
            # One that an earlier term has, too, has been scored with it.
            earlier = 0
            while earlier < first and not _has(documents, runs, density, places, earlier, document):
                earlier += 1
            if earlier < first:
                continue
            if len(best) < count:
                heappush(best, hit)
            else:
                heapreplace(best, hit)
            if len(best) == count:
                least = max(floor, float(best[0][0]))
    return best


@_inlined
def _has(documents: Any, runs: Any, density: Any, places: Any, term: int, document: Any) -> bool:
    """Return whether a document has a term, and move the term's place on to the document."""
    place = _seek(documents, places[term], runs[term, 1], document, density[term])
    places[term] = place
    return place < runs[term, 1] and documents[place] == document


@_compiled
def _seek(documents: Any, place: int, stop: int, document: Any, density: float) -> int:
    """Return the first place from `place` on that does not come before a document, or `stop`.

    Args:
        density: how many of all documents have the term. Where they lie evenly, it tells the place nearly, and it is
            searched for from there in steps that double.
    """
    if place >= stop or documents[place] >= document:
        return place
    low = min(place + int((document - documents[place]) * density), stop - 1)
    high, step = low, 4
    while low > place and documents[low] >= document:
        high, low, step = low, max(low - step, place), 2 * step
    while high < stop and documents[high] < document:
        low, high, step = high, min(high + step, stop), 2 * step
    # Now documents[low] comes before the document, and documents[high] does not.
    while high - low > 1:
        middle = (low + high) // 2
        if documents[middle] < document:
            low = middle
        else:
            high = middle
    return high
