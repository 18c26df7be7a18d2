"""What the training tests share: episodes written by hand."""

from collections.abc import Callable

import pytest

from stepsearch.types import Passage, Question, SearchStep, StopReason, SubQuestion, Trajectory

MakeTrajectory = Callable[..., Trajectory]


@pytest.fixture
def make_trajectory() -> MakeTrajectory:
    """Return a maker of episodes: two prompt tokens, a response given by its mask, one search ending at `end`."""

    def make(mask: tuple[int, ...] = (1, 1, 0, 1), end: int = 1, name: str = "a", **changes: object) -> Trajectory:
        golden = Passage("gold-" + name, f"golden text about {name}")
        question = Question(
            id=name,
            question=f"who is {name}",
            answers=("x",),
            sub_questions=(SubQuestion("s", "x", ("query",)),),
            golden_passages=(golden,),
        )
        fields: dict[str, object] = {
            "question": question,
            "prompt_ids": (5, 6),
            "response_ids": tuple(range(10, 10 + len(mask))),
            "response_mask": mask,
            "rollout_logprobs": tuple(-1.0 * bit for bit in mask),
            "steps": (SearchStep("query", (golden,), end),),
            "answer": "x",
            "format_error": None,
            "stop_reason": StopReason.ANSWERED,
        }
        return Trajectory(**{**fields, **changes})  # type: ignore[arg-type]

    return make
