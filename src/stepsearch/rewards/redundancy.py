"""The redundancy penalty of a search step: the share of its documents that brought nothing new."""

from collections.abc import Sequence

from stepsearch.matching.tfidf import GoldenTerms
from stepsearch.types import Passage


def redundancy_penalty(
    documents: Sequence[Passage], earlier: Sequence[Passage], golden: GoldenTerms, threshold: float
) -> float:
    """Return P, the share of the step's documents that an earlier step retrieved; 0.0 without documents.

    A document repeats an earlier one when both have one id, or when their TF-IDF cosine, fitted on both and the golden
    documents, is at least `threshold`.

    Args:
        documents: the step's documents.
        earlier: all documents of earlier steps.
        golden: the question's golden documents.
        threshold: 1 or more means identity alone.
    """
    if not documents:
        return 0.0
    known = {passage.id: passage.text for passage in earlier}
    met = [golden.pair_terms(text) for text in known.values()] if threshold < 1 else []

    def repeats(passage: Passage) -> bool:
        if passage.id in known:
            return True
        document = golden.pair_terms(passage.text) if met else None
        return document is not None and any(golden.cosine_of_pair(document, other) >= threshold for other in met)

    return sum(map(repeats, documents)) / len(documents)


def official_redundancy_penalty(documents: Sequence[Passage], earlier: Sequence[Passage]) -> float:
    """Return the released code's P: the share of documents whose id was met before, in an earlier step or in this one.

    Args:
        documents: the step's documents, in order.
        earlier: all documents of earlier steps.
    """
    if not documents:
        return 0.0
    met = {passage.id for passage in earlier}
    new = {passage.id for passage in documents} - met
    return (len(documents) - len(new)) / len(documents)
