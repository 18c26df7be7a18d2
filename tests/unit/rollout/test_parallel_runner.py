from collections.abc import Sequence

import pytest

from stepsearch.rollout import ParallelRunner
from stepsearch.types import Question


class EchoRunner:
    """Returns what it was asked, beside its own name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[tuple[str, str, int]]:
        return [(self.name, question.id, seed) for question, seed in zip(questions, seeds, strict=True)]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_questions_are_dealt_in_turn_and_answers_come_back_in_order(count: int) -> None:
    questions = [Question(str(i), "?", ("x",)) for i in range(count)]
    runner = ParallelRunner([EchoRunner("a"), EchoRunner("b")])  # type: ignore[list-item]
    assert runner.run(questions, list(range(10, 10 + count))) == [("ab"[i % 2], str(i), 10 + i) for i in range(count)]
