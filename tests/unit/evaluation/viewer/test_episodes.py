import pytest
from report_episodes import LYON, PARIS, SEINE, make_episode, make_question

from stepsearch.config import RewardSettings
from stepsearch.evaluation.viewer.episodes import EpisodeStore, Facts, key_gains
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.types import Passage, Trajectory

CALCULATOR = StepSearchRewardCalculator(RewardSettings(redundancy_threshold=1.0))


def store_of(*episodes: Trajectory) -> EpisodeStore:
    store = EpisodeStore()
    for episode in episodes:
        reward = CALCULATOR.score(episode)
        facts = Facts(em=1.0, f1=1.0, reward=reward)
        store.add(0, "musique", episode, facts, key_gains(CALCULATOR, episode, reward))
    return store


def test_gain_redundancy_and_key_of_every_search() -> None:
    # The first query is one of two reference queries and brings one of two golden documents, the second the others;
    # one of its two documents was there before.
    first, second = store_of(make_episode()).details[0]["steps"]
    assert (first["penalty"], second["penalty"]) == (0.0, 0.5)
    assert (first["key"], second["key"]) == (0.5, 0.5)
    assert first["gain"] + second["gain"] == pytest.approx(1.0, abs=1e-3)
    assert first["gain"] > 0.5
    assert second["total"] == pytest.approx(second["gain"] - 0.5, abs=1e-3)


def test_the_keys_of_the_searches_sum_to_the_key_reward() -> None:
    episode = make_episode(searches=(("Lyon", (LYON,)), ("Paris", (PARIS,)), ("Paris", (PARIS,)), ("Seine", (SEINE,))))
    gains = key_gains(CALCULATOR, episode, CALCULATOR.score(episode))
    assert gains == [0.0, 0.5, 0.0, 0.5]


def test_without_searches_or_references_there_are_no_keys() -> None:
    no_search = make_episode(searches=())
    assert key_gains(CALCULATOR, no_search, CALCULATOR.score(no_search)) == []
    no_reference = make_episode(make_question(golden=()))
    assert key_gains(CALCULATOR, no_reference, CALCULATOR.score(no_reference)) is None
    assert store_of(no_reference).details[0]["steps"][0]["gain"] is None


def test_each_text_stands_once() -> None:
    store = store_of(make_episode(), make_episode(), make_episode(make_question("q2")))
    assert store.documents.keys() == [("Paris", PARIS.text), ("Seine", SEINE.text)]
    assert [question["id"] for question in store.questions] == ["q1", "q2"]
    assert [row[2] for row in store.rows] == [0, 0, 1]
    assert store.details[0]["steps"][1]["documents"] == [1, 0]


def test_golden_documents_are_known_by_id_or_by_body() -> None:
    untitled, same_id = Passage("other", PARIS.text), Passage(SEINE.id, "another edition")
    step = store_of(make_episode(searches=(("q", (untitled, LYON, same_id)),))).details[0]["steps"][0]
    assert step["golden"] == [0, None, 1]
