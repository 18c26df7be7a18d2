"""A language model made of rules, that annotates well: what a chat server answers in tests."""

import json
import re
from typing import Any

_STEP = re.compile(r"^\d+\. (?P<text>.*)\n   answer: (?P<answer>.*)$", re.MULTILINE)


def answer(body: dict[str, Any]) -> str:
    """Return a well-formed reply to either request of an annotation."""
    system, user = (message["content"] for message in body["messages"][:2])
    steps = [(step["text"], step["answer"]) for step in _STEP.finditer(user)]
    if "Rewrite every step" in system:
        return json.dumps({"sub_questions": [{"sub_question": _asked(text), "answer": found} for text, found in steps]})
    return json.dumps({"steps": [{"queries": [text.strip("?"), "something else entirely"]} for text, _ in steps]})


def _asked(text: str) -> str:
    """Return a natural question for `subject >> relation`."""
    subject, arrow, relation = text.partition(" >> ")
    return f"{subject} {relation}?" if arrow else text
