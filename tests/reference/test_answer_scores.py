"""EM and F1 against the published scoring rules of SQuAD v1.1 and HotpotQA, written down here on their own."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepsearch.matching.answers import dataset_f1, exact_match, hotpot_f1, normalize, squad_f1, token_f1

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


# Prediction, gold answer, EM, F1 by SQuAD's and MuSiQue's rule, F1 by HotpotQA's and 2WikiMultiHopQA's.
EDGE_CASES = [
    # Articles, capitals, white space.
    ("The Eiffel Tower", "eiffel  tower", 1, 1, 1),
    ("a tower", "the tower", 1, 1, 1),
    ("Theatre", "The atre", 0, 0, 0),
    # Punctuation goes without leaving a space.
    ("U.S.A.", "USA", 1, 1, 1),
    ("twenty-one", "twenty one", 0, 0, 0),
    ("rock 'n' roll", "rock n roll", 1, 1, 1),
    ("Washington, D.C.", "Washington", 0, 2 / 3, 2 / 3),
    # Only ASCII punctuation does, and accents stay.
    ("“Heroes”", "Heroes", 0, 0, 0),
    ("Dvořák", "Dvorak", 0, 0, 0),
    ("São Paulo", "são paulo", 1, 1, 1),
    ("東京", "東京", 1, 1, 1),
    ("Straße", "STRASSE", 0, 0, 0),
    # Closed answers: one word more makes nothing of them in HotpotQA and 2WikiMultiHopQA.
    ("Yes.", "yes", 1, 1, 1),
    ("yes, both are", "yes", 0, 1 / 2, 0),
    ("no", "yes", 0, 0, 0),
    ("no", "no doubt", 0, 2 / 3, 0),
    ("noanswer", "noanswer", 1, 1, 1),
    ("noanswer found", "noanswer", 0, 2 / 3, 0),
    # Dates and numbers are words like others.
    ("12 May 1990", "May 12, 1990", 0, 1, 1),
    ("1990", "12 May 1990", 0, 1 / 2, 1 / 2),
    ("1,000", "1000", 1, 1, 1),
    ("3.5", "35", 1, 1, 1),
    ("10%", "10 %", 1, 1, 1),
    # Words count as often as they stand.
    ("New York New York", "New York", 0, 2 / 3, 2 / 3),
    # Nothing against something.
    ("", "Paris", 0, 0, 0),
    ("the", "Paris", 0, 0, 0),
]


@pytest.mark.parametrize(("prediction", "truth", "em", "squad", "hotpot"), EDGE_CASES)
def test_edge_cases_of_the_published_scripts(
    prediction: str, truth: str, em: float, squad: float, hotpot: float
) -> None:
    assert published_exact_match(prediction, truth) == exact_match(prediction, [truth]) == em
    assert published_f1(prediction, truth) == pytest.approx(squad)
    assert published_hotpot_f1(prediction, truth) == pytest.approx(hotpot)
    for dataset in ("musique", "bamboogle", ""):
        assert dataset_f1(prediction, [truth], dataset) == pytest.approx(squad)
    for dataset in ("hotpotqa", "2wiki"):
        assert dataset_f1(prediction, [truth], dataset) == pytest.approx(hotpot)


@pytest.mark.parametrize(("prediction", "truth"), [("", ""), ("the", "a"), ("?", "!")])
def test_where_nothing_is_left_we_deviate(prediction: str, truth: str) -> None:
    """The published scripts call any two texts equal of which nothing is left; we compare them as they were written."""
    assert published_exact_match(prediction, truth) == 1
    assert exact_match(prediction, [truth]) == float(prediction == truth)
    assert published_f1(prediction, truth) == 0
