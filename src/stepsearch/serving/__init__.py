"""Search for others: a server that speaks Search-R1's `/retrieve`, and one that speaks MCP, over any search engine."""

from stepsearch.errors import ConfigError

try:
    from stepsearch.serving.batched_search import BatchedSearch, OverloadedError
    from stepsearch.serving.search_app import AppFactory, search_app
    from stepsearch.serving.server_processes import listen, serve
    from stepsearch.serving.server_settings import ServerSettings
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "uvicorn"):
        raise
    raise ConfigError(f'serving needs the package {error.name}: pip install "stepsearch[serve]"') from None

__all__ = [
    "AppFactory",
    "BatchedSearch",
    "OverloadedError",
    "ServerSettings",
    "listen",
    "search_app",
    "serve",
]
