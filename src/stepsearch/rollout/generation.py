"""What a rollout asks of whatever generates tokens, and of whatever turns text into tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample one segment.

    Attributes:
        max_tokens: sample at most this many tokens.
        seed: the episode's seed; with the context it decides the noise, whatever else is sampled at the same time.
        temperature: 0 is greedy.
        top_p: nucleus mass, 1 is off.
        top_k: 0 is off.
    """

    max_tokens: int
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


class SegmentEnd(StrEnum):
    """Why the engine stopped sampling a segment."""

    STOP_TAG = "stop_tag"
    END_OF_SEQUENCE = "end_of_sequence"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Segment:
    """One finished segment: the sampled ids (stop and end-of-sequence token included) with their log-probabilities."""

    request_id: int
    token_ids: list[int]
    logprobs: list[float]
    end: SegmentEnd


class GenerationEngine(Protocol):
    """Samples many segments at once.

    A request lives from its first `submit` to `release`. It samples one segment per `submit`: until a tag of
    `protocol.STOP_TAGS` closes, an end-of-sequence token, or `sampling.max_tokens`. Nothing is sampled past that.
    """

    def submit(self, request_id: int, token_ids: Sequence[int], sampling: Sampling) -> None:
        """Sample the next segment after `token_ids`, the request's whole context so far.

        For a request that is still held, `token_ids` extends what the engine has read and sampled, so that only the
        new tokens are read.
        """
        ...

    def step(self) -> list[Segment]:
        """Advance every active segment by a token or more; return those that finished, in order of submission."""
        ...

    def release(self, request_id: int) -> None:
        """Forget a request and free its memory."""
        ...

    @property
    def active(self) -> int:
        """How many segments are being sampled or wait for a slot."""
        ...


class EpisodeTokenizer(Protocol):
    """What a rollout needs of a tokenizer. Ids are appended, never decoded and encoded again."""

    def encode_prompt(self, question: str) -> list[int]:
        """Return the ids of a whole prompt in the model's prompt style."""
        ...

    def encode_prompts(self, questions: Sequence[str]) -> list[list[int]]:
        """Return the prompt of each question, encoded in one batch."""
        ...

    def encode_markup(self, text: str) -> list[int]:
        """Return the ids of text of the environment's own, tags of the grammar included."""
        ...

    def encode_plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each outside text; special tokens in it are spelled out, not recognised."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included."""
        ...
