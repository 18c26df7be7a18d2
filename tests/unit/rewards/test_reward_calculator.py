from collections.abc import Callable

import numpy as np
import pytest

from stepsearch.config import RewardSettings
from stepsearch.errors import TrainingError
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.types import FormatError, StepReward, Trajectory

FOX, HEN, COW = "red fox in a den", "brown hen on the farm", "black cow under oaks"
Make = Callable[..., Trajectory]


def score(trajectory: Trajectory, **settings: object):
    return StepSearchRewardCalculator(RewardSettings.model_validate(settings)).score(trajectory)


def test_the_whole_reward_of_a_good_episode(trajectory: Make) -> None:
    episode = trajectory([("fox", [FOX]), ("hen", [FOX, HEN])], golden=[FOX, HEN], references=[["fox"], ["the hen"]])
    reward = score(episode, redundancy_threshold=1.0)
    assert reward.answer == 1.0
    assert reward.search_key == 1.0
    assert reward.outcome == pytest.approx(1.1)
    assert reward.golden_recall == 1.0
    assert reward.steps is not None
    assert reward.steps[0] == StepReward(pytest.approx(0.5), pytest.approx(0.5), 0.0)
    # Half a golden document new, and one of two documents had before.
    assert reward.steps[1] == StepReward(pytest.approx(0.0, abs=1e-12), pytest.approx(0.5), 0.5)
    assert reward.total == pytest.approx(1.6)


def test_paper_recipe_zeroes_the_outcome_of_a_wrong_format_and_keeps_the_steps(trajectory: Make) -> None:
    for error in FormatError:
        reward = score(trajectory([("fox", [FOX])], golden=[FOX], references=[["fox"]], format_error=error))
        assert (reward.outcome, reward.search_key, reward.answer) == (0.0, 0.0, 1.0)
        assert reward.steps is not None
        assert reward.steps[0].total == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("error", "wrong"),
    [
        (FormatError.NO_ANSWER, True),
        (FormatError.TEXT_AFTER_ANSWER, True),
        (FormatError.SEVERAL_ANSWERS, False),
        (FormatError.NO_SEARCH, False),
    ],
)
def test_official_recipe_punishes_some_wrong_formats(trajectory: Make, error: FormatError, wrong: bool) -> None:
    episode = trajectory([("fox", [FOX])], golden=[FOX], references=[["fox"]], format_error=error)
    reward = score(episode, recipe="official", gamma_key=0.618)
    assert reward.outcome == pytest.approx(-1.0 if wrong else 1.618)
    assert (reward.steps is None) == wrong


def test_a_failed_search_earns_nothing_but_its_query_counts(trajectory: Make) -> None:
    reward = score(trajectory([("fox", None), ("hen", [FOX])], golden=[FOX], references=[["fox"]]))
    assert reward.steps is not None
    assert reward.steps[0] == StepReward(0.0, 0.0, 0.0)
    assert reward.steps[1].total == pytest.approx(1.0)
    assert reward.search_key == 1.0


def test_an_empty_result_earns_nothing_and_is_still_a_step(trajectory: Make) -> None:
    reward = score(trajectory([("fox", [])], golden=[FOX]))
    assert reward.steps == (StepReward(0.0, 0.0, 0.0),)


def test_what_cannot_be_computed_is_none(trajectory: Make) -> None:
    reward = score(trajectory([("fox", [FOX])]))
    assert (reward.steps, reward.search_key, reward.golden_recall) == (None, None, None)
    assert reward.outcome == 1.0


def test_every_term_can_be_switched_off_and_is_still_reported(trajectory: Make) -> None:
    episode = trajectory([("fox", [FOX]), ("x", [FOX])], golden=[FOX], references=[["fox"]])
    reward = score(episode, answer=False, search_key=False, information_gain=False)
    assert (reward.outcome, reward.answer, reward.search_key) == (0.0, 1.0, 1.0)
    assert reward.steps is not None
    assert [step.total for step in reward.steps] == [0.0, -1.0]
    assert reward.steps[0].information_gain == pytest.approx(1.0)
    without_penalty = score(episode, redundancy_penalty=False, step_scale=2.0)
    assert without_penalty.steps is not None
    assert [step.total for step in without_penalty.steps] == pytest.approx([2.0, 0.0])
    assert without_penalty.steps[1].redundancy_penalty == 1.0


def test_stop_words_take_the_gain_of_common_words_away(trajectory: Make) -> None:
    episode = trajectory([("x", ["on the under in"])], golden=[HEN])
    assert score(episode).steps[0].information_gain > 0.1
    assert score(episode, stop_words="english").steps[0].information_gain == 0.0


def test_the_default_hook_works_alone_on_texts() -> None:
    calculator = StepSearchRewardCalculator()
    reward = calculator.compute_step_reward([FOX], [FOX], history=[], episode_id="q", step=0)
    assert reward == pytest.approx(1.0)
    again = calculator.compute_step_reward([FOX, COW], [FOX], history=[[FOX]], episode_id="q", step=1)
    assert again == pytest.approx(-0.5)
    assert calculator.compute_step_reward([], [FOX], history=[[FOX]], episode_id="q", step=1) == 0.0
    assert calculator.compute_step_reward([FOX], [], history=[], episode_id="q", step=0) == 0.0


def test_the_default_hook_follows_the_recipe() -> None:
    official = StepSearchRewardCalculator(RewardSettings(recipe="official"))
    # The first of two documents carries the label of the second, the same document alone does not.
    assert official.compute_step_reward([FOX, COW], [HEN], [[FOX, COW]], "q", 1) == pytest.approx(-1.0)
    assert official.compute_step_reward([FOX], [COW], [[FOX, COW]], "q", 1) == pytest.approx(0.0)


class Recorder(StepSearchRewardCalculator):
    """Pays the number of the step and keeps what it was called with."""

    def __init__(self, settings: RewardSettings | None = None) -> None:
        super().__init__(settings)
        self.calls: list[tuple[object, ...]] = []

    def compute_step_reward(self, retrieved_docs, golden_docs, history, episode_id, step):
        self.calls.append((retrieved_docs, golden_docs, history, episode_id, step))
        return step


def test_an_overridden_hook_decides_the_step_reward(trajectory: Make) -> None:
    calculator = Recorder(RewardSettings(step_scale=0.5))
    episode = trajectory([("a", [FOX]), ("b", None), ("c", [HEN, FOX])], golden=[FOX])
    reward = calculator.score(episode)
    assert reward.steps is not None
    assert [step.total for step in reward.steps] == [0.0, 0.0, 1.0]
    assert reward.steps[2].redundancy_penalty == 0.5
    assert calculator.calls == [([FOX], [FOX], [], "q1", 0), ([HEN, FOX], [FOX], [[FOX], []], "q1", 2)]


def test_a_custom_hook_also_rewards_questions_without_golden_documents(trajectory: Make) -> None:
    calculator = Recorder()
    reward = calculator.score(trajectory([("a", [FOX]), ("b", [HEN])]))
    assert reward.steps == (StepReward(0.0, 0.0, 0.0), StepReward(1.0, 0.0, 0.0))
    assert calculator.calls[1] == ([HEN], [], [[FOX]], "q1", 1)


def test_an_overridden_hook_may_build_on_the_default(trajectory: Make) -> None:
    class Doubled(StepSearchRewardCalculator):
        def compute_step_reward(self, *arguments):
            return 2 * super().compute_step_reward(*arguments)

    episode = trajectory([("a", [FOX]), ("b", [FOX])], golden=[FOX, HEN])
    reward = Doubled().score(episode)
    assert [step.total for step in reward.steps or ()] == pytest.approx([1.0, -2.0])


@pytest.mark.parametrize("returned", [None, float("nan"), float("inf"), "much", np.array([1.0, 2.0])])
def test_a_hook_that_returns_no_number_is_named(trajectory: Make, returned: object) -> None:
    class Broken(StepSearchRewardCalculator):
        def compute_step_reward(self, *arguments):
            return returned

    with pytest.raises(TrainingError, match=r"Broken\.compute_step_reward returned .* step 0 of episode 'q1'"):
        Broken().score(trajectory([("a", [FOX])], golden=[FOX]))


def test_a_batch_is_scored_one_by_one_without_memory(trajectory: Make) -> None:
    calculator = StepSearchRewardCalculator()
    episode = trajectory([("fox", [FOX]), ("fox", [FOX])], golden=[FOX])
    assert calculator.score_batch([episode, episode]) == [calculator.score(episode)] * 2
    assert calculator.score_batch([]) == []
