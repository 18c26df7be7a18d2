"""EM and F1 against the published scoring rules of SQuAD v1.1 and HotpotQA, written down here on their own."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepsearch.matching.answers import exact_match, hotpot_f1, normalize, squad_f1, token_f1

TRICKY = [
    "The Beatles",
    "beatles",
    "the the beatles",
    "A",
    "An apple a day",
    "U.S. (United States)",
    "us united states",
    "yes",
    "Yes, it is",
    "no",
    "noanswer",
    "1,234.5",
    "12345",
    "rock-'n'-roll",
    "rock 'n' roll",
    "São Paulo",
    "sao paulo",
    "“The Who”",
    "“the who”",
    "a–b",
    "b a",
    "北京 the 市",
    "theology",
    "",
    "   ",
    "!!!",
    "one one two",
    "one two two",
    "İstanbul",
    "x\u00a0y\u2003z",
]
ANSWERS = st.one_of(st.sampled_from(TRICKY), st.text(max_size=12))


def published_normalization(answer: str) -> str:
    lowered = answer.lower()
    unpunctuated = "".join(character for character in lowered if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", unpunctuated).split())


def published_exact_match(prediction: str, truth: str) -> float:
    return float(published_normalization(prediction) == published_normalization(truth))


def published_f1(prediction: str, truth: str) -> float:
    predicted, true = published_normalization(prediction).split(), published_normalization(truth).split()
    same = sum((Counter(predicted) & Counter(true)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(true)
    return (2 * precision * recall) / (precision + recall)


def published_hotpot_f1(prediction: str, truth: str) -> float:
    predicted, true = published_normalization(prediction), published_normalization(truth)
    if predicted in ["yes", "no", "noanswer"] and predicted != true:
        return 0.0
    if true in ["yes", "no", "noanswer"] and predicted != true:
        return 0.0
    return published_f1(prediction, truth)


@given(prediction=ANSWERS, truths=st.lists(ANSWERS, min_size=1, max_size=3))
def test_scores_of_anything_that_does_not_normalise_to_nothing(prediction: str, truths: list[str]) -> None:
    assert normalize(prediction) == published_normalization(prediction)
    assert squad_f1(prediction, truths) == max(published_f1(prediction, truth) for truth in truths)
    if all(published_normalization(text) for text in (prediction, *truths)):
        assert exact_match(prediction, truths) == max(published_exact_match(prediction, truth) for truth in truths)
        assert token_f1(prediction, truths) == max(published_f1(prediction, truth) for truth in truths)
        assert hotpot_f1(prediction, truths) == max(published_hotpot_f1(prediction, truth) for truth in truths)


@pytest.mark.parametrize("prediction", TRICKY)
def test_scores_of_tricky_pairs(prediction: str) -> None:
    for truth in TRICKY:
        assert squad_f1(prediction, [truth]) == published_f1(prediction, truth)
        if normalize(prediction) and normalize(truth):
            assert exact_match(prediction, [truth]) == published_exact_match(prediction, truth)
            assert token_f1(prediction, [truth]) == published_f1(prediction, truth)
            assert hotpot_f1(prediction, [truth]) == published_hotpot_f1(prediction, truth)
