"""The search-key reward: do the queries ask what the sub-questions need?"""

from collections.abc import Sequence

from stepsearch.matching.answers import squad_f1, token_f1


def search_key_reward(queries: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return r_key = (1/M) sum_i max_j max_t F1(q_t, k_ij).

    Args:
        queries: the issued queries q_t.
        references: for each of the M sub-questions its reference queries k_ij. One without any does not count in M.
    """
    asked = [group for group in references if group]
    if not asked:
        return 0.0
    return sum(max((token_f1(query, group) for query in queries), default=0.0) for group in asked) / len(asked)


def official_search_key_reward(queries: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return r_key as the released code computes it: the last query that chose a sub-question decides its score.

    Each query chooses the sub-question it matches best, the first of equals; F1 is rounded to 4 digits.
    """
    if not references:
        return 0.0
    scores = [0.0] * len(references)
    for query in queries:
        matches = [round(squad_f1(query, group), 4) for group in references]
        best = max(matches)
        if best > 0:
            scores[matches.index(best)] = best
    return sum(scores) / len(references)
