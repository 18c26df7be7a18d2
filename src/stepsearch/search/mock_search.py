"""A search engine for tests: it returns what it was told to."""

from collections.abc import Mapping, Sequence

from stepsearch.search.search_engine import SearchEngine


class MockSearchEngine(SearchEngine):
    """Returns canned results.

    Args:
        results: the texts that each query finds; a query that is not there finds nothing. Without results every query
            finds made-up documents that repeat it.
    """

    def __init__(self, results: Mapping[str, Sequence[str]] | None = None) -> None:
        self._results = results

    def search(self, query: str, top_k: int = 3) -> list[str]:
        """Return the first `top_k` canned texts of the query."""
        if self._results is None:
            return [f"Made-up document {rank} about {query}." for rank in range(1, top_k + 1)]
        return list(self._results.get(query, ())[:top_k])
