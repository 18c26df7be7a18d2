"""A connection to an MCP server that plain functions can use: the official client in an event loop of its own."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stepsearch.errors import SearchError
from stepsearch.search.server_message import printable_line

Value = TypeVar("Value")

# Beyond the client's own limit, which is the one that tells what happened.
_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class MCPServer:
    """Where a server is: a command that starts one and talks over its standard streams, or an address.

    Attributes:
        command: program and arguments; empty where there is a `url`.
        url: address of a server that speaks streamable HTTP.
        environment: variables that the command gets beside the few that every one gets.
        token: bearer token for `url`.
    """

    command: tuple[str, ...] = ()
    url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    token: str | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.url or " ".join(self.command)


class MCPSession:
    """Calls tools of a server; connects when it is first used, and again after a failure.

    Args:
        server: where it is.
        timeout_seconds: how long connecting or one call may take.
        concurrency: calls under way at the same time.
    """

    def __init__(self, server: MCPServer, timeout_seconds: float = 30.0, concurrency: int = 8) -> None:
        self._server = server
        self._timeout_seconds = timeout_seconds
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    def tools(self) -> list[Any]:
        """Return what the server says of its tools.

        Raises:
            SearchError: it cannot be reached.
        """

        async def ask(client: Any) -> list[Any]:
            return (await client.list_tools()).tools

        return self._run(ask)

    def call_each(self, tool: str, arguments: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return the results of calling a tool with each of the arguments, in their order.

        Raises:
            SearchError: a call failed, or the server cannot be reached.
        """

        async def ask(client: Any) -> list[Any]:
            free = asyncio.Semaphore(self._concurrency)

            async def call(some: Mapping[str, Any]) -> Any:
                async with free:
                    return await client.call_tool(tool, dict(some))

            return await asyncio.gather(*map(call, arguments))

        rounds = -(-len(arguments) // self._concurrency)
        return self._run(ask, rounds)

    def close(self) -> None:
        """End the connection, and the server if a command started it. Safe to call twice."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _run(self, ask: Any, rounds: int = 1) -> Any:
        with self._lock:
            if self._connection is None:
                self._connection = _Connection(self._server, self._timeout_seconds)
            connection = self._connection
        try:
            return connection.run(ask, self._timeout_seconds * rounds + _GRACE_SECONDS)
        except Exception as error:
            # Whether the server still lives is not known: the next call finds out with a new connection.
            self.close()
            reason = _reason(error)
            if isinstance(error, FileNotFoundError | PermissionError):
                reason = "its program cannot be started; name another, or its full path, with search.mcp.command"
            raise SearchError(f"the MCP server {self._server.name} failed: {reason}") from None


class _Connection:
    """One connection with its thread and event loop."""

    def __init__(self, server: MCPServer, timeout_seconds: float) -> None:
        self._server = server
        self._timeout_seconds = timeout_seconds
        self._client: Future[Any] = Future()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._live, name="mcp", daemon=True)
        self._thread.start()

    def run(self, ask: Any, seconds: float) -> Any:
        client = self._client.result(self._timeout_seconds + _GRACE_SECONDS)
        if self._loop.is_closed():
            raise ConnectionError("the connection has ended")
        call: Coroutine[Any, Any, Any] = ask(client)
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result(seconds)
        finally:
            future.cancel()

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed: the connection has ended before.
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(self._timeout_seconds)

    def _live(self) -> None:
        try:
            self._loop.run_until_complete(self._connected())
        except BaseException as error:
            if not self._client.done():
                self._client.set_exception(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _connected(self) -> None:
        # Entered and left by one task, as the client demands.
        async with _client(self._server, self._timeout_seconds) as client:
            self._client.set_result(client)
            await self._closing.wait()


def _client(server: MCPServer, timeout_seconds: float) -> Any:
    import mcp

    return mcp.Client(_transport(server, timeout_seconds), read_timeout_seconds=timeout_seconds)


def _transport(server: MCPServer, timeout_seconds: float) -> Any:
    from mcp.client.stdio import StdioServerParameters, stdio_client
    from mcp.client.streamable_http import streamable_http_client

    if server.url is None:
        program, *arguments = server.command
        parameters = StdioServerParameters(command=program, args=arguments, env=dict(server.environment))
        return stdio_client(parameters, errlog=sys.__stderr__ or sys.stderr)
    return streamable_http_client(server.url) if server.token is None else _authorized(server, timeout_seconds)


@contextlib.asynccontextmanager
async def _authorized(server: MCPServer, timeout_seconds: float) -> AsyncGenerator[Any, None]:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    headers = {"authorization": f"Bearer {server.token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout_seconds) as http,
        streamable_http_client(server.url or "", http_client=http) as streams,
    ):
        yield streams


def _reason(error: BaseException) -> str:
    """Return what went wrong first; groups of errors say nothing themselves."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return printable_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
