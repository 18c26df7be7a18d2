"""Servers: any search engine by Search-R1's `/retrieve` or MCP, and a trained agent by OpenAI's chat completions."""

from stepsearch.errors import ConfigError

try:
    from stepsearch.serving.agent_app import AgentApp, AgentSettings
    from stepsearch.serving.batched_search import BatchedSearch
    from stepsearch.serving.refusal import OverloadedError
    from stepsearch.serving.search_app import AppFactory, search_app
    from stepsearch.serving.server_processes import address_of, is_loopback, listen, serve
    from stepsearch.serving.server_settings import ServerSettings
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "uvicorn"):
        raise
    raise ConfigError(f'serving needs the package {error.name}: pip install "stepsearch[serve]"') from None

__all__ = [
    "AgentApp",
    "AgentSettings",
    "AppFactory",
    "BatchedSearch",
    "OverloadedError",
    "ServerSettings",
    "address_of",
    "is_loopback",
    "listen",
    "search_app",
    "serve",
]
