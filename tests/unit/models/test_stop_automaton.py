import numpy as np
import pytest

from stepsearch.models.stop_automaton import StopAutomaton
from stepsearch.protocol import STOP_TAGS


def first_close(pieces, token_ids):
    """Return the index of the token in which a tag closes, None if none does."""
    automaton = StopAutomaton(pieces, STOP_TAGS, len(pieces))
    state = np.array([automaton.start])
    for index, token in enumerate(token_ids):
        state = automaton.advance(state, np.array([token]))
        if state[0] == automaton.closed:
            return index
    return None


@pytest.mark.parametrize(
    ("pieces", "closes"),
    [
        (["a", "</search>", "b"], 1),
        (["<", "/", "answer", ">"], 3),
        (["x</sea", "rch", ">tail", "</answer>"], 2),
        (["</search", "</search>"], 1),
        (["<</answer>"], 0),
        (["</", "</answer", ">"], 2),
        (["</sear", "</search", ">"], 2),
        (["</search >", "</Search>", "<search>", "</ search>"], None),
        (["</answer", " >"], None),
        (["é</sé", "</search>"], 1),
        (["</sea", "", "rch>"], 2),
        (["\ud800", "</search>"], 1),
    ],
)
def test_it_finds_the_token_in_which_a_tag_closes(pieces, closes):
    assert first_close(pieces, range(len(pieces))) == closes


def test_rows_advance_together_and_stay_closed():
    pieces = ["</search>", "</", "answer>", "x"]
    automaton = StopAutomaton(pieces, STOP_TAGS, 6)

    states = np.zeros(3, dtype=np.int64)
    for tokens in ([0, 1, 1], [3, 2, 3], [4, 5, 2]):
        states = automaton.advance(states, np.array(tokens))

    assert [state == automaton.closed for state in states] == [True, True, False]


def test_it_agrees_with_searching_the_text():
    draw = np.random.default_rng(0)
    alphabet = ["<", "/", "search", "answer", ">", "</", "</s", "earch>", "wer>", "</ans", "x"]
    automaton = StopAutomaton(alphabet, STOP_TAGS, len(alphabet))
    tokens = draw.integers(0, len(alphabet), size=(3000, 12))
    states = np.zeros(3000, dtype=np.int64)
    for position in range(12):
        states = automaton.advance(states, tokens[:, position])

    texts = ["".join(alphabet[token] for token in row) for row in tokens]
    closed = [any(tag in text for tag in STOP_TAGS) for text in texts]
    assert (states == automaton.closed).tolist() == closed
    assert sum(closed) > 20


def test_every_token_of_a_large_vocabulary_has_its_place():
    pieces = [f"piece {token}" for token in range(150_000)]
    tags = {17: "</search>", 70_000: "so: </answer>.", 149_999: "</search>\n"}
    for token, text in tags.items():
        pieces[token] = text
    automaton = StopAutomaton(pieces, STOP_TAGS, len(pieces))

    states = automaton.advance(np.zeros(len(pieces), dtype=np.int64), np.arange(len(pieces)))

    assert np.flatnonzero(states == automaton.closed).tolist() == list(tags)
