import math

import pytest

from stepsearch.matching.stop_words import ENGLISH_STOP_WORDS
from stepsearch.matching.tfidf import GoldenTerms, count_terms


def test_terms_are_lower_case_words_of_two_or_more_characters() -> None:
    terms = count_terms("A Cat, a CAT; o'Neill 3 42 né_é")
    assert dict(terms.counts) == {"cat": 2, "neill": 1, "42": 1, "né_é": 1}
    assert terms.square_sum == 7


def test_cosine_by_hand() -> None:
    # Two texts: "red" in both, idf ln(3/3)+1 = 1; "fox" and "hen" in one each, idf w = ln(3/2)+1.
    weight = math.log(3 / 2) + 1
    assert GoldenTerms(["red fox"]).cosines("red hen") == pytest.approx([1 / (1 + weight**2)])


def test_a_document_equal_to_a_golden_one_has_cosine_one() -> None:
    golden = GoldenTerms(["the quick brown fox", "a lazy dog"])
    same, other = golden.cosines("The quick, brown fox!")
    assert same == pytest.approx(1.0)
    assert same <= 1.0
    assert other == 0.0


@pytest.mark.parametrize("text", ["", "   ", "a b c", "?!"])
def test_empty_text_is_like_nothing(text: str) -> None:
    golden = GoldenTerms(["red fox", text])
    assert golden.cosines(text) == [0.0, 0.0]
    assert golden.cosines("red fox")[1] == 0.0
    assert golden.cosine_of_pair(golden.pair_terms(text), golden.pair_terms(text)) == 0.0
    assert golden.cosine_of_pair(golden.pair_terms(text), golden.pair_terms("red fox")) == 0.0


def test_stop_words_count_for_nothing() -> None:
    golden = ["the fox and the hen"]
    assert GoldenTerms(golden).cosines("the and of")[0] > 0.5
    assert GoldenTerms(golden, ENGLISH_STOP_WORDS).cosines("the and of") == [0.0]


def test_cosine_between_two_documents_by_hand() -> None:
    # Three texts (pair + one golden): "red" in both documents, idf ln(4/3)+1; "fox", "hen" in one, idf ln(4/2)+1.
    common, rare = math.log(4 / 3) + 1, math.log(2) + 1
    golden = GoldenTerms(["blue sky"])
    assert golden.cosine_of_pair(golden.pair_terms("red fox"), golden.pair_terms("red hen")) == pytest.approx(
        common**2 / (common**2 + rare**2)
    )
    assert golden.cosine_of_pair(golden.pair_terms("red fox"), golden.pair_terms("red fox")) == pytest.approx(1.0)


def test_without_golden_documents_there_is_no_cosine_but_documents_can_still_be_compared() -> None:
    assert GoldenTerms([]).cosines("red fox") == []
    alone = GoldenTerms([])
    assert alone.cosine_of_pair(alone.pair_terms("red fox"), alone.pair_terms("red fox")) == pytest.approx(1.0)
