"""What is asked of a chat model, and what comes back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat that the model is to go on with. Equal requests are one request: the second is answered by the cache.

    Attributes:
        messages: the chat so far.
        max_tokens: the reply is cut there.
        temperature: 0 is greedy.
        schema: JSON schema that the reply has to fit; None for free text.
        stop: texts before which the reply ends, never part of it.
        seed: tells samples of the same chat apart; None where one is enough.
    """

    messages: tuple[ChatMessage, ...]
    max_tokens: int = 512
    temperature: float = 0.0
    schema: Mapping[str, Any] | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What the model wrote, with what it cost when it was paid for.

    Attributes:
        text: the reply; empty where the model refused.
        prompt_tokens: as the endpoint counted them.
        completion_tokens: as the endpoint counted them.
        finish_reason: `stop`, `length` where it was cut, or the endpoint's own word.
        cached: it was not asked for again.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    cached: bool = False


@dataclass(frozen=True, slots=True)
class ChatFailure:
    """A request without a reply: every try failed, or the budget did not cover it and it was never sent."""

    reason: str
    over_budget: bool = False


def request_key(base_url: str, model: str, request: ChatRequest) -> str:
    """Return a hash of all that decides the reply."""
    content = json.dumps([base_url, model, asdict(request)], sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


def most_tokens(request: ChatRequest) -> tuple[int, int]:
    """Return how many prompt and completion tokens a request can cost at most.

    No token is shorter than a byte; chat templates add some around each message, and maybe a system prompt.
    """
    asked = 64 + sum(len(message.content.encode("utf-8", "surrogatepass")) + 16 for message in request.messages)
    schema = len(json.dumps(request.schema)) if request.schema is not None else 0
    return asked + schema, request.max_tokens


def likely_prompt_tokens(request: ChatRequest) -> int:
    """Return about how many tokens a request's prompt has."""
    schema = "" if request.schema is None else json.dumps(request.schema)
    return sum(likely_tokens(message.content) for message in request.messages) + likely_tokens(schema)


def likely_tokens(text: str) -> int:
    """Return about how many tokens a text has: one for four bytes, as English has with current tokenizers."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)
