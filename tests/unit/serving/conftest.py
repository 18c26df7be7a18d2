"""A search server in this process, asked without a network."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from stepsearch.config import SearchSettings
from stepsearch.search import SearchEngine
from stepsearch.serving import ServerSettings, search_app
from stepsearch.types import Passage


class RecordingEngine(SearchEngine):
    """Finds `top_k` passages that repeat the query, and remembers how it was asked.

    A query `break` raises. While `gate` is cleared the engine does not answer.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        if query == "break":
            raise RuntimeError("secret detail")
        return [Passage(f"{query}/{rank}", f"Text {rank}.", query, score=1 / rank) for rank in range(1, top_k + 1)]

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        self.calls.append((list(queries), top_k))
        assert self.gate.wait(10)
        return super().search_batch(queries, top_k)


Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def engine() -> RecordingEngine:
    return RecordingEngine()


@pytest.fixture
def app_over(tmp_path: Path) -> Callable[..., Any]:
    """Return the application over an engine; keywords are the server's settings."""

    def build(engine: SearchEngine, timeout_seconds: float = 5.0, **settings: Any) -> Any:
        search = SearchSettings(engine_type="mine", timeout_seconds=timeout_seconds, retries=0)
        return search_app(engine, search, ServerSettings(**{"batch_milliseconds": 0, **settings}), tmp_path)

    return build


@pytest.fixture
def serve(app_over: Callable[..., Any]) -> Serve:
    """Return a client of a server over an engine."""

    @asynccontextmanager
    async def running(engine: SearchEngine, **settings: Any) -> AsyncGenerator[httpx.AsyncClient]:
        app = app_over(engine, **settings)
        transport = httpx.ASGITransport(app=app)
        async with app.running(), httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            yield client

    return running


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Any]:
    """Return a wait for something that other tasks bring about."""
    return _until
