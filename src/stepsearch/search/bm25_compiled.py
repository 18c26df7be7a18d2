"""The best documents of a query with numba, document by document.

The principle is that of bm25_maxscore: the documents of those terms are gone through that can lift one among the best,
and the other terms are only looked up. Here documents come in their order, so that what has been found leaves ever more
terms and documents out. To have a bound from the start, some documents of the rarest terms are scored first.

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

# What is scored for a first bound: so many documents of each of the rarest terms, and of so many terms that there are
# twice as many documents as wanted.
_FIRST_DOCUMENTS, _FIRST_TIMES = 32, 2
_NO_DOCUMENT = 2**31 - 1

_compiled = njit(cache=True, nogil=True, error_model="numpy")


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
def _best_of_query(arrays: Any, norm: Any, runs: Any, weights: Any, bounds: Any, count: int, least: float) -> Any:
    """Return score and negative position of the best documents of one query, as a heap."""
    base, slope, shortest = norm
    left = np.zeros(len(bounds) + 1)
    for term in range(len(bounds) - 1, -1, -1):
        left[term] = left[term + 1] + bounds[term]
    # What a document gets at most from a term that it has once.
    once = weights / (base + slope * np.float32(shortest) + np.float32(1))
    shortened, first, scored = runs.copy(), 0, 0
    while first < len(runs) and scored < _FIRST_TIMES * count:
        start, stop = runs[first]
        shortened[first, 1] = min(stop, start + _FIRST_DOCUMENTS)
        scored += shortened[first, 1] - start
        first += 1
    found = _scan(arrays, shortened, weights, bounds, once, left, base, slope, first, count, least)
    if len(found) == count:
        # Those that have just this score are to be found again.
        least = max(least, float(np.nextafter(found[0][0], np.float32(0))))
    return _scan(arrays, runs, weights, bounds, once, left, base, slope, len(runs), count, least)


@_compiled
def _scan(
    arrays: Any,
    runs: Any,
    weights: Any,
    bounds: Any,
    once: Any,
    left: Any,
    base: Any,
    slope: Any,
    essential: int,
    count: int,
    floor: float,
) -> Any:
    """Return the best of the documents that the first `essential` terms have, if their score exceeds `floor`.

    Args:
        left: what the terms from each on can add, and 0, [T + 1].
    """
    documents, frequencies, lengths = arrays
    terms, places, stops = len(weights), runs[:, 0].copy(), runs[:, 1].copy()
    density = (stops - places) / len(lengths)
    heads = np.empty(essential, np.int32)
    for term in range(essential):
        heads[term] = documents[places[term]] if places[term] < stops[term] else _NO_DOCUMENT
    best = [(np.float32(0), np.int64(0)) for _ in range(0)]
    least = floor
    while True:
        while essential > 0 and left[essential - 1] * SLACK <= least:
            essential -= 1
        document = np.int32(_NO_DOCUMENT)
        for term in range(essential):
            document = min(document, heads[term])
        if document == _NO_DOCUMENT:
            return best
        bound = left[essential]
        for term in range(essential):
            if heads[term] == document:
                bound += once[term] if frequencies[places[term]] == 1 else bounds[term]
        promising = bound * SLACK > least
        norm = base + slope * np.float32(lengths[document]) if promising else base
        value = np.float32(0)
        for term in range(essential):
            if heads[term] == document:
                frequency = np.float32(frequencies[places[term]])
                value += weights[term] * (frequency / (norm + frequency))
                places[term] += 1
                heads[term] = documents[places[term]] if places[term] < stops[term] else _NO_DOCUMENT
        if not promising:
            continue
        term = essential
        while term < terms and (value + left[term]) * SLACK > least:
            place = _seek(documents, places[term], stops[term], document, density[term])
            if place < stops[term] and documents[place] == document:
                frequency = np.float32(frequencies[place])
                value += weights[term] * (frequency / (norm + frequency))
            places[term] = place
            term += 1
        if term == terms and value > least:
            if len(best) < count:
                heappush(best, (value, np.int64(-document)))
            else:
                heapreplace(best, (value, np.int64(-document)))
            if len(best) == count:
                least = max(floor, float(best[0][0]))


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
