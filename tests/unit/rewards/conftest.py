from collections.abc import Callable, Sequence

import pytest

from stepsearch.types import FormatError, Passage, Question, SearchStep, StopReason, SubQuestion, Trajectory


def make_trajectory(
    searches: Sequence[tuple[str, Sequence[str] | None]] = (),
    *,
    golden: Sequence[str] = (),
    answer: str | None = "Paris",
    answers: Sequence[str] = ("Paris",),
    references: Sequence[Sequence[str]] = (),
    format_error: FormatError | None = None,
) -> Trajectory:
    """Return an episode of searches (query, texts found; None where it failed), each of three tokens, and an answer.

    Response tokens of a search: sampled, sampled, observed; the answer is two sampled ones.
    """
    steps = tuple(
        SearchStep(query, tuple(map(Passage.from_text, texts or ())), end_position=3 * i + 1, failed=texts is None)
        for i, (query, texts) in enumerate(searches)
    )
    length = 3 * len(steps) + 2
    return Trajectory(
        question=Question(
            id="q1",
            question="Where?",
            answers=tuple(answers),
            sub_questions=tuple(SubQuestion("?", "!", search_queries=tuple(queries)) for queries in references),
            golden_passages=tuple(Passage.from_text(text, title="Golden") for text in golden),
        ),
        prompt_ids=(7, 8),
        response_ids=tuple(range(length)),
        response_mask=(1, 1, 0) * len(steps) + (1, 1),
        rollout_logprobs=(-0.1,) * length,
        steps=steps,
        answer=answer,
        format_error=format_error,
        stop_reason=StopReason.ANSWERED,
    )


@pytest.fixture
def trajectory() -> Callable[..., Trajectory]:
    return make_trajectory
