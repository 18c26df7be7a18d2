"""The same search as a tool for MCP clients, over standard input and output or over HTTP."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from stepsearch.config import SearchSettings
from stepsearch.errors import ConfigError
from stepsearch.search.search_engine import SearchEngine
from stepsearch.serving.batched_search import BatchedSearch, batched_search
from stepsearch.serving.refusal import OverloadedError
from stepsearch.serving.server_metrics import ServerMetrics
from stepsearch.serving.server_settings import ServerSettings
from stepsearch.types import Passage

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
except ImportError as error:
    raise ConfigError(f'MCP needs a package that is not installed ({error}): pip install "stepsearch[mcp]"') from None


class FoundPassage(BaseModel):
    """A passage as the tool returns it; `score` is null where the engine gives none."""

    id: str
    title: str
    text: str
    score: float | None


class Found(BaseModel):
    """What a query found, best first."""

    passages: list[FoundPassage]


def search_mcp_server(batched: BatchedSearch, settings: ServerSettings) -> MCPServer[None]:
    """Return an MCP server with one tool, `search`."""
    server: MCPServer[None] = MCPServer("stepsearch", log_level="WARNING")

    async def search(
        query: Annotated[str, Field(description="What to look for.", max_length=settings.max_query_characters)],
        top_k: Annotated[int, Field(description="How many passages.", ge=1, le=settings.max_top_k)] = settings.top_k,
    ) -> Found:
        """Find passages of the corpus for a query."""
        try:
            (outcome,) = await batched.search([query], top_k)
        except OverloadedError as error:
            raise ToolError(f"the server is overloaded ({error}): try again later") from None
        if outcome.failed:
            raise ToolError("the search engine gave no answer; the server's log says why")
        return _found(outcome.passages)

    server.add_tool(search)
    return server


def _found(passages: Sequence[Passage]) -> Found:
    return Found(
        passages=[
            FoundPassage(id=passage.id, title=passage.title, text=passage.text, score=passage.score)
            for passage in passages
        ]
    )


async def serve_stdio(engine: SearchEngine, search: SearchSettings, settings: ServerSettings) -> None:
    """Answer MCP on standard input and output until the input ends."""
    with tempfile.TemporaryDirectory() as folder:
        batched = batched_search(engine, search, settings, ServerMetrics(Path(folder)))
        batched.start()
        try:
            await search_mcp_server(batched, settings).run_stdio_async()
        finally:
            await batched.close()
