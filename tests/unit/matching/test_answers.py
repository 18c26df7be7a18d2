import pytest

from stepsearch.matching.answers import cover_exact_match, exact_match, hotpot_f1, normalize, squad_f1, token_f1


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Eiffel-Tower!", "eiffeltower"),
        ("A. A. Milne", "milne"),
        ("  an\tapple \n a day ", "apple day"),
        ("Los Angeles' theatre", "los angeles theatre"),
        ("U.S.A.", "usa"),
        ("the", ""),
        ("?!", ""),
        ("Élan 10,5 %", "élan 105"),
        ("theatre antheap", "theatre antheap"),
    ],
)
def test_normalize(text: str, normalized: str) -> None:
    assert normalize(text) == normalized


def test_f1_is_over_multisets() -> None:
    # 2 of 3 predicted words and 2 of 4 gold words overlap: 2 * 2/3 * 2/4 / (2/3 + 2/4) = 4/7
    assert token_f1("blue blue red", ["blue blue blue green"]) == pytest.approx(4 / 7)


def test_the_best_of_several_answers_counts() -> None:
    assert token_f1("Minot, North Dakota", ["Fargo", "minot north dakota", "Minot"]) == 1.0
    assert exact_match("Minot", ["Fargo", "the Minot."]) == 1.0


@pytest.mark.parametrize("score", [exact_match, token_f1, squad_f1, hotpot_f1])
def test_nothing_predicted_or_expected_scores_zero(score) -> None:
    assert score(None, ["Paris"]) == 0.0
    assert score("", ["Paris"]) == 0.0
    assert score("Paris", []) == 0.0


def test_what_normalises_to_nothing_is_compared_as_written() -> None:
    assert exact_match(" A ", ["A"]) == 1.0
    assert token_f1("A", ["A"]) == 1.0
    assert exact_match("The", ["A"]) == 0.0
    assert token_f1("...", ["A"]) == 0.0
    assert token_f1("The The", ["The The"]) == 1.0
    assert exact_match("a cat", ["A"]) == 0.0


def test_squad_gives_nothing_for_what_normalises_to_nothing() -> None:
    assert squad_f1("A", ["A"]) == 0.0
    assert squad_f1("the cat", ["cat"]) == 1.0


def test_hotpot_gives_nothing_for_a_yes_with_words_around_it() -> None:
    assert token_f1("yes it is", ["yes"]) == pytest.approx(0.5)
    assert hotpot_f1("yes it is", ["yes"]) == 0.0
    assert hotpot_f1("no", ["no doubt"]) == 0.0
    assert hotpot_f1("Yes.", ["yes"]) == 1.0
    assert hotpot_f1("green door", ["red door"]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("prediction", "answers", "covered"),
    [
        ("He was born in Oslo, Norway", ["Oslo"], 1.0),
        ("Norway", ["no"], 0.0),
        ("the United States of America", ["USA", "United States"], 1.0),
        ("States United", ["United States"], 0.0),
        ("Oslo", ["Oslo, Norway"], 0.0),
        (None, ["Oslo"], 0.0),
        ("the", ["A"], 0.0),
    ],
)
def test_an_answer_that_stands_in_the_prediction(prediction: str | None, answers: list[str], covered: float) -> None:
    assert cover_exact_match(prediction, answers) == covered
