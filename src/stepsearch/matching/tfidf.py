"""TF-IDF cosines as scikit-learn's `TfidfVectorizer` gives them, without fitting one for every document.

A vectoriser with its defaults, fitted on M texts, gives a term of a text the weight

    w(t) = count(t) * idf(t)        idf(t) = ln((1 + M) / (1 + df(t))) + 1

and compares L2-normalised texts. Fitted on [document] + golden documents, only the document frequencies of the
document's own terms differ from those of the golden documents alone. So a golden document's norm is computed once and
corrected by the terms it shares with the document, and all terms of the document that no golden document has weigh the
same: the work is proportional to the shared terms.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"(?u)\b\w\w+\b")
NO_STOP_WORDS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class TermCounts:
    """How often each word of two or more characters occurs in a text, in order of appearance.

    `square_sum` is the sum of the squared counts.
    """

    counts: Mapping[str, int]
    square_sum: int


@lru_cache(maxsize=1 << 13)
def count_terms(text: str, stop_words: frozenset[str] = NO_STOP_WORDS) -> TermCounts:
    """Return the lower-cased words of `text` with their counts, without `stop_words`."""
    counts = Counter(_WORD.findall(text.lower()))
    for word in stop_words & counts.keys():
        del counts[word]
    return TermCounts(counts, sum(count * count for count in counts.values()))


@dataclass(frozen=True, slots=True, eq=False)
class PairTerms:
    """A document's term counts, and its square norm in a fit with another one that shares no term with it."""

    counts: Mapping[str, int]
    square_norm: float


class GoldenTerms:
    """The golden documents of one question, counted once, to which any number of documents are compared.

    Args:
        texts: bodies of the n golden documents.
        stop_words: words that count for nothing.
    """

    def __init__(self, texts: Sequence[str], stop_words: frozenset[str] = NO_STOP_WORDS) -> None:
        self._stop_words = stop_words
        self._size = len(texts)
        postings: dict[str, list[tuple[int, int]]] = {}
        for index, text in enumerate(texts):
            for term, count in count_terms(text, stop_words).counts.items():
                postings.setdefault(term, []).append((index, count))
        self._postings = postings
        self._document_frequencies = {term: len(entries) for term, entries in postings.items()}
        # The norms' squares under the fit on [document] + golden documents, had the document none of their terms.
        weights = _squared_idf(self._size + 1)
        self._square_norms = [0.0] * self._size
        for entries in postings.values():
            for index, count in entries:
                self._square_norms[index] += count * count * weights[len(entries)]

    def cosines(self, text: str) -> list[float]:
        """Return the cosine of `text` to each golden document, fitted on [text] + golden documents (length n)."""
        document = count_terms(text, self._stop_words)
        weights = _squared_idf(self._size + 1)
        square_norm = document.square_sum * weights[1]
        dots = [0.0] * self._size
        square_norms = self._square_norms.copy()
        for term, count in document.counts.items():
            entries = self._postings.get(term)
            if entries is None:
                continue
            df = len(entries)
            weight = weights[df + 1]
            square_norm += count * count * (weight - weights[1])
            for index, golden_count in entries:
                dots[index] += count * golden_count * weight
                square_norms[index] += golden_count * golden_count * (weight - weights[df])
        return [_cosine(dot, square_norm, other) for dot, other in zip(dots, square_norms, strict=True)]

    def pair_terms(self, text: str) -> PairTerms:
        """Return a document as `cosine_of_pair` reads it; worth keeping where it meets several others."""
        document = count_terms(text, self._stop_words)
        weights = _squared_idf(self._size + 2)
        square_norm = document.square_sum * weights[1]
        for term, count in document.counts.items():
            df = self._document_frequencies.get(term)
            if df is not None:
                square_norm += count * count * (weights[df + 1] - weights[1])
        return PairTerms(document.counts, square_norm)

    def cosine_of_pair(self, first: PairTerms, second: PairTerms) -> float:
        """Return the cosine of two documents, fitted on both + golden documents."""
        weights = _squared_idf(self._size + 2)
        first_norm, second_norm, dot = first.square_norm, second.square_norm, 0.0
        # In the order of the first text, not of a set: sums must not depend on how strings are hashed.
        for term in [term for term in first.counts if term in second.counts]:
            count, other_count = first.counts[term], second.counts[term]
            df = self._document_frequencies.get(term, 0)
            weight = weights[df + 2]
            more = weight - weights[df + 1]
            dot += count * other_count * weight
            first_norm += count * count * more
            second_norm += other_count * other_count * more
        return _cosine(dot, first_norm, second_norm)


@lru_cache(maxsize=1 << 9)
def golden_terms(texts: tuple[str, ...], stop_words: frozenset[str] = NO_STOP_WORDS) -> GoldenTerms:
    """Return `GoldenTerms(texts, stop_words)`, kept for the questions met last."""
    return GoldenTerms(texts, stop_words)


@lru_cache(maxsize=256)
def _squared_idf(texts: int) -> tuple[float, ...]:
    """Return idf squared for the document frequencies 0 to `texts`, fitted on so many texts."""
    return tuple((math.log((1 + texts) / (1 + df)) + 1) ** 2 for df in range(texts + 1))


def _cosine(dot: float, square_norm: float, other_square_norm: float) -> float:
    if dot == 0.0:
        return 0.0
    # Rounding may leave a text's cosine to itself a hair above 1.
    return min(dot / math.sqrt(square_norm * other_square_norm), 1.0)
