"""Finding passages: the contract, the engines, and the guard that a rollout asks through."""

from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.cached_search import CachedSearchEngine
from stepsearch.search.cross_encoder import CrossEncoder
from stepsearch.search.dense_search import DenseSearchEngine
from stepsearch.search.engines import ENGINES, EngineFactory, build_search_engine
from stepsearch.search.guarded_search import GuardedSearch, SearchOutcome, SearchStatistics
from stepsearch.search.hybrid_search import HybridSearchEngine
from stepsearch.search.mcp_search import MCPSearchEngine
from stepsearch.search.mcp_session import MCPServer
from stepsearch.search.mock_search import MockSearchEngine
from stepsearch.search.patient_http import Patience
from stepsearch.search.remote_search import RemoteSearchEngine
from stepsearch.search.search_engine import SearchEngine
from stepsearch.search.wiki_search import WikiSearchEngine

__all__ = [
    "ENGINES",
    "BM25SearchEngine",
    "CachedSearchEngine",
    "CrossEncoder",
    "DenseSearchEngine",
    "EngineFactory",
    "GuardedSearch",
    "HybridSearchEngine",
    "MCPSearchEngine",
    "MCPServer",
    "MockSearchEngine",
    "Patience",
    "RemoteSearchEngine",
    "SearchEngine",
    "SearchOutcome",
    "SearchStatistics",
    "WikiSearchEngine",
    "build_search_engine",
]
