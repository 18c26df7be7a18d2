import pytest

from stepsearch.rollout.recorder import EpisodeRecorder
from stepsearch.types import FormatError, Passage, Question, StopReason, Trajectory

QUESTION = Question("q", "Who?", ("x",))
PASSAGE = Passage("p", "text")


def recorded() -> EpisodeRecorder:
    recorder = EpisodeRecorder(QUESTION, [1, 2, 3])
    recorder.sampled([10, 11], [-0.1, -0.2], "<search>q</search>")
    recorder.searched("q", [PASSAGE], failed=False)
    recorder.observed([20, 21, 22])
    recorder.sampled([12], [-0.3], "hm")
    recorder.corrected([30])
    recorder.sampled([13, 14], [-0.4, -0.5], "<answer>a</answer>")
    return recorder


def test_every_token_has_its_origin_and_logprob():
    trajectory = recorded().trajectory(StopReason.ANSWERED, "a", "text")

    assert trajectory.prompt_ids == (1, 2, 3)
    assert trajectory.response_ids == (10, 11, 20, 21, 22, 12, 30, 13, 14)
    assert trajectory.response_mask == (1, 1, 0, 0, 0, 1, 0, 1, 1)
    assert trajectory.rollout_logprobs == (-0.1, -0.2, 0, 0, 0, -0.3, 0, -0.4, -0.5)
    assert trajectory.steps[0].end_position == 1
    assert trajectory.steps[0].passages == (PASSAGE,)
    assert (trajectory.answer, trajectory.corrections, trajectory.format_error) == ("a", 1, None)


def test_a_failed_search_counts_for_the_format():
    recorder = EpisodeRecorder(QUESTION, [1])
    recorder.sampled([2], [0.0], "<search>q</search>")
    recorder.searched("q", [], failed=True)
    recorder.observed([3])
    recorder.sampled([4], [0.0], "<answer>a</answer>")

    trajectory = recorder.trajectory(StopReason.ANSWERED, "a", "")

    assert trajectory.format_error is None
    assert trajectory.steps[0].failed


def test_an_answer_without_search_is_a_format_error():
    recorder = EpisodeRecorder(QUESTION, [1])
    recorder.sampled([4], [0.0], "<answer>a</answer>")

    assert recorder.trajectory(StopReason.ANSWERED, "a", "").format_error is FormatError.NO_SEARCH


def test_it_survives_json():
    trajectory = recorded().trajectory(StopReason.ANSWERED, "a", "text")

    assert Trajectory.from_json(trajectory.to_json()) == trajectory


def test_it_refuses_what_cannot_be():
    recorder = EpisodeRecorder(QUESTION, [1])
    with pytest.raises(ValueError, match="2 sampled tokens came with 1"):
        recorder.sampled([2, 3], [0.0], "")
    with pytest.raises(ValueError, match="a search ends at a sampled token"):
        recorder.searched("q", [], failed=False)
