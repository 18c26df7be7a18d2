"""What another package says of a failure, as a part of one line."""

import pytest

from stepsearch.errors import one_line

SENTENCES = "We could not reach the hub. Check the internet connection. Offline mode is explained at the address."


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [
        ("short\n  and on\ttwo lines ", 200, "short and on two lines"),
        (SENTENCES, 60, "We could not reach the hub. Check the internet connection"),
        ("one two three four", 18, "one two three four"),
        ("one two three four", 17, "one two three…"),
        # A first sentence that says little is not all that is told.
        ("No. The file of the model is cut off somewhere", 20, "No. The file of…"),
        ("a" * 30, 10, "a" * 9 + "…"),
    ],
)
def test_a_reason_is_one_line_of_whole_sentences_or_words(text: str, longest: int, expected: str) -> None:
    assert one_line(ValueError(text), longest) == expected
    assert len(expected) <= longest


def test_an_error_without_a_text_is_told_by_its_type() -> None:
    assert one_line(TimeoutError()) == "TimeoutError"
