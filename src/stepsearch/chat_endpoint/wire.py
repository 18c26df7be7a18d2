"""How requests and replies look to the `openai` client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from stepsearch.chat_endpoint.messages import ChatReply, ChatRequest, likely_prompt_tokens, likely_tokens
from stepsearch.chat_endpoint.trouble import UnreadableReplyError
from stepsearch.errors import EndpointError

if TYPE_CHECKING:
    import openai

OPENAI_URL = "https://api.openai.com/v1"
# What a request can do without, where a model does not know it.
DISPENSABLE = ("max_tokens", "temperature", "response_format", "seed")


def open_client(base_url: str, api_key: str | None, timeout_seconds: float) -> openai.OpenAI:
    """Return a client that tries once.

    Raises:
        EndpointError: the `openai` package is not installed, there is no key for OpenAI's own endpoint, or the address
            is none.
    """
    # Imported here: an optional part, and a second of start-up that only its users wait for.
    try:
        import openai
    except ImportError:
        raise EndpointError('asking an endpoint needs the openai client: pip install "stepsearch[openai]"') from None
    api_key = api_key or os.environ.get("OPENAI_API_KEY")
    if not api_key and base_url == OPENAI_URL:
        raise EndpointError(
            f"no key for {OPENAI_URL}: set OPENAI_API_KEY, or name another endpoint with OPENAI_BASE_URL"
        )
    if not base_url.startswith(("http://", "https://")):
        raise EndpointError(f"the endpoint {base_url} is no address: it must start with http:// or https://")
    return openai.OpenAI(api_key=api_key or "none", base_url=base_url, timeout=timeout_seconds, max_retries=0)


def arguments_of(request: ChatRequest, model: str, unsupported: frozenset[str]) -> dict[str, Any]:
    """Return what the `openai` client is called with, without what the endpoint does not support."""
    arguments: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.stop:
        arguments["stop"] = list(request.stop)
    if request.seed is not None:
        arguments["seed"] = request.seed
    if request.schema is not None:
        schema = {"name": "reply", "strict": True, "schema": dict(request.schema)}
        arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
    if "max_tokens" in unsupported:
        # What newer models of OpenAI's call it.
        arguments["max_completion_tokens"] = request.max_tokens
    return {name: value for name, value in arguments.items() if name not in unsupported}


def read_completion(completion: Any, request: ChatRequest) -> ChatReply:
    """Return the reply in what the client returned; where the endpoint counts no tokens, about how many there are.

    Raises:
        UnreadableReplyError: it is no chat completion.
    """
    try:
        choice = completion.choices[0]
        text, usage = choice.message.content or "", completion.usage
        return ChatReply(
            text=text,
            prompt_tokens=likely_prompt_tokens(request) if usage is None else usage.prompt_tokens,
            completion_tokens=likely_tokens(text) if usage is None else usage.completion_tokens,
            finish_reason=choice.finish_reason or "",
        )
    except (AttributeError, IndexError, TypeError):
        raise UnreadableReplyError(f"the reply is no chat completion: {str(completion)[:100]!r}") from None
