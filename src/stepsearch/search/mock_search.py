"""A search engine for tests: it returns what it was told to."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from stepsearch.errors import SearchError
from stepsearch.search.retrieved_documents import passage_from_document
from stepsearch.search.search_engine import SearchEngine
from stepsearch.types import Passage


class MockSearchEngine(SearchEngine):
    """Returns canned results.

    Args:
        results: the texts or passages that each query finds; a query that is not there finds nothing. Without results
            every query finds made-up documents that repeat it.
    """

    def __init__(self, results: Mapping[str, Sequence[str | Passage]] | None = None) -> None:
        self._results = results

    @classmethod
    def from_file(cls, path: Path) -> "MockSearchEngine":
        """Return an engine with the results of a JSON file: each query with a list of texts or documents.

        Raises:
            SearchError: the file cannot be read, or holds something else.
        """
        try:
            canned = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SearchError(f"search.mock.results: {path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise SearchError(f"search.mock.results: {path} is not JSON: {error}") from None
        if not isinstance(canned, dict):
            raise SearchError(
                f"search.mock.results: {path} must hold an object of queries, not a {type(canned).__name__}"
            )
        return cls({query: _documents(path, query, documents) for query, documents in canned.items()})

    def search(self, query: str, top_k: int = 3) -> Sequence[str | Passage]:
        """Return the first `top_k` canned results of the query."""
        if self._results is None:
            return [f"Made-up document {rank} about {query}." for rank in range(1, top_k + 1)]
        return list(self._results.get(query, ())[:top_k])


def _documents(path: Path, query: str, documents: object) -> list[Passage]:
    if not isinstance(documents, list):
        raise SearchError(f"search.mock.results: {path}, query '{query}': must have a list of documents")
    try:
        return [passage_from_document(document) for document in documents]
    except SearchError as error:
        raise SearchError(f"search.mock.results: {path}, query '{query}': {error}") from None
