"""Demonstrations of a user's own: chat messages or tagged text, read into what a rollout would hold.

    {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": turn}, …]}
    {"question": question, "text": "<think>…</think><search>…</search><information>…</information>…<answer>…</answer>"}
    {"prompt": question, "completion": text}     as `question` and `text`, or both as lists of messages

Every message after the first that is not the assistant's is a search result, with or without its tags.
"""

import re
from pathlib import Path

from stepsearch.data.record_files import read_records
from stepsearch.data.records import Record
from stepsearch.preparation.demonstrations import Demonstration, Observed, Written
from stepsearch.protocol import (
    ANSWER,
    CORRECTION,
    INFORMATION,
    NO_SEARCH_LEFT,
    STOP_TAGS,
    Answer,
    NoAction,
    closing,
    neutralise,
    opening,
    parse_documents,
    parse_turn,
)
from stepsearch.types import Passage

_RESULT = re.compile(rf"\s*{opening(INFORMATION)}(.*?){closing(INFORMATION)}\s*", re.DOTALL)
_OBSERVED_ROLES = ("user", "tool")
_SHOWN = 40


def read_demonstrations(path: Path, max_searches: int) -> list[Demonstration]:
    """Return the demonstrations of a file of JSON lines, or of one JSON list; gzip is read too.

    Args:
        path: the file.
        max_searches: searches that an episode may have.

    Raises:
        DataError: a line is no demonstration; it is named with what is wrong.
    """
    return [_demonstration(record, max_searches) for record in read_records(path)]


def _demonstration(record: Record, max_searches: int) -> Demonstration:
    question, text = _question_and_text(record)
    if not question:
        raise record.error("the question is blank")
    return Demonstration(question, tuple(_segments(record, text, max_searches)), record.where)


def _question_and_text(record: Record) -> tuple[str, str]:
    if "messages" in record.values:
        return _of_messages(record, record.records("messages"))
    if "completion" in record.values and isinstance(record.values["completion"], list):
        return _of_messages(record, [*record.records("prompt"), *record.records("completion")])
    if "completion" in record.values:
        return record.text("prompt").strip(), record.text("completion")
    if "text" in record.values:
        return record.text("question").strip(), record.text("text")
    raise record.error("a demonstration has messages, question and text, or prompt and completion")


def _of_messages(record: Record, messages: list[Record]) -> tuple[str, str]:
    """Return the first message as the question, and the others as one tagged text."""
    if not messages or messages[0].text("role") != "user":
        raise record.error(
            "the first message has to be the user's, and be the question alone: what else a prompt says is "
            "model.prompt's to write"
        )
    return messages[0].text("content").strip(), "".join(_tagged(message) for message in messages[1:])


def _tagged(message: Record) -> str:
    role, content = message.text("role"), message.text("content")
    if role == "assistant":
        return content
    if role not in _OBSERVED_ROLES:
        raise message.error(
            f"role '{role}' has no place after the question: use assistant, {' or '.join(_OBSERVED_ROLES)}"
        )
    return (
        content if _RESULT.fullmatch(content) else f"{opening(INFORMATION)}{neutralise(content)}{closing(INFORMATION)}"
    )


def _segments(record: Record, text: str, max_searches: int) -> list[Written | Observed]:
    """Return turns and results in order; the last turn answers, and is the only one to do so."""
    if CORRECTION.strip() in text:
        raise record.error("a turn without a valid action was corrected here: demonstrate no such thing")
    segments: list[Written | Observed] = []
    rest, searches = text.strip(), 0
    while True:
        if not rest:
            raise record.error(f"it ends without an answer: let its last turn hold {opening(ANSWER)}…{closing(ANSWER)}")
        turn, rest = _first_turn(rest)
        action = parse_turn(turn)
        number = searches + 1
        if isinstance(action, NoAction):
            raise record.error(f"turn {number} does nothing ({action.reason}): {_shortened(turn)}")
        if opening(INFORMATION) in turn or closing(INFORMATION) in turn:
            raise record.error(f"turn {number} holds an {opening(INFORMATION)} that follows no search")
        segments.append(Written(turn))
        if isinstance(action, Answer):
            if rest:
                raise record.error(f"there is text after the answer, which ends an episode: {_shortened(rest)}")
            return segments
        searches += 1
        if searches > max_searches:
            raise record.error(f"there are more searches than reward.max_search_steps={max_searches}")
        result = _RESULT.match(rest)
        if result is None:
            raise record.error(
                f"search {searches} ({_shortened(action.query)}) is not followed by "
                f"{opening(INFORMATION)}…{closing(INFORMATION)}"
            )
        segments.append(Observed(_passages(result[1]), searches == max_searches))
        rest = rest[result.end() :].removeprefix(NO_SEARCH_LEFT.strip()).lstrip()


def _first_turn(text: str) -> tuple[str, str]:
    """Return the text up to its first closed action, and what follows; all of it where nothing is closed."""
    ends = [text.find(tag) + len(tag) for tag in STOP_TAGS if tag in text]
    end = min(ends, default=len(text))
    return text[:end], text[end:].lstrip()


def _passages(information: str) -> tuple[Passage, ...]:
    return tuple(Passage.from_text(body, title) for title, body in parse_documents(information) if title or body)


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return f"'{text[:_SHOWN]}…'" if len(text) > _SHOWN else f"'{text}'"
