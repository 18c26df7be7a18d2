"""A policy small enough to read: one token per character, and a script that says what follows a context."""

from collections.abc import Callable, Sequence

import pytest

from stepsearch.protocol import STOP_TAGS
from stepsearch.rollout.generation import Sampling, Segment, SegmentEnd


class CharacterTokenizer:
    def encode_prompt(self, question: str) -> list[int]:
        return self.encode_markup(f"Question: {question}\n")

    def encode_prompts(self, questions: Sequence[str]) -> list[list[int]]:
        return [self.encode_prompt(question) for question in questions]

    def encode_markup(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def encode_plain(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode_markup(text) for text in texts]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))


class ScriptedEngine:
    """Answers each context with what `script` returns for its text, up to the first closed tag or the budget."""

    def __init__(self, script: Callable[[str], str]) -> None:
        self._script = script
        self._tokenizer = CharacterTokenizer()
        self._submitted: list[tuple[int, str, Sampling]] = []
        self.contexts: list[str] = []

    @property
    def active(self) -> int:
        return len(self._submitted)

    def submit(self, request_id: int, token_ids: Sequence[int], sampling: Sampling) -> None:
        context = self._tokenizer.decode(token_ids)
        self.contexts.append(context)
        self._submitted.append((request_id, context, sampling))

    def step(self) -> list[Segment]:
        submitted, self._submitted = self._submitted, []
        return [self._segment(*request) for request in submitted]

    def release(self, request_id: int) -> None:
        pass

    def _segment(self, request_id: int, context: str, sampling: Sampling) -> Segment:
        text = self._script(context)
        ends = [text.find(tag) + len(tag) for tag in STOP_TAGS if tag in text]
        ids = self._tokenizer.encode_markup(text[: min(ends, default=len(text))])[: sampling.max_tokens]
        end = SegmentEnd.STOP_TAG if ends and len(ids) == min(ends) else SegmentEnd.LENGTH
        return Segment(request_id, ids, [0.0] * len(ids), end)


@pytest.fixture
def tokenizer() -> CharacterTokenizer:
    return CharacterTokenizer()


@pytest.fixture
def scripted() -> Callable[[Callable[[str], str]], ScriptedEngine]:
    return ScriptedEngine
