import pytest

from stepsearch.config import RolloutSettings
from stepsearch.errors import ConfigError
from stepsearch.rollout.budget import EpisodeBudget, longest_prompt


def test_a_prompt_leaves_room_for_a_turn_a_result_and_a_last_turn():
    assert (
        longest_prompt(2048, RolloutSettings(max_turn_tokens=256, max_observation_tokens=512)) == 2048 - 256 - 512 - 16
    )
    assert (
        longest_prompt(100, RolloutSettings(max_turn_tokens=4, max_observation_tokens=40, max_passage_tokens=9)) == 52
    )


def test_impossible_budgets_are_refused_with_the_arithmetic():
    with pytest.raises(ConfigError, match=r"model.max_length=512 .* 256 \+ .* 512 \+ 16 for a last turn = 784"):
        longest_prompt(512, RolloutSettings(max_turn_tokens=256, max_observation_tokens=512))


def test_a_turn_gets_what_is_left_of_the_context():
    budget = EpisodeBudget(max_length=100, max_turn_tokens=30, max_search_steps=1, max_corrections=0)

    assert budget.turn_tokens(50) == 30
    assert budget.turn_tokens(80) == 20
    assert budget.fits(84)
    assert not budget.fits(85)
