"""Where queries are answered: the section `search`, with one below it for each engine that has settings."""

from typing import Any, Literal

from pydantic import Field, ValidationError

from stepsearch.config.merging import merged
from stepsearch.config.section import Section
from stepsearch.errors import ConfigError


class MockSearchSettings(Section):
    """The engine `mock`: canned results."""

    results: str | None = Field(
        default=None, description="JSON file: query to list of texts or documents; default: made-up documents."
    )


class RemoteSearchSettings(Section):
    """The engine `remote`: a server with Search-R1's /retrieve."""

    url: str = Field(default="http://127.0.0.1:8000/retrieve", description="Full address of the server's /retrieve.")
    token_variable: str = Field(
        default="STEPSEARCH_TOKEN", description="Environment variable with a bearer token, where one is needed."
    )
    batch_size: int = Field(default=256, ge=1, description="Queries in one request; larger batches are split.")


class WikiSearchSettings(Section):
    """The engine `wiki`: live Wikipedia, or any other MediaWiki."""

    language: str = Field(default="en", pattern="^[a-z][a-z-]*$", description="Wikipedia's language code.")
    contact: str | None = Field(
        default=None,
        pattern="^[ -~]*$",
        description="E-mail or URL for the user agent; Wikimedia's policy asks for it.",
    )
    requests_per_second: float = Field(default=3.0, gt=0, description="Tries made in a second at most.")
    url: str | None = Field(default=None, description="Address of another MediaWiki's api.php.")


class MCPSearchSettings(Section):
    """The engine `mcp`: a search tool of an MCP server; needs the extra `mcp`."""

    command: tuple[str, ...] = Field(default=(), description="Command that starts the server; or set url.")
    url: str | None = Field(default=None, description="Address of a running server (streamable HTTP).")
    tool: str = Field(default="search", description="Name of the search tool.")
    query_argument: str = Field(default="query", description="The tool's argument that takes the query.")
    top_k_argument: str | None = Field(
        default=None, description="The argument that takes the number of documents, where the tool has one."
    )
    environment: tuple[str, ...] = Field(
        default=(), description="Environment variables handed on to the command, such as an API key's."
    )
    token_variable: str | None = Field(
        default=None, description="Environment variable with a bearer token for url, where one is needed."
    )


class DenseSearchSettings(Section):
    """The engine `dense`: vectors of a model's. What is not set is as the index was made, else as the model says."""

    encoder: str | None = Field(
        default=None, description="Folder or hub name of an encoder; with url what the endpoint calls its model."
    )
    url: str | None = Field(
        default=None, description="OpenAI-compatible endpoint that makes the vectors, with its /v1."
    )
    index: str = Field(
        default="dense", pattern=r"^\w[\w.-]*$", description="The index's folder inside the knowledge base."
    )
    query_prefix: str | None = Field(default=None, description="Put before queries; E5's is 'query: '.")
    passage_prefix: str | None = Field(default=None, description="Put before passages; E5's is 'passage: '.")
    pooling: Literal["mean", "cls", "last"] | None = Field(
        default=None, description="Which of a text's token vectors count: all, the first or the last one."
    )
    normalize: bool | None = Field(default=None, description="Make all vectors equally long: scores are cosines.")
    max_tokens: int | None = Field(default=None, ge=3, description="Tokens of a text that are read.")
    batch_size: int = Field(default=64, ge=1, description="Texts encoded at once.")
    min_score: float | None = Field(default=None, description="Leave out passages that score less.")
    image_folder: str | None = Field(
        default=None, description="Where images' paths begin; default: the knowledge base's folder."
    )


class HybridSearchSettings(Section):
    """The engine `hybrid`: several engines' rankings fused."""

    engines: tuple[str | dict[str, Any], ...] = Field(
        default=(), description="Engine types, or mappings of search settings that differ from the section's."
    )
    rank_constant: float = Field(default=60.0, gt=0, description="Reciprocal-rank fusion's k: score 1 / (k + rank).")
    candidates: int = Field(default=50, ge=1, description="Documents asked of each engine; at least top_k.")
    reranker: str | None = Field(
        default=None, description="Folder or hub name of a cross-encoder that orders the fused candidates."
    )
    rerank_candidates: int = Field(default=20, ge=1, description="Best fused candidates that it reads; at least top_k.")


class SearchSettings(Section):
    """Which engine answers queries, and what happens when it does not."""

    engine_type: str = Field(default="wiki", description="Key of stepsearch.search.ENGINES.")
    top_k: int = Field(default=3, ge=1, description="Documents per query.")
    knowledge_base: str | None = Field(
        default=None, description="Folder of a knowledge base; default: beside the data file."
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, description="A batch of queries (wiki: one query) that takes longer is retried."
    )
    retries: int = Field(default=2, ge=0, description="Further tries before a search is marked failed.")
    backoff_seconds: float = Field(default=0.5, ge=0, description="Pause before the first retry; doubles each time.")
    circuit_failures: int = Field(
        default=3, ge=1, description="remote, wiki: failed requests in a row before the server is left alone."
    )
    circuit_pause_seconds: float = Field(default=10.0, ge=0, description="remote, wiki: for how long it is left alone.")
    cache_dir: str | None = Field(
        default=None, description="Folder that keeps results between runs; default: wiki's own cache, none for others."
    )
    cache_entries: int = Field(
        default=100_000, ge=0, description="Results kept there, the oldest go first; 0 is no cache."
    )
    mock: MockSearchSettings = MockSearchSettings()
    remote: RemoteSearchSettings = RemoteSearchSettings()
    wiki: WikiSearchSettings = WikiSearchSettings()
    mcp: MCPSearchSettings = MCPSearchSettings()
    dense: DenseSearchSettings = DenseSearchSettings()
    hybrid: HybridSearchSettings = HybridSearchSettings()

    def hybrid_parts(self) -> list["SearchSettings"]:
        """Return the settings of each engine that `hybrid` fuses: this section's, but for what its entry says.

        Raises:
            ConfigError: an entry names no engine, or a setting that there is not.
        """
        # The fused results are what the section's cache keeps.
        shared = self.model_dump(exclude={"hybrid", "engine_type", "cache_dir"})
        parts: list[SearchSettings] = []
        for number, entry in enumerate(self.hybrid.engines):
            where = f"search.hybrid.engines[{number}]"
            own = {"engine_type": entry} if isinstance(entry, str) else entry
            if own.get("engine_type") in (None, "hybrid"):
                raise ConfigError(f"{where}: name an engine other than hybrid with engine_type")
            try:
                parts.append(SearchSettings.model_validate(merged(shared, own)))
            except ValidationError as error:
                problem = error.errors()[0]
                key = ".".join(str(part) for part in problem["loc"])
                raise ConfigError(f"{where}.{key}: {problem['msg']}") from None
        return parts
