"""The values that flow between the parts."""

import dataclasses
import json

import pytest

from stepsearch.types import (
    FormatError,
    Passage,
    Question,
    SearchStep,
    StepReward,
    StopReason,
    SubQuestion,
    Trajectory,
    TrajectoryReward,
    question_from_json,
)


def trajectory() -> Trajectory:
    passage = Passage.from_text("Bela Tornir was born in Balnor.", "Bela Tornir")
    question = Question(
        id="2hop__1",
        question="Where was the author of X born?",
        answers=("Balnor", "Balnor City"),
        sub_questions=(SubQuestion("X >> author", "Bela Tornir", ("X author",), passage.id, "X", "author"),),
        golden_passages=(passage,),
        dataset="musique",
        hops=2,
    )
    step = SearchStep("X author", (dataclasses.replace(passage, score=1.5),), end_position=1)
    return Trajectory(
        question=question,
        prompt_ids=(5, 6),
        response_ids=(1, 2, 3, 4),
        response_mask=(1, 1, 0, 1),
        rollout_logprobs=(-0.5, -0.25, 0.0, -1.0),
        steps=(step,),
        answer="Balnor",
        format_error=FormatError.SEVERAL_ANSWERS,
        stop_reason=StopReason.ANSWERED,
        response_text="…",
        corrections=1,
    )


def test_a_trajectory_survives_json() -> None:
    original = trajectory()
    assert Trajectory.from_json(json.loads(json.dumps(original.to_json()))) == original
    without = dataclasses.replace(original, answer=None, format_error=None, steps=())
    assert Trajectory.from_json(json.loads(json.dumps(without.to_json()))) == without


def test_passages_of_before_there_were_images_are_read_and_images_survive() -> None:
    old = trajectory().to_json()
    for passage in (*old["question"]["golden_passages"], *old["steps"][0]["passages"]):
        del passage["image"]
    assert Trajectory.from_json(old) == trajectory()
    shown = dataclasses.replace(trajectory().steps[0], passages=(Passage("1", "a flag", image="flag.png"),))
    with_image = dataclasses.replace(trajectory(), steps=(shown,))
    assert Trajectory.from_json(json.loads(json.dumps(with_image.to_json()))) == with_image


def test_a_question_survives_json() -> None:
    question = trajectory().question
    assert question_from_json(json.loads(json.dumps(dataclasses.asdict(question)))) == question


def test_equal_content_is_an_equal_passage() -> None:
    assert Passage.from_text("a", "t") == Passage.from_text("a", "t")
    assert len({Passage.from_text("a").id, Passage.from_text("b").id, Passage.from_text("a", "t").id}) == 3


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Passage.from_text("a").text = "b"  # type: ignore[misc]


def test_total_reward_adds_outcome_and_steps() -> None:
    steps = (StepReward(0.25, 0.25, 0.0), StepReward(-0.5, 0.0, 0.5))
    assert TrajectoryReward(1.0, 1.0, None, steps).total == 0.75
    assert TrajectoryReward(1.0, 1.0, None, None).total == 1.0
