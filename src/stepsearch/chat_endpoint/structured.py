"""Replies of a given form: asked for as JSON, checked, and asked for again with what was wrong with them."""

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from stepsearch.chat_endpoint.endpoint import ChatEndpoint
from stepsearch.chat_endpoint.messages import ChatFailure, ChatMessage, ChatReply, ChatRequest

_FENCE = re.compile(r"^\s*```\w*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)

Value = TypeVar("Value")
Form = TypeVar("Form", bound=BaseModel)


class GapKind(StrEnum):
    """Why a request has no well-formed reply."""

    MALFORMED = "malformed"
    FAILED = "failed"
    OVER_BUDGET = "over_budget"


@dataclass(frozen=True, slots=True)
class Gap:
    """Stands where a well-formed reply is missing."""

    kind: GapKind
    reason: str


def read_form(form: type[Form], text: str) -> Form:
    """Return a reply as an object of the form; a Markdown fence around the JSON is forgiven.

    Raises:
        ValueError: the text is no JSON, or does not fit the form.
    """
    fenced = _FENCE.match(text)
    try:
        return form.model_validate_json(fenced[1] if fenced else text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None


def ask_structured(
    endpoint: ChatEndpoint,
    requests: Sequence[ChatRequest],
    read: Callable[[int, str], Value],
    retries: int = 2,
) -> Generator[tuple[int, Value | Gap], None, None]:
    """Yield what `read` makes of each reply, with the place of its request, as soon as it is there.

    A malformed reply is answered with what is wrong with it and asked for again; that is another request, so that the
    cache remembers every try.

    Args:
        endpoint: is asked.
        requests: what is asked.
        read: gets the place of a request and the text of its reply; raises ValueError where that is malformed.
        retries: how often a malformed reply is asked for again.

    Raises:
        EndpointError: the endpoint cannot be used any more.
        DataError: the cache cannot be written.
    """
    waiting = dict(enumerate(requests))
    for attempt in range(retries + 1):
        indices, asked = list(waiting), list(waiting.values())
        waiting = {}
        for place, outcome in endpoint.complete_many(asked):
            index = indices[place]
            if isinstance(outcome, ChatFailure):
                kind = GapKind.OVER_BUDGET if outcome.over_budget else GapKind.FAILED
                yield index, Gap(kind, outcome.reason)
                continue
            try:
                value = read(index, outcome.text)
            except ValueError as error:
                if attempt == retries:
                    yield index, Gap(GapKind.MALFORMED, str(error))
                else:
                    waiting[index] = _asked_again(asked[place], outcome, str(error))
            else:
                yield index, value
        if not waiting:
            return


def _asked_again(request: ChatRequest, reply: ChatReply, problem: str) -> ChatRequest:
    complaint = f"That does not fit ({problem}). Write the whole JSON again, and nothing else."
    messages = (*request.messages, ChatMessage("assistant", reply.text), ChatMessage("user", complaint))
    return replace(request, messages=messages)
