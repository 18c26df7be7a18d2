"""A query against postings: what each of its terms can give, and where the documents are that have it.

score(q, d) = sum_t idf(t) * tf / (tf + k1 * (1 - b + b * |d| / average |d|))
idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))                                   (Lucene's variant)

All that computes scores adds up 32-bit floats in the order of the query's terms, so that every way of ranking gives the
same scores to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Lucene's own defaults.
K1 = 1.2
B = 0.75

SLACK = 1 + 1e-4
"""More than sums of 32-bit floats are ever off, so that rounding never leaves a document out."""

Hits = list[tuple[int, float]]
"""Positions of documents with their scores, best first; of equal scores the earlier position."""


@dataclass(frozen=True, slots=True, eq=False)
class QueryTerm:
    """A word of a query.

    Attributes:
        weight: idf times how often the query has it.
        bound: what no document gets more than from it.
        runs: of every part of the index where the postings of the term begin and end; equal where it has none.
    """

    weight: np.float32
    bound: float
    runs: tuple[tuple[int, int], ...]

    def times(self, count: int) -> QueryTerm:
        """Return the word as a query has it so often."""
        return self if count == 1 else QueryTerm(self.weight * np.float32(count), self.bound * count, self.runs)


@dataclass(frozen=True, slots=True)
class LengthNorm:
    """What stands beside tf below the fraction bar: `base + slope * length`."""

    base: np.float32
    slope: np.float32

    @classmethod
    def around(cls, average: float) -> LengthNorm:
        """Return the norm of documents of that average length."""
        return cls(np.float32(K1 * (1 - B)), np.float32(K1 * B / average))

    def of(self, lengths: NDArray[np.unsignedinteger]) -> NDArray[np.float32]:
        """Return the norms of documents of these lengths."""
        norms = lengths.astype(np.float32)
        norms *= self.slope
        norms += self.base
        return norms


class Ranker(Protocol):
    """Finds the best documents of queries over the parts of one index."""

    def best_of_each(self, queries: Sequence[Sequence[QueryTerm]], count: int) -> list[Hits]:
        """Return at most `count` documents for each query that have one of its terms; `count` is at least 1.

        Its terms come in the order of falling bounds; a query may have none.
        """
        ...


def idf(documents: int, frequency: int) -> float:
    """Return the weight of a term that `frequency` of all documents have."""
    return math.log(1 + (documents - frequency + 0.5) / (frequency + 0.5))


def gained(
    weight: np.float32, frequencies: NDArray[np.unsignedinteger], norms: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return what documents get from a term; `norms` is overwritten."""
    gains = frequencies.astype(np.float32)
    norms += gains
    gains /= norms
    gains *= weight
    return gains
