"""Search by a tool of an MCP server: whatever an assistant can search with, a policy can be trained on."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from stepsearch.errors import SearchError
from stepsearch.search.mcp_session import MCPServer, MCPSession
from stepsearch.search.retrieved_documents import passage_from_document
from stepsearch.search.search_engine import SearchEngine
from stepsearch.search.server_message import printable_line
from stepsearch.search.utf8_text import utf8_text
from stepsearch.types import Passage

# Where tools put their documents; else the first list in the result is taken.
_LIST_KEYS = ("result", "results", "documents", "items")


class MCPSearchEngine(SearchEngine):
    """Calls a tool once a query, several at the same time. Blank queries find nothing and are not sent.

    Args:
        server: where the tool is.
        tool: its name.
        query_argument: its argument that takes the query.
        top_k_argument: the one that takes the number of documents; None where there is none, and the first are taken.
        timeout_seconds: how long one call may take.

    Raises:
        SearchError: the package mcp is not installed, or neither command nor url is given.
    """

    def __init__(
        self,
        server: MCPServer,
        tool: str = "search",
        query_argument: str = "query",
        top_k_argument: str | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        if find_spec("mcp") is None:
            raise SearchError("search.engine_type mcp needs the package mcp: pip install 'stepsearch[mcp]'")
        if not server.command and server.url is None:
            raise SearchError(
                "search.engine_type mcp needs a server: set search.mcp.command=[PROGRAM,ARGUMENT,…] or "
                "search.mcp.url=URL"
            )
        self._server = server
        self._tool = tool
        self._query_argument = query_argument
        self._top_k_argument = top_k_argument
        self._session = MCPSession(server, timeout_seconds)

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        """Return at most `top_k` passages, in the tool's order."""
        return self.search_batch([query], top_k)[0]

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        """Return the passages of each query, in the order of `queries`.

        Raises:
            SearchError: the server cannot be reached, or the tool reports an error.
        """
        asked = [query for query in dict.fromkeys(queries) if query.strip()]
        results = (
            self._session.call_each(self._tool, [self._arguments(query, top_k) for query in asked]) if asked else []
        )
        found = {query: self._passages(result)[:top_k] for query, result in zip(asked, results, strict=True)}
        return [found.get(query, []) for query in queries]

    def check(self) -> None:
        """Make sure that the server has the tool, and the tool its arguments.

        Raises:
            SearchError: it has not, or cannot be reached; says what there is.
        """
        tools = {tool.name: tool for tool in self._session.tools()}
        if self._tool not in tools:
            raise SearchError(
                f"the MCP server {self._server.name} has no tool '{self._tool}': set search.mcp.tool to one of "
                f"{', '.join(tools) or 'none'}"
            )
        known = (tools[self._tool].input_schema or {}).get("properties", {})
        for key, name in (("query_argument", self._query_argument), ("top_k_argument", self._top_k_argument)):
            if name is not None and name not in known:
                raise SearchError(
                    f"the MCP tool '{self._tool}' has no argument '{name}': set search.mcp.{key} to one of "
                    f"{', '.join(known) or 'none'}"
                )

    def close(self) -> None:
        """End the connection, and the server if a command started it."""
        self._session.close()

    def _arguments(self, query: str, top_k: int) -> dict[str, Any]:
        arguments: dict[str, Any] = {self._query_argument: utf8_text(query)}
        if self._top_k_argument is not None:
            arguments[self._top_k_argument] = top_k
        return arguments

    def _passages(self, result: Any) -> list[Passage]:
        texts = [block.text for block in result.content if block.type == "text"]
        if result.is_error:
            raise SearchError(f"the MCP tool '{self._tool}' failed: {printable_line(' '.join(texts))}")
        return passages_from_tool(result.structured_content, texts)


def passages_from_tool(structured: object, texts: Sequence[str]) -> list[Passage]:
    """Return the passages of a tool's result.

    Args:
        structured: the structured content; its first list of documents counts, where it has one.
        texts: the text blocks, read where it has none: JSON as structured content, other text as a document each.

    Raises:
        SearchError: a document has no text.
    """
    documents = _documents(structured)
    if documents is None:
        documents = [document for text in texts if text.strip() for document in _documents_in(text)]
    return [_passage(document) for document in documents]


def _documents_in(text: str) -> Sequence[object]:
    try:
        value = json.loads(text)
    except ValueError:
        return [text]
    if isinstance(value, list):
        return value
    documents = _documents(value)
    if documents is not None:
        return documents
    return [value if isinstance(value, dict) else text]


def _documents(value: object) -> Sequence[object] | None:
    if not isinstance(value, Mapping):
        return None
    for key in (*_LIST_KEYS, *value):
        documents = value.get(key)
        if isinstance(documents, list) and all(isinstance(document, str | dict) for document in documents):
            return documents
    return None


def _passage(document: object) -> Passage:
    if isinstance(document, Mapping) and "document" in document:
        return passage_from_document(document["document"], document.get("score"))
    return passage_from_document(document, document.get("score") if isinstance(document, Mapping) else None)
