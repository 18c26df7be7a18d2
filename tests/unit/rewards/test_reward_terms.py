import pytest

from stepsearch.matching.stop_words import ENGLISH_STOP_WORDS
from stepsearch.matching.tfidf import GoldenTerms
from stepsearch.rewards.answer import answer_reward, official_answer_reward
from stepsearch.rewards.golden_recall import golden_recall
from stepsearch.rewards.information_gain import information_gain, random_document_gain
from stepsearch.rewards.recipes import label_documents
from stepsearch.rewards.redundancy import official_redundancy_penalty, redundancy_penalty
from stepsearch.rewards.search_keys import official_search_key_reward, search_key_reward
from stepsearch.types import Passage, SearchStep

NO_GOLDEN = GoldenTerms([])


def named(*ids: str) -> list[Passage]:
    return [Passage(id=name, text=f"text of {name}") for name in ids]


def test_answer_reward_is_the_best_f1() -> None:
    assert answer_reward("the Bernalillo County in New Mexico", ["Bernalillo County, New Mexico"]) == pytest.approx(
        8 / 9
    )
    assert answer_reward("A", ["A"]) == 1.0
    assert answer_reward(None, ["A"]) == 0.0


def test_official_answer_reward_is_rounded_and_empty_gold_scores_zero() -> None:
    assert official_answer_reward("Bernalillo County in New Mexico", ["Bernalillo County, New Mexico"]) == 0.8889
    assert official_answer_reward("A", ["A"]) == 0.0


def test_search_key_takes_the_best_query_of_each_sub_question() -> None:
    references = [["capital of France", "French capital"], ["mayor of Paris"]]
    queries = ["French capital", "capital", "mayor"]
    # First sub-question 1; second: "mayor" against "mayor of Paris", P 1, R 1/3.
    assert search_key_reward(queries, references) == pytest.approx((1 + 0.5) / 2)
    assert search_key_reward([], references) == 0.0


def test_sub_questions_without_reference_queries_do_not_count() -> None:
    assert search_key_reward(["mayor of Paris"], [[], ["mayor of Paris"]]) == 1.0


def test_official_search_key_keeps_the_last_query_of_a_sub_question() -> None:
    references = [["capital of France"], ["mayor of Paris"]]
    assert official_search_key_reward(["capital of France", "France"], references) == pytest.approx(0.5 / 2)
    assert official_search_key_reward(["capital of France", "unrelated"], references) == pytest.approx(1 / 2)
    assert official_search_key_reward(["capital of France"], [[], references[0]]) == pytest.approx(1 / 2)
    assert official_search_key_reward([], references) == 0.0
    assert official_search_key_reward(["x"], []) == 0.0


def test_official_search_key_gives_a_query_to_the_first_of_equals() -> None:
    assert official_search_key_reward(["red fox"], [["red hen"], ["red cow"]]) == pytest.approx(0.5 / 2)


def test_information_gain_counts_only_what_exceeds_the_memory() -> None:
    gain, memory = information_gain([0.0, 0.5], [[0.4, 0.1], [0.2, 0.7]])
    assert gain == pytest.approx((0.4 + 0.2) / 2)
    assert memory == [0.4, 0.7]
    assert information_gain(memory, [[0.4, 0.7]])[0] == 0.0
    assert information_gain(memory, []) == (0.0, memory)
    assert information_gain([], [[], []]) == (0.0, [])


def test_random_documents_gain_by_common_words_alone() -> None:
    golden = ["The fox lives in the wood.", "The hen lives on the farm."]
    unrelated = ["The king sat in the castle on the hill."]
    assert random_document_gain(golden, unrelated) > 0.2
    assert random_document_gain(golden, unrelated, ENGLISH_STOP_WORDS) == 0.0
    assert random_document_gain(golden, golden) == pytest.approx(1.0)
    assert random_document_gain([], unrelated) == 0.0
    assert random_document_gain(golden, []) == 0.0


def test_redundancy_is_the_share_of_documents_of_earlier_steps() -> None:
    assert redundancy_penalty(named("a", "b", "c"), named("c", "x"), NO_GOLDEN, 1.0) == pytest.approx(1 / 3)
    assert redundancy_penalty(named("a", "a"), [], NO_GOLDEN, 1.0) == 0.0
    assert redundancy_penalty([], named("a"), NO_GOLDEN, 1.0) == 0.0


def test_redundancy_by_similar_text_below_a_threshold_of_one() -> None:
    golden = GoldenTerms(["The fox lives in the wood."])
    old = Passage("old", "The hen lives on the farm near the river.")
    copy = Passage("copy", "The hen lives on the farm near a river.")
    other = Passage("other", "Castles were built of stone.")
    assert golden.cosine_of_pair(golden.pair_terms(old.text), golden.pair_terms(copy.text)) == pytest.approx(
        0.98, abs=0.005
    )
    assert redundancy_penalty([copy, other], [old], golden, 0.8) == 0.5
    assert redundancy_penalty([copy, other], [old], golden, 1.0) == 0.0


def test_official_redundancy_counts_duplicates_within_the_step_too() -> None:
    assert official_redundancy_penalty(named("a", "a", "b"), named("b")) == pytest.approx(2 / 3)
    assert official_redundancy_penalty([], named("b")) == 0.0


def test_official_documents_keep_the_next_documents_label() -> None:
    documents = label_documents([Passage.from_text(text) for text in ("The Fox.", "", "A Hen")])
    assert [document.id for document in documents] == ["The Fox.\nDoc 2", "Doc 3", "A Hen"]
    assert [document.text for document in documents] == ["fox doc 2", "doc 3", "hen"]


def test_golden_recall_is_by_id_or_body() -> None:
    golden = [Passage("g1", "fox"), Passage("g2", "hen"), Passage("g3", "cow"), Passage("g4", "owl")]
    steps = [
        SearchStep("q", (Passage("g1", "cut f"), Passage("other", "hen")), end_position=1),
        SearchStep("q", (Passage("g1", "fox"),), end_position=3),
    ]
    assert golden_recall(golden, steps) == 0.5
    assert golden_recall(golden, []) == 0.0
    assert golden_recall([], steps) is None
