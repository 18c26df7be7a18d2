"""Reads the answer out of what a model said, and tells where a line or a sentence ends."""

import re

from stepsearch.evaluation.text_generation import Sampled, TextEnd

ANSWER_PHRASE = "So the answer is:"
_ANSWER = re.compile(r".*\banswer is(?::\s*|\s+)(\S[^\n]*)", re.IGNORECASE | re.DOTALL)
_ANSWER_LINE = re.compile(r"\bso the answer is(?::\s*|\s+)\S[^\n]*(?=\n)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s+\S)|\n")
_NO_SENTENCE_END = re.compile(r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|e\.g|i\.e|[ap]\.m))\.$")


def named_answer(text: str) -> str | None:
    """Return what stands after the last "answer is" of a text, to the end of its line; None without one."""
    match = _ANSWER.match(text)
    return _clean(match[1]) or None if match else None


def reasoned_answer(said: Sampled) -> str | None:
    """Return the answer of a chain of thought: what it names as such, else its last line if it came to its end."""
    named = named_answer(said.text)
    if named or said.end in (TextEnd.LENGTH, TextEnd.CONTEXT_FULL):
        return named
    lines = [line for line in said.text.splitlines() if line.strip()]
    return _clean(lines[-1]) or None if lines else None


def first_line(text: str) -> str | None:
    """Return the first line that says something; None if there is none."""
    return next((line.strip() for line in text.splitlines() if line.strip()), None)


def line_end(text: str) -> int | None:
    """Return where the first line that says something ends, None while it may go on."""
    start = len(text) - len(text.lstrip())
    end = text.find("\n", start)
    return None if end < 0 else end


def answer_line_end(text: str) -> int | None:
    """Return where the line ends that names the answer in the words asked for, None while it may go on."""
    match = _ANSWER_LINE.search(text)
    return match.end() if match else None


def sentence_end(text: str) -> int | None:
    """Return where the first sentence ends, None while it may go on; initials and common titles end none."""
    start = len(text) - len(text.lstrip())
    for match in _SENTENCE_END.finditer(text, start):
        if match[0] == "\n":
            return match.start()
        if not _NO_SENTENCE_END.search(text[: match.start() + 1]):
            return match.end()
    return None


def _clean(answer: str) -> str:
    """Return an answer without the marks around it and the full stop that ends its sentence."""
    return answer.strip().strip('*"` ').removesuffix(".").strip('*"` ')
