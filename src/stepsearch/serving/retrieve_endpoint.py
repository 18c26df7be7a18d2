"""`POST /retrieve` as a bare ASGI application.

Not a FastAPI route: reading a request and finding its route took FastAPI ten times what the rest of the answer takes
(docs/serving.md), and this one route is asked thousands of times in every step of a training.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from stepsearch.search.guarded_search import SearchOutcome
from stepsearch.serving.batched_search import BatchedSearch
from stepsearch.serving.refusal import OverloadedError, Refusal, overloaded
from stepsearch.serving.server_metrics import ServerMetrics
from stepsearch.serving.server_settings import ServerSettings
from stepsearch.serving.wire_format import read_request, render_response

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CLIENT_LEFT = 499
_QUOTED_CHARACTERS = 80


class RetrieveEndpoint:
    """Answers `/retrieve` requests, each with results or with a status and one line that say why not.

    Args:
        search: is asked.
        settings: the bounds.
        metrics: counts.
    """

    def __init__(self, search: BatchedSearch, settings: ServerSettings, metrics: ServerMetrics) -> None:
        self._search = search
        self._settings = settings
        self._metrics = metrics
        self._open_requests = 0
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        self._count_open(1)
        try:
            status, body, headers = await self._answer(scope, receive)
            if status != CLIENT_LEFT:
                await respond(send, status, body, headers)
        finally:
            self._count_open(-1)
        self._metrics.answered(status, time.perf_counter() - started)

    def _count_open(self, change: int) -> None:
        self._open_requests += change
        self._metrics.set("open_requests", self._open_requests)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes, Mapping[str, str]]:
        try:
            return 200, await self._results(scope, receive), {}
        except Refusal as refusal:
            return refusal.status, problem(refusal.detail), refusal.headers
        except Exception:
            logger.exception("a request to /retrieve failed")
            return 500, problem("the server failed; its log says how"), {}

    async def _results(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] != "POST":
            raise Refusal(405, f"/retrieve answers POST, not {scope['method']}", {"Allow": "POST"})
        if self._open_requests > self._settings.max_requests:
            raise overloaded(f"{self._settings.max_requests} requests are being answered")
        body = bytearray()
        try:
            await self._read(scope, receive, body)
            request, top_k = read_request(bytes(body), self._settings)
            outcomes = await self._search.search(request.queries, top_k)
        except OverloadedError as error:
            raise overloaded(str(error)) from None
        finally:
            self._buffered_bytes -= len(body)
        _refuse_failures(request.queries, outcomes)
        return _rendered(outcomes, request.return_scores)

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        """Append to `body` what the client sends, and to the server's own count of bytes."""
        self._refuse_more_than_allowed(_declared_length(scope))
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while await self._read_part(receive, body):
                    pass
        except TimeoutError:
            raise Refusal(408, f"the body did not arrive within {self._settings.body_seconds:g} seconds") from None

    async def _read_part(self, receive: Receive, body: bytearray) -> bool:
        """Take one part of the body and return whether there is more."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(CLIENT_LEFT, "the client left")
        part = message.get("body", b"")
        self._refuse_more_than_allowed(len(body) + len(part))
        if self._buffered_bytes + len(part) > self._settings.max_buffered_bytes:
            raise overloaded(f"{self._buffered_bytes} bytes of other requests are in memory")
        body += part
        self._buffered_bytes += len(part)
        return bool(message.get("more_body", False))

    def _refuse_more_than_allowed(self, size: int) -> None:
        if size > self._settings.max_request_bytes:
            raise Refusal(413, f"a request may have at most {self._settings.max_request_bytes} bytes")


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _refuse_failures(queries: Sequence[str], outcomes: Sequence[SearchOutcome]) -> None:
    failed = [query for query, outcome in zip(queries, outcomes, strict=True) if outcome.failed]
    if failed:
        raise Refusal(
            502,
            f"the search engine gave no answer to {len(failed)} of {len(queries)} queries, the first being "
            f"{failed[0][:_QUOTED_CHARACTERS]!r}; the server's log says why",
        )


def _rendered(outcomes: Sequence[SearchOutcome], return_scores: bool) -> bytes:
    try:
        return render_response([outcome.passages for outcome in outcomes], return_scores)
    except (TypeError, ValueError) as error:
        logger.warning("the search engine returned a passage that cannot be written as JSON: %s", error)
        raise Refusal(502, "the search engine returned a passage that cannot be written as JSON") from None


def problem(detail: str) -> bytes:
    """Return the body of an answer that is not 200."""
    return json.dumps({"detail": detail}).encode()


async def respond(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a whole answer of JSON."""
    raw = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    raw += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
