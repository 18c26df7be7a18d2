"""A real MCP server that searches four texts: `python mcp_server.py [PORT]`, over HTTP where a port is given."""

import json
import os
import sys

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

TEXTS = ["The red fox lives in the wood.", "The brown hen lives on the farm.", "A red hen.", "巴黎 est né à Paris."]

server = MCPServer("texts", log_level="ERROR")


def matching(query: str) -> list[str]:
    words = set(query.lower().split())
    return [text for text in TEXTS if words & set(text.lower().strip(".").split())]


@server.tool()
def search(query: str, k: int = 9) -> list[str]:
    """Return texts, one a block, and as structured content."""
    return matching(query)[:k]


@server.tool()
def find(question: str) -> str:
    """Return one text of JSON."""
    if question == "break":
        raise ToolError("cannot search for that")
    if question == "die":
        os._exit(3)
    if question == "variable":
        return json.dumps([os.environ.get("SEARCH_KEY", "not there")])
    documents = [{"id": str(rank), "title": "A text", "content": text} for rank, text in enumerate(matching(question))]
    return json.dumps({"documents": documents})


if __name__ == "__main__":
    if len(sys.argv) == 1:
        server.run()
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
