"""The answer's reward: r_answer = max over gold answers and aliases of F1(answer, gold)."""

from collections.abc import Sequence

from stepsearch.matching.answers import squad_f1, token_f1


def answer_reward(answer: str | None, gold_answers: Sequence[str]) -> float:
    """Return the best token F1 against the gold answers; 0.0 without an answer."""
    return token_f1(answer, gold_answers)


def official_answer_reward(answer: str | None, gold_answers: Sequence[str]) -> float:
    """Return the same as the released code does: rounded to 4 digits, a gold answer that normalises to nothing is 0."""
    return round(squad_f1(answer, gold_answers), 4)
