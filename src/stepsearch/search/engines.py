"""Every search engine that a config can name."""

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from stepsearch.config import SearchSettings
from stepsearch.errors import SearchError
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.cached_search import CachedSearchEngine
from stepsearch.search.cross_encoder import CrossEncoder
from stepsearch.search.dense_search import DenseSearchEngine
from stepsearch.search.engine_identity import engine_identity, hybrid_parts
from stepsearch.search.hybrid_search import HybridSearchEngine
from stepsearch.search.mcp_search import MCPSearchEngine
from stepsearch.search.mcp_session import MCPServer
from stepsearch.search.mock_search import MockSearchEngine
from stepsearch.search.patient_http import Patience
from stepsearch.search.remote_search import RemoteSearchEngine
from stepsearch.search.search_engine import SearchEngine
from stepsearch.search.wiki_search import WikiSearchEngine

WIKI = "wiki"

EngineFactory = Callable[[SearchSettings, Path | None], SearchEngine]


def _bm25(settings: SearchSettings, knowledge_base: Path | None) -> SearchEngine:
    return BM25SearchEngine.open(_required(knowledge_base, "bm25"))


def _dense(settings: SearchSettings, knowledge_base: Path | None) -> SearchEngine:
    return DenseSearchEngine.open(_required(knowledge_base, "dense"), settings.dense, Patience.of(settings))


def _mock(settings: SearchSettings, knowledge_base: Path | None) -> SearchEngine:
    results = settings.mock.results
    return MockSearchEngine() if results is None else MockSearchEngine.from_file(Path(results).expanduser())


def _remote(settings: SearchSettings, knowledge_base: Path | None) -> SearchEngine:
    remote = settings.remote
    token = _token(remote.token_variable)
    engine = RemoteSearchEngine(remote.url, Patience.of(settings), token, remote.batch_size)
    return _checked(engine, engine.check)


def _wiki(settings: SearchSettings, knowledge_base: Path | None) -> SearchEngine:
    wiki = settings.wiki
    engine = WikiSearchEngine(wiki.language, wiki.contact, wiki.url, wiki.requests_per_second, Patience.of(settings))
    return _checked(engine, engine.check)


def _mcp(settings: SearchSettings, knowledge_base: Path | None) -> SearchEngine:
    mcp = settings.mcp
    environment = {name: os.environ[name] for name in mcp.environment if name in os.environ}
    server = MCPServer(mcp.command, mcp.url, environment, _token(mcp.token_variable))
    engine = MCPSearchEngine(server, mcp.tool, mcp.query_argument, mcp.top_k_argument, settings.timeout_seconds)
    return _checked(engine, engine.check)


def _hybrid(settings: SearchSettings, knowledge_base: Path | None) -> SearchEngine:
    hybrid = settings.hybrid
    reranker = None if hybrid.reranker is None else CrossEncoder.load(hybrid.reranker)
    with ExitStack() as opened:
        parts = hybrid_parts(settings, knowledge_base)
        engines = [opened.enter_context(closing(build_search_engine(part))) for part in parts]
        engine = HybridSearchEngine(
            engines, hybrid.rank_constant, hybrid.candidates, reranker, hybrid.rerank_candidates
        )
        # All are there: from here on closing them is the hybrid's business.
        opened.pop_all()
    return engine


ENGINES: dict[str, EngineFactory] = {
    WIKI: _wiki,
    "bm25": _bm25,
    "dense": _dense,
    "remote": _remote,
    "mcp": _mcp,
    "hybrid": _hybrid,
    "mock": _mock,
}


def build_search_engine(settings: SearchSettings, knowledge_base: Path | None = None) -> SearchEngine:
    """Return the engine that `settings.engine_type` names.

    Where the settings name a cache, results are kept in it.

    Args:
        settings: the search section of the config.
        knowledge_base: folder of the knowledge base; by default the one that the settings name.

    Raises:
        ConfigError: what `hybrid` is to fuse is not right.
        DataError: the knowledge base cannot be read.
        SearchError: no engine has that name, or the engine or its cache lacks what it needs.
    """
    factory = ENGINES.get(settings.engine_type)
    if factory is None:
        known = ", ".join(ENGINES)
        raise SearchError(
            f"search.engine_type {settings.engine_type} is not available: choose one of {known}, for example "
            "search.engine_type=bm25 search.knowledge_base=DIR"
        )
    if knowledge_base is None and settings.knowledge_base is not None:
        knowledge_base = Path(settings.knowledge_base)
    return _cached(factory(settings, knowledge_base), settings, knowledge_base)


def _cached(engine: SearchEngine, settings: SearchSettings, knowledge_base: Path | None) -> SearchEngine:
    """Return an engine with the settings' cache before it, where they name one."""
    folder = _cache_folder(settings)
    if folder is None:
        return engine
    try:
        return CachedSearchEngine(engine, folder, engine_identity(settings, knowledge_base), settings.cache_entries)
    except BaseException:
        engine.close()
        raise


def _cache_folder(settings: SearchSettings) -> Path | None:
    """Return where results are kept, or None where they are not."""
    if settings.cache_entries == 0:
        return None
    if settings.cache_dir is not None:
        return Path(settings.cache_dir).expanduser()
    if settings.engine_type != WIKI:
        return None
    # Whoever asks Wikipedia is expected to remember the answer.
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "stepsearch" / "search"


def _required(knowledge_base: Path | None, engine_type: str) -> Path:
    if knowledge_base is None:
        raise SearchError(
            f"search.engine_type {engine_type} searches a knowledge base, and there is none: name its folder with "
            "search.knowledge_base=DIR, or make one with stepsearch index"
        )
    return knowledge_base


def _token(variable: str | None) -> str | None:
    """Return the bearer token that an environment variable holds, if it does."""
    token = "" if variable is None else os.environ.get(variable, "").strip()
    # Refused here: the message of whoever builds the header would show it.
    if not (token.isascii() and token.isprintable()):
        raise SearchError(f"the environment variable {variable} holds no bearer token: a header cannot carry its value")
    return token or None


def _checked(engine: SearchEngine, check: Callable[[], None]) -> SearchEngine:
    """Return an engine that passes its check; one that does not is closed."""
    try:
        check()
    except BaseException:
        engine.close()
        raise
    return engine
