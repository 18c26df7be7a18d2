import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("mcp")

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from stepsearch.config import SearchSettings
from stepsearch.data import KnowledgeBase
from stepsearch.search import BM25SearchEngine
from stepsearch.serving import ServerSettings, search_app
from stepsearch.types import Passage

CALL = {"name": "search", "arguments": {"query": "Paris", "top_k": 1}}
HEADERS = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}


@pytest.fixture
def knowledge_base(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    KnowledgeBase.create(
        folder, [Passage("1", "It lies on the Seine.", "Paris"), Passage("2", "On the Tiber.", "Rome")]
    )
    BM25SearchEngine.build(folder)
    return folder


def test_the_tool_over_standard_input_and_output(knowledge_base: Path) -> None:
    arguments = ["-m", "stepsearch.cli.main", "serve-search", "--mcp", "--knowledge-base", str(knowledge_base)]
    server = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))

    async def ask() -> tuple[Any, Any, Any]:
        async with stdio_client(server) as streams, ClientSession(*streams) as session:
            await session.initialize()
            tools = await session.list_tools()
            found = await session.call_tool(**CALL)
            wrong = await session.call_tool("search", {"query": "Paris", "top_k": 1000})
            return tools.tools, found, wrong

    (tool,), found, wrong = asyncio.run(ask())
    assert (tool.name, set(tool.input_schema["properties"])) == ("search", {"query", "top_k"})
    (passage,) = found.structured_content["passages"]
    assert (passage["id"], passage["title"], passage["text"]) == ("1", "Paris", "It lies on the Seine.")
    assert passage["score"] > 0
    assert json.loads(found.content[0].text) == found.structured_content
    assert wrong.is_error


def test_http_wants_the_token(tmp_path: Path, engine: Any) -> None:
    app = search_app(engine, SearchSettings(retries=0), ServerSettings(token="s3cret"), tmp_path, mcp_host="127.0.0.1")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with app.running(), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": CALL}
            return await client.post("/mcp", json=call, headers=HEADERS)

    assert asyncio.run(ask()).status_code == 401
    assert engine.calls == []


@pytest.mark.parametrize(("query", "is_error"), [("Paris", False), ("break", True)])
def test_the_tool_over_http(tmp_path: Path, engine: Any, query: str, is_error: bool) -> None:
    app = search_app(engine, SearchSettings(retries=0), ServerSettings(token="s3cret"), tmp_path, mcp_host="127.0.0.1")

    async def ask() -> dict[str, Any]:
        transport = httpx.ASGITransport(app=app)
        async with app.running(), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
            call["params"] = {"name": "search", "arguments": {"query": query, "top_k": 1}}
            answer = await client.post("/mcp", json=call, headers={**HEADERS, "Authorization": "Bearer s3cret"})
            (event,) = [line for line in answer.text.splitlines() if line.startswith("data: ")]
            return json.loads(event.removeprefix("data: "))["result"]

    result = asyncio.run(ask())
    assert result["isError"] == is_error
    if is_error:
        assert "the search engine gave no answer" in result["content"][0]["text"]
    else:
        assert result["structuredContent"]["passages"][0]["title"] == "Paris"
