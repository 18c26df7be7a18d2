"""What a loop of text asks of whatever samples it: pieces of text in, sampled text out, many requests at once.

A request's context is a prompt (a user's message for a model with a chat template) and what has been said since: turns
of the model, and text of the environment between them. The same request can be put to a model in this process, which
tells token ids and log-probabilities, and to one behind an endpoint, which tells neither.
"""

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from stepsearch.protocol import ANSWER, SEARCH, closing, neutralise_control, opening


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that the model did not sample; `outside` is text of others (questions, documents), which cannot act."""

    text: str
    outside: bool = False


class TextEnd(StrEnum):
    """Why a sampled text ended."""

    STOP = "stop"
    END_OF_SEQUENCE = "end_of_sequence"
    LENGTH = "length"
    CONTEXT_FULL = "context_full"
    NO_REPLY = "no_reply"


@dataclass(frozen=True, slots=True)
class Sampled:
    """One sampled text: the stop string that ended it is part of it, an end-of-sequence token is not.

    Attributes:
        text: what was said; empty where the context left no room to say anything, or the model did not reply.
        end: why it ended there.
        token_ids: [n] as sampled; empty where they are not known.
        logprobs: [n] of those tokens when sampled.
    """

    text: str
    end: TextEnd
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """A string that ends a sampled text; `opening` is the tag that it closes, where it closes one."""

    text: str
    opening: str = ""


SEARCH_STOP, ANSWER_STOP = (Stop(closing(name), opening(name)) for name in (SEARCH, ANSWER))
Until = Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """What is to be sampled.

    Attributes:
        prompt: what the model is asked.
        said: what followed so far, in order: turns of the model and text of the environment.
        max_tokens: sample at most this many tokens.
        stops: end with the first of these.
        until: tells from the text so far where it is to end, None for not yet.
        seed: decides the sampling noise.
    """

    prompt: Sequence[Piece]
    said: Sequence[Piece | Sampled]
    max_tokens: int
    stops: Sequence[Stop] = ()
    until: Until | None = None
    seed: int = 0


class TextGenerator(Protocol):
    """Samples texts."""

    def generate(self, requests: Sequence[SampleRequest]) -> list[Sampled]:
        """Return what was sampled for each request, in their order."""
        ...

    def encode_prompt(self, prompt: Sequence[Piece]) -> list[int]:
        """Return a prompt's token ids; none where they are not known."""
        ...

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Return the token ids of text that follows a prompt; none where they are not known."""
        ...

    def clip(self, text: str, max_tokens: int) -> str:
        """Return as much of the beginning of a text as has so many tokens."""
        ...

    @property
    def reads_instructions(self) -> bool:
        """Whether the model knows more than the bare prompt of the tag grammar."""
        ...


def end_of(text: str, request: SampleRequest) -> int | None:
    """Return where the request ends a text: behind its first stop string or where `until` says, None for nowhere."""
    found = [place + len(stop.text) for stop in request.stops if (place := text.find(stop.text)) >= 0]
    until = request.until(text) if request.until else None
    return min([*found, *([] if until is None else [until])], default=None)


def fill(template: str, **fields: str | Piece) -> tuple[Piece, ...]:
    """Return a prompt: the template's own text, and its `{fields}`.

    A string is text from outside, in which no tag can act; a piece stands as it is.
    """
    pieces: list[Piece] = []
    for text, name, _, _ in string.Formatter().parse(template):
        pieces += [Piece(text)] if text else []
        if name:
            value = fields[name]
            pieces.append(value if isinstance(value, Piece) else Piece(neutralise_control(value), outside=True))
    return tuple(pieces)


def joined(pieces: Sequence[Piece | Sampled]) -> str:
    """Return the pieces as one text."""
    return "".join(piece.text for piece in pieces)
