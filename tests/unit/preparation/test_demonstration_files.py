"""A user's demonstrations: what is read of them, and the one line that each mistake gives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepsearch.errors import DataError
from stepsearch.preparation.demonstration_files import read_demonstrations
from stepsearch.preparation.demonstrations import Demonstration, Observed, Written
from stepsearch.protocol import CORRECTION, NO_SEARCH_LEFT
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search.guarded_search import SearchOutcome
from stepsearch.types import Passage

SEARCH = "<think>who?</think><search>red leader</search>"
RESULT = "<information>Doc 1 (Title: Red (club)) Kim leads Red.\nDoc 2 Max leads Blue.</information>"
ANSWER = "<think>so</think><answer>Kim</answer>"
PASSAGES = (Passage.from_text("Kim leads Red.", "Red (club)"), Passage.from_text("Max leads Blue."))
WHOLE = Demonstration("who leads red", (Written(SEARCH), Observed(PASSAGES), Written(ANSWER)))

Read = Callable[..., list[Demonstration]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(*records: Any, max_searches: int = 3) -> list[Demonstration]:
        path = tmp_path / "shown.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return read_demonstrations(path, max_searches)

    return read


def tagged(text: str) -> dict[str, Any]:
    return {"question": "who leads red", "text": text}


def chat(*turns: tuple[str, str]) -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in (("user", "who leads red"), *turns)]
    return {"messages": messages}


@pytest.mark.parametrize(
    "record",
    [
        tagged(f"{SEARCH}\n{RESULT}\n{ANSWER}"),
        tagged(f"  {SEARCH}{RESULT}\n\n{ANSWER}\n"),
        chat(("assistant", SEARCH), ("tool", RESULT), ("assistant", ANSWER)),
        chat(("assistant", f"{SEARCH}\n"), ("user", RESULT[13:-14]), ("assistant", ANSWER)),
        chat(("assistant", f"{SEARCH}\n{RESULT}\n{ANSWER}")),
        {"prompt": "who leads red ", "completion": f"{SEARCH}{RESULT}{ANSWER}"},
        {
            "prompt": [{"role": "user", "content": "who leads red"}],
            "completion": [{"role": "assistant", "content": f"{SEARCH}{RESULT}{ANSWER}"}],
        },
    ],
)
def test_every_form_gives_the_same_demonstration(read: Read, record: dict[str, Any]) -> None:
    assert read(record, record) == [WHOLE, WHOLE]


def test_the_last_search_allowed_is_known_as_that(read: Read) -> None:
    assert read(tagged(f"{SEARCH}\n{RESULT}\n{NO_SEARCH_LEFT}{ANSWER}"), max_searches=1)[0].segments == (
        Written(SEARCH),
        Observed(PASSAGES, was_last=True),
        Written(ANSWER),
    )


@pytest.mark.parametrize(
    ("information", "documents"),
    [
        ("No documents were found.", ()),
        (" ", ()),
        ("Kim leads red.", (Passage.from_text("Kim leads red."),)),
        ('Doc 1(Title: "Red") Kim\nleads.', (Passage.from_text("Kim\nleads.", "Red"),)),
        ("Doc 1 (Title: Red)", (Passage.from_text("", "Red"),)),
        ("See Doc 1 about red.", (Passage.from_text("See Doc 1 about red."),)),
    ],
)
def test_documents_of_a_result(read: Read, information: str, documents: tuple[Passage, ...]) -> None:
    (shown,) = read(tagged(f"{SEARCH}<information>{information}</information>{ANSWER}"))
    assert shown.segments[1] == Observed(documents)


def test_what_a_rollout_wrote_is_read_back(read: Read, spelled_tokenizer: Any) -> None:
    passages = (*PASSAGES, Passage.from_text("He said: Doc 3 is\nred </search>.", "A <b> (c)"))
    observations = ObservationBuilder(spelled_tokenizer, 400, 200)
    (observed,) = observations.build([SearchOutcome(passages, False)])
    (shown,) = read(tagged(f"{SEARCH}{spelled_tokenizer.decode(observed)}{ANSWER}"))
    assert isinstance(shown.segments[1], Observed)
    assert observations.build([SearchOutcome(shown.segments[1].passages, False)]) == [observed]


def test_tags_in_a_bare_result_are_text(read: Read) -> None:
    (shown,) = read(chat(("assistant", SEARCH), ("tool", "Kim</information><answer>x</answer>"), ("assistant", ANSWER)))
    assert shown.segments[1] == Observed((Passage.from_text("Kim[/information][answer]x[/answer]"),))


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"question": "who"}, "a demonstration has messages, question and text, or prompt and completion"),
        ({"question": " ", "text": ANSWER}, "the question is blank"),
        ({"question": "who", "text": 3}, "key 'text' must hold a text"),
        ({"text": ANSWER}, "key 'question' is missing"),
        ({"messages": []}, "the first message has to be the user's"),
        ({"messages": [{"role": "system", "content": "You search."}]}, "the first message has to be the user's"),
        (chat(("system", "hi")), "messages[1]: role 'system' has no place after the question"),
        (chat(("assistant", SEARCH)), "search 1 ('red leader') is not followed by <information>…</information>"),
        (tagged(f"{SEARCH}{ANSWER}"), "search 1 ('red leader') is not followed by"),
        (tagged(f"{SEARCH}{RESULT}"), ": it ends without an answer: let its last turn hold <answer>…</answer>"),
        (tagged(" "), ": it ends without an answer"),
        ({"messages": [{"role": "user", "content": "who"}]}, ": it ends without an answer"),
        (tagged(f"{SEARCH}{RESULT}Kim it is."), "turn 2 does nothing (no closed search or answer): 'Kim it is.'"),
        (tagged("<search> </search>"), "turn 1 does nothing (empty <search>)"),
        (tagged(f"{ANSWER}<|im_end|>"), "there is text after the answer, which ends an episode: '<|im_end|>'"),
        (tagged(f"{RESULT}{ANSWER}"), "turn 1 holds an <information> that follows no search"),
        (tagged(4 * f"{SEARCH}{RESULT}"), "there are more searches than reward.max_search_steps=3"),
        (tagged(f"hm{CORRECTION}{ANSWER}"), "a turn without a valid action was corrected here"),
    ],
)
def test_a_wrong_demonstration_is_named_with_its_line(read: Read, record: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError) as error:
        read(tagged(ANSWER), record)
    assert "shown.jsonl, line 2" in str(error.value)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
