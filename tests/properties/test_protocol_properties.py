"""Properties of the tag grammar over arbitrary text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from stepsearch.protocol import TAGS, Answer, NoAction, Search, neutralise, parse_turn, render_turn

PIECES = st.lists(st.one_of(st.sampled_from([*TAGS, "< search >", "</Answer >", "<"]), st.text(max_size=8)), max_size=8)
LETTERS = st.text(max_size=40).map(neutralise)
CONTENT = LETTERS.map(lambda text: re.sub(r"\s+", " ", text).strip()).filter(bool)
ACTIONS = st.one_of(CONTENT.map(Search), CONTENT.map(Answer))


@given(thought=LETTERS, action=ACTIONS)
def test_parse_of_render_is_the_identity(thought: str, action: Search | Answer) -> None:
    assert parse_turn(render_turn(thought, action)) == action


@given(pieces=PIECES)
def test_no_document_acts_whatever_tags_it_holds(pieces: list[str]) -> None:
    assert isinstance(parse_turn(neutralise("".join(pieces))), NoAction)


@given(pieces=PIECES, action=ACTIONS)
def test_a_document_before_a_turn_does_not_change_it(pieces: list[str], action: Search | Answer) -> None:
    assert parse_turn(neutralise("".join(pieces)) + render_turn("", action)) == action


@given(pieces=PIECES)
def test_neutralising_twice_is_neutralising_once(pieces: list[str]) -> None:
    once = neutralise("".join(pieces))
    assert neutralise(once) == once
