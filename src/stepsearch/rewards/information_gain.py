"""The information gain of a search step: how much closer its documents come to the golden ones than any before."""

from collections.abc import Sequence

from stepsearch.matching.tfidf import NO_STOP_WORDS, golden_terms


def information_gain(memory: Sequence[float], cosines: Sequence[Sequence[float]]) -> tuple[float, list[float]]:
    """Return a step's gain G = (1/n) sum_i max(c_i - m_i, 0) and the memory after it, m_i <- max(m_i, c_i).

    c_i is the best cosine of any of the step's documents to golden document i. Over the steps of an episode that starts
    with a memory of zeros the gains sum to at most 1. Without golden documents there is nothing to gain: 0.0.

    Args:
        memory: [n] the best cosine to each golden document so far.
        cosines: for each of the step's documents its cosines to the golden documents, [documents, n].
    """
    if not memory:
        return 0.0, []
    best = [max(column) for column in zip(memory, *cosines, strict=True)]
    gain = sum(now - before for now, before in zip(best, memory, strict=True))
    return gain / len(memory), best


def random_document_gain(
    golden_texts: Sequence[str], documents: Sequence[str], stop_words: frozenset[str] = NO_STOP_WORDS
) -> float:
    """Return the gain that `documents` would earn in a first step.

    Given documents that have nothing to do with the question, this is what common words alone are worth: the gain of
    real searches means something only as far as it is above it.
    """
    golden = golden_terms(tuple(golden_texts), stop_words)
    gain, _ = information_gain([0.0] * len(golden_texts), [golden.cosines(document) for document in documents])
    return gain
