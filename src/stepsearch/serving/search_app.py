"""The search server's pages put together: `/retrieve`, and by FastAPI `/healthz`, `/metrics`, the docs, and MCP."""

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import PlainTextResponse
from pydantic.json_schema import models_json_schema

from stepsearch.config import SearchSettings
from stepsearch.search.search_engine import SearchEngine
from stepsearch.serving.batched_search import batched_search
from stepsearch.serving.retrieve_endpoint import Receive, RetrieveEndpoint, Scope, Send, problem, respond
from stepsearch.serving.server_metrics import CONTENT_TYPE, ServerMetrics
from stepsearch.serving.server_settings import ServerSettings
from stepsearch.serving.wire_format import Problem, RetrieveRequest, RetrieveResponse

RETRIEVE, HEALTH = "/retrieve", "/healthz"
_REFUSALS = {
    400: "The body is not JSON.",
    401: "The bearer token is missing or wrong.",
    413: "The body is too large.",
    422: "The request asks for something else than searches within the server's bounds.",
    502: "The search engine failed.",
    503: "Too much is asked at the same time; Retry-After says when to come back.",
}


@dataclass(frozen=True, slots=True)
class AppFactory:
    """Makes the application of one worker process; can be sent to it if the engine's builder can.

    Attributes:
        build_engine: returns the engine to search with.
        search: its time limit and retries, and its name for `/healthz`.
        settings: batching and bounds.
        metrics_folder: shared by all workers.
        mcp_host: answer MCP at `/mcp` as this host; None: do not.
    """

    build_engine: Callable[[], SearchEngine]
    search: SearchSettings
    settings: ServerSettings
    metrics_folder: Path
    mcp_host: str | None = None

    def __call__(self) -> "SearchApp":
        """Build the engine and return the application around it.

        Raises:
            StepSearchError: the engine cannot be built.
        """
        return search_app(self.build_engine(), self.search, self.settings, self.metrics_folder, self.mcp_host)


class SearchApp:
    """The server as an ASGI application.

    Args:
        retrieve: answers `/retrieve`.
        pages: answers everything else, and is started and stopped with the server.
        metrics: counts those that are turned away.
        token: what clients must show, but for `/healthz`.
    """

    def __init__(self, retrieve: RetrieveEndpoint, pages: FastAPI, metrics: ServerMetrics, token: str | None) -> None:
        self._retrieve = retrieve
        self._pages = pages
        self._metrics = metrics
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or start and stop with the server."""
        if scope["type"] == "http" and not self._may_enter(scope):
            if scope["path"] == RETRIEVE:
                self._metrics.answered(401, 0.0)
            body = problem("this server wants a bearer token: send the header Authorization: Bearer TOKEN")
            await respond(send, 401, body, {"WWW-Authenticate": "Bearer"})
        elif scope["type"] == "http" and scope["path"] == RETRIEVE:
            await self._retrieve(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    def _may_enter(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] == HEALTH:
            return True
        shown = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = shown.partition(b" ")
        # Compared in a time that does not tell how much of it is right.
        return scheme.lower() == b"bearer" and secrets.compare_digest(token.strip(), self._token)

    def running(self) -> Any:
        """Return a context in which the application can be asked; a server does this by itself."""
        return self._pages.router.lifespan_context(self._pages)


def search_app(
    engine: SearchEngine,
    search: SearchSettings,
    settings: ServerSettings,
    metrics_folder: Path,
    mcp_host: str | None = None,
) -> SearchApp:
    """Return the application over an engine; `AppFactory` says what the arguments are.

    Raises:
        ConfigError: MCP was asked for and its package is not installed.
    """
    metrics = ServerMetrics(metrics_folder)
    batched = batched_search(engine, search, settings, metrics)
    mcp = None
    if mcp_host is not None:
        from stepsearch.serving.mcp_server import search_mcp_server  # An extra, and slow to import.

        mcp = search_mcp_server(batched, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            batched.start()
            stack.push_async_callback(batched.close)
            if mcp is not None:
                await stack.enter_async_context(mcp.session_manager.run())
            yield

    pages = _pages(search.engine_type, settings, metrics, lifespan)
    if mcp is not None:
        # Without sessions, because the next request may reach another worker.
        pages.router.routes += mcp.streamable_http_app(host=mcp_host or "", stateless_http=True).routes
    return SearchApp(RetrieveEndpoint(batched, settings, metrics), pages, metrics, settings.token)


def _pages(engine: str, settings: ServerSettings, metrics: ServerMetrics, lifespan: Any) -> FastAPI:
    pages = FastAPI(
        title="StepSearch search server",
        description="Search for agents in training, as Search-R1's and verl's clients ask for it.",
        lifespan=lifespan,
    )

    async def healthz() -> dict[str, str | int]:
        """Say that the server answers."""
        return {"status": "ok", "engine": engine, "topk": settings.top_k}

    async def prometheus() -> PlainTextResponse:
        """Counts of all workers, for Prometheus."""
        return PlainTextResponse(metrics.render(), media_type=CONTENT_TYPE)

    pages.add_api_route(HEALTH, healthz)
    pages.add_api_route("/metrics", prometheus, response_class=PlainTextResponse)
    pages.openapi = lambda: _with_retrieve(get_openapi(title=pages.title, version="1", routes=pages.routes))
    return pages


def _with_retrieve(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the pages' OpenAPI schema with `/retrieve`, which FastAPI does not see."""
    models = [(model, "validation") for model in (RetrieveRequest, RetrieveResponse, Problem)]
    _, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    answers = {"200": _content("RetrieveResponse", "One list of documents for each query, best first.")}
    answers |= {str(status): _content("Problem", text) for status, text in _REFUSALS.items()}
    schema["paths"][RETRIEVE] = {
        "post": {
            "summary": "Search",
            "requestBody": {"required": True, **_content("RetrieveRequest", "The queries.")},
            "responses": answers,
        }
    }
    schema.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
    return schema


def _content(model: str, description: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{model}"}
    return {"description": description, "content": {"application/json": {"schema": reference}}}
