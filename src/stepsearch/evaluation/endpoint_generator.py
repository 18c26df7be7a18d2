"""Texts sampled by a chat model behind an OpenAI-compatible endpoint, whose tokens are not known.

What the model said becomes a message of the assistant, what the environment said after it one of the user. An endpoint
leaves the stop string out and does not say which one it was: a tag that stands open at the end is taken to have been
closed.
"""

import logging
from collections.abc import Sequence

from stepsearch.chat_endpoint import ChatEndpoint, ChatFailure, ChatMessage, ChatReply, ChatRequest
from stepsearch.evaluation.text_generation import Piece, Sampled, SampleRequest, TextEnd, end_of, joined
from stepsearch.rollout.budget import MINIMAL_TURN_TOKENS

logger = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN = 4
"""About what a token of English text has; budgets are kept by it, as the endpoint's tokenizer is not known."""
_SEED_BITS = (1 << 31) - 1


class EndpointGenerator:
    """Implements `TextGenerator` over a chat endpoint.

    Args:
        endpoint: answers the requests; it retries and caches.
        max_length: tokens that context and reply may have together, counted at four characters each.
        temperature: 0 is greedy.
    """

    reads_instructions = True

    def __init__(self, endpoint: ChatEndpoint, max_length: int, temperature: float) -> None:
        self._endpoint = endpoint
        self._max_length = max_length
        self._temperature = temperature

    def encode_prompt(self, prompt: Sequence[Piece]) -> list[int]:
        """Return nothing: the tokens are not known."""
        return []

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Return nothing: the tokens are not known."""
        return []

    def clip(self, text: str, max_tokens: int) -> str:
        """Return as much of the beginning of a text as has about so many tokens."""
        return text[: max_tokens * CHARACTERS_PER_TOKEN].rstrip()

    def generate(self, requests: Sequence[SampleRequest]) -> list[Sampled]:
        """Return what was sampled for each request, in their order.

        Raises:
            EndpointError: the endpoint refuses the key or the model, or does not answer any more.
        """
        limits = [self._limit(request) for request in requests]
        asked = [index for index, request in enumerate(requests) if limits[index] >= _least(request)]
        sampled = [Sampled("", TextEnd.CONTEXT_FULL)] * len(requests)
        chats = (self._chat(requests[index], limits[index]) for index in asked)
        for place, outcome in self._endpoint.complete_many(chats):
            index = asked[place]
            sampled[index] = _read(outcome, requests[index], limits[index])
        return sampled

    def _limit(self, request: SampleRequest) -> int:
        """Return how many tokens may be sampled; less than one where the context is full."""
        characters = sum(len(message.content) for message in as_messages(request))
        return min(request.max_tokens, self._max_length - characters // CHARACTERS_PER_TOKEN)

    def _chat(self, request: SampleRequest, limit: int) -> ChatRequest:
        return ChatRequest(
            messages=as_messages(request),
            max_tokens=limit,
            temperature=self._temperature,
            stop=tuple(stop.text for stop in request.stops),
            seed=request.seed & _SEED_BITS,
        )


def as_messages(request: SampleRequest) -> tuple[ChatMessage, ...]:
    """Return a request as a chat: neighbours of one speaker are one message, and none is empty."""
    messages = [ChatMessage("user", joined(request.prompt))]
    for part in request.said:
        role = "assistant" if isinstance(part, Sampled) else "user"
        if messages[-1].role == role:
            messages[-1] = ChatMessage(role, messages[-1].content + part.text)
        elif part.text:
            messages.append(ChatMessage(role, part.text))
    return tuple(messages)


def _least(request: SampleRequest) -> int:
    return min(MINIMAL_TURN_TOKENS, request.max_tokens)


def _read(outcome: ChatReply | ChatFailure, request: SampleRequest, limit: int) -> Sampled:
    """Return an endpoint's outcome as a sampled text."""
    if isinstance(outcome, ChatFailure):
        if "context" in outcome.reason.lower() and "length" in outcome.reason.lower():
            return Sampled("", TextEnd.CONTEXT_FULL)
        logger.warning("no reply: %s", outcome.reason)
        return Sampled("", TextEnd.NO_REPLY)
    end = end_of(outcome.text, request)
    if end is not None:
        return Sampled(outcome.text[:end], TextEnd.STOP)
    if outcome.finish_reason == "length":
        return Sampled(outcome.text, TextEnd.CONTEXT_FULL if limit < request.max_tokens else TextEnd.LENGTH)
    closing = _left_open(outcome.text, request)
    return Sampled(outcome.text + closing, TextEnd.STOP if closing else TextEnd.END_OF_SEQUENCE)


def _left_open(text: str, request: SampleRequest) -> str:
    """Return the stop string of the tag that was opened last; empty where none is."""
    opened = [(text.rfind(stop.opening), stop.text) for stop in request.stops if stop.opening and stop.opening in text]
    return max(opened)[1] if opened else ""
