"""The agent server's pages put together: OpenAI's chat completions, `/v1/models` and `/healthz`."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, MutableMapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from stepsearch.errors import DataError, StepSearchError
from stepsearch.rollout import EpisodeEvent, RolloutRunner
from stepsearch.serving.agent_loop import AgentLoop
from stepsearch.serving.bearer import CHALLENGE, WANTED, check_token, may_enter
from stepsearch.serving.chat_format import (
    ChatRequest,
    chunk,
    completion,
    last_chunks,
    problem,
    question_of,
    reasoning,
)
from stepsearch.serving.refusal import OverloadedError, Refusal, overloaded
from stepsearch.serving.retrieve_endpoint import Receive, Scope, Send

CHAT, MODELS, HEALTH = "/v1/chat/completions", "/v1/models", "/healthz"
_SEED_BITS = 32
_BODY_BYTES = 1024**2
_PART_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How an agent is served.

    Attributes:
        name: of the model, as clients call it.
        max_open: questions accepted and not yet answered; beyond them 503.
        token: what `Authorization: Bearer` must carry; None lets everyone in.

    Raises:
        ConfigError: the token is none that a header can carry.
    """

    name: str
    max_open: int = 256
    token: str | None = None

    def __post_init__(self) -> None:
        check_token(self.token)


class AgentApp:
    """The server as an ASGI application.

    Args:
        runner: plays the episodes.
        settings: bounds and who may ask.
    """

    def __init__(self, runner: RolloutRunner, settings: AgentSettings) -> None:
        self._settings = settings
        self._agent = AgentLoop(runner, settings.max_open)
        self._pages = _pages(self._agent, settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or start and stop with the server."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        app = self._pages if refusal is None else _answer_to(refusal)
        await app(scope, _in_time(receive), send)

    def running(self) -> Any:
        """Return a context in which the application can be asked; a server does this by itself."""
        return self._pages.router.lifespan_context(self._pages)

    def _refusal(self, scope: Scope) -> Refusal | None:
        """Return why a request is turned away before its body is read, if it is."""
        if scope["path"] != HEALTH and not may_enter(scope, self._settings.token):
            return Refusal(401, WANTED, CHALLENGE)
        if scope["method"] != "POST":
            return None
        headers = dict(scope["headers"])
        if not headers.get(b"content-type", b"").startswith(b"application/json"):
            return Refusal(415, "send the header Content-Type: application/json")
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            return Refusal(411, "send the header Content-Length")
        return Refusal(413, f"a request may have at most {_BODY_BYTES} bytes") if int(length) > _BODY_BYTES else None


def _in_time(receive: Receive) -> Receive:
    """Return what receives a body, each part of it within a time; what comes after it may take as long as it will."""
    is_whole = False

    async def received() -> MutableMapping[str, Any]:
        nonlocal is_whole
        async with asyncio.timeout(None if is_whole else _PART_SECONDS):
            message = await receive()
        is_whole = not message.get("more_body", False)
        return message

    return received


def _pages(agent: AgentLoop, settings: AgentSettings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        agent.start()
        try:
            yield
        finally:
            agent.close()

    pages = FastAPI(title="StepSearch agent server", description="Questions for an agent.", lifespan=lifespan)
    started = int(time.time())

    async def chat(asked: ChatRequest, request: Request) -> Response:
        """Think, search and answer."""
        temperature, seed = asked.temperature, secrets.randbits(_SEED_BITS) if asked.seed is None else asked.seed
        events = agent.ask(question_of(asked, settings.name), seed, temperature)
        head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": settings.name}
        # Refused, if at all, before the answer begins.
        first = await anext(events)
        if asked.stream:
            parts = _streamed(first, events, head, asked)
            return StreamingResponse(parts, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        return JSONResponse(await _whole(first, events, head, asked.return_trajectory, request))

    async def models() -> dict[str, Any]:
        """Name the model."""
        model = {"id": settings.name, "object": "model", "created": started, "owned_by": "stepsearch"}
        return {"object": "list", "data": [model]}

    async def healthz() -> JSONResponse:
        """Say whether the server answers."""
        state = {"status": "ok" if agent.failure is None else "failed", "model": settings.name, "open": agent.open}
        return JSONResponse(state, 200 if agent.failure is None else 503)

    pages.add_api_route(CHAT, chat, methods=["POST"], response_model=None)
    pages.add_api_route(MODELS, models)
    pages.add_api_route(HEALTH, healthz)
    for kind in (Refusal, OverloadedError, StepSearchError, RequestValidationError, HTTPException):
        pages.add_exception_handler(kind, _explain)
    return pages


async def _whole(
    first: EpisodeEvent,
    events: AsyncGenerator[EpisodeEvent],
    head: Mapping[str, Any],
    with_trajectory: bool,
    request: Request,
) -> dict[str, Any]:
    """Return the answer when it is there; a client that has left is noticed after the next turn."""
    async with aclosing(events):
        text, event = reasoning(first), first
        async for event in events:
            text += reasoning(event)
            if await request.is_disconnected():
                break
    if event.trajectory is None:
        raise Refusal(499, "the client left")
    return completion(head, event.trajectory, text, with_trajectory)


async def _streamed(
    first: EpisodeEvent, events: AsyncGenerator[EpisodeEvent], head: Mapping[str, Any], asked: ChatRequest
) -> AsyncIterator[str]:
    """Yield server-sent events: the reasoning as it happens, then the answer and what it took."""
    async with aclosing(events):
        yield _sent(chunk(head, role="assistant", reasoning_content=reasoning(first)))
        try:
            async for event in events:
                if event.trajectory is None:
                    yield _sent(chunk(head, reasoning_content=reasoning(event)))
                else:
                    for part in last_chunks(head, event.trajectory, asked):
                        yield _sent(part)
        except StepSearchError as error:
            yield _sent(problem(500, str(error)))
    yield "data: [DONE]\n\n"


def _sent(event: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"


def _answer_to(refusal: Refusal) -> JSONResponse:
    return JSONResponse(problem(refusal.status, refusal.detail), refusal.status, refusal.headers)


async def _explain(_: Request, error: Exception) -> Response:
    """Answer a request that failed with the reason."""
    if isinstance(error, RequestValidationError):
        error = _malformed(error)
    elif isinstance(error, OverloadedError):
        error = overloaded(str(error))
    elif isinstance(error, DataError):
        error = Refusal(400, str(error))
    elif isinstance(error, HTTPException):
        error = Refusal(error.status_code, error.detail, error.headers)
    elif not isinstance(error, Refusal):
        error = Refusal(500, str(error))
    return _answer_to(error)


def _malformed(error: RequestValidationError) -> Refusal:
    """Return what the first thing wrong with a body is."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Refusal(400, "the body is not JSON")
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return Refusal(400, f"{place or 'the body'}: {first['msg']}")
