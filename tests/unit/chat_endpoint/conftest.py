"""A chat server that echoes, and endpoints that ask it."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from chat_server import ChatServer, last_user_message

from stepsearch.chat_endpoint import Budget, ChatEndpoint, ChatMessage, ChatRequest, EndpointSettings, ReplyCache

OpenEndpoint = Callable[..., ChatEndpoint]


@pytest.fixture
def server() -> Generator[ChatServer]:
    server = ChatServer(lambda body: f"echo {last_user_message(body)}")
    yield server
    server.stop()


@pytest.fixture
def open_endpoint(server: ChatServer) -> Generator[OpenEndpoint]:
    """Builds endpoints that ask the server, with short pauses."""
    opened: list[ChatEndpoint] = []

    def build(cache: Path | None = None, budget: Budget | None = None, **settings: object) -> ChatEndpoint:
        values = {"model": "test", "base_url": server.url, "concurrency": 4, "backoff_seconds": 0.02, **settings}
        endpoint = ChatEndpoint(EndpointSettings(**values), ReplyCache(cache), budget)  # pyright: ignore
        opened.append(endpoint)
        return endpoint

    yield build
    for endpoint in opened:
        endpoint.close()


def ask(text: str, **fields: object) -> ChatRequest:
    return ChatRequest((ChatMessage("user", text),), **fields)  # pyright: ignore


@pytest.fixture
def make_request() -> Callable[..., ChatRequest]:
    return ask
