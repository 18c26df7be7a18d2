import pytest

from stepsearch.config import RolloutSettings
from stepsearch.errors import ConfigError
from stepsearch.integrations.verl.settings import check_response_length, episode_config


def test_the_search_is_remote_unless_an_engine_is_named():
    assert episode_config({}).search.engine_type == "remote"
    assert episode_config({"search": {"top_k": 5}}).search.engine_type == "remote"
    assert episode_config({"search": {"engine_type": "mock"}}).search.engine_type == "mock"


def test_what_an_episode_follows_can_be_set():
    config = episode_config(
        {
            "model": {"prompt": "question"},
            "search": {"remote": {"url": "http://h:1/retrieve"}},
            "reward": {"gamma_key": 0.5, "max_search_steps": 3},
            "rollout": {"max_turn_tokens": 40, "max_corrections": 0},
        }
    )
    assert config.model.prompt == "question"
    assert config.search.remote.url == "http://h:1/retrieve"
    assert (config.reward.gamma_key, config.reward.max_search_steps) == (0.5, 3)
    assert (config.rollout.max_turn_tokens, config.rollout.max_corrections) == (40, 0)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"training": {"gamma": 0.9}}, r"stepsearch\.training\.gamma does nothing inside verl"),
        ({"rollout": {"temperature": 0.5}}, r"stepsearch\.rollout\.temperature does nothing inside verl"),
        ({"model": {"max_length": 99}}, r"stepsearch\.model\.max_length does nothing inside verl"),
        ({"seed": 3}, r"stepsearch\.seed does nothing inside verl"),
        ({"reward": {"gama_key": 1}}, r"unknown key reward\.gama_key; did you mean reward\.gamma_key"),
        ({"reward": {"gamma_key": -1}}, r"reward\.gamma_key: "),
        ({"search": None}, "search: "),
    ],
)
def test_what_has_no_effect_or_no_meaning_is_refused(tree, message):
    with pytest.raises(ConfigError, match=message):
        episode_config(tree)


def test_a_response_holds_a_search_or_is_refused():
    rollout = RolloutSettings(max_turn_tokens=40, max_observation_tokens=70, max_passage_tokens=64)
    check_response_length(126, rollout)
    with pytest.raises(ConfigError, match=r"data\.max_response_length=125 leaves no room .* takes 126 tokens"):
        check_response_length(125, rollout)
