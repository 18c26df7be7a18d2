"""Search results that are kept on disk, so that no run asks what an earlier one has asked."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from stepsearch.errors import SearchError
from stepsearch.search.result_store import ResultStore
from stepsearch.search.search_engine import SearchEngine, as_passages
from stepsearch.types import Passage

# Bumped whenever engines of the same settings find something else.
CACHE_VERSION = 1


class CachedSearchEngine(SearchEngine):
    """Asks an engine what it was not asked before. Failures are never kept; finding nothing is a result, and is.

    Args:
        engine: answers what is not known.
        folder: where results are kept; several engines and processes may share it.
        identity: all that decides what the engine finds, as `engine_identity` returns it.
        entries: how many results are kept at most; of too many the oldest go.

    Raises:
        SearchError: the folder cannot be used.
    """

    def __init__(self, engine: SearchEngine, folder: Path, identity: str, entries: int = 100_000) -> None:
        self._engine = engine
        self._identity = identity
        self._store = ResultStore(folder, entries)
        self.guards_itself = engine.guards_itself

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        """Return at most `top_k` passages, best first."""
        return self.search_batch([query], top_k)[0]

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        """Return the passages of each query, in the order of `queries`; what is not kept yet is asked together."""
        keys = {query: self._key(query, top_k) for query in queries}
        kept = self._store.read(list(keys.values()))
        found = {query: kept[key] for query, key in keys.items() if key in kept}
        for batch in self._batches([query for query in keys if query not in found]):
            answers = dict(zip(batch, self._ask(batch, top_k), strict=True))
            self._store.write({keys[query]: passages for query, passages in answers.items()})
            found |= answers
        return [found[query] for query in queries]

    def add_documents(self, documents: Sequence[str]) -> None:
        """Add documents to the engine; what was kept before no longer counts.

        Raises:
            SearchError: the engine has no index of its own.
        """
        self._engine.add_documents(documents)
        self._identity = json.dumps([self._identity, "with", list(documents)])

    def close(self) -> None:
        """Close the file and the engine."""
        self._store.close()
        self._engine.close()

    def _batches(self, queries: list[str]) -> Iterator[list[str]]:
        # An engine that takes one query at a time is given one at a time: a failure then leaves what was found before.
        one_by_one = type(self._engine).search_batch is SearchEngine.search_batch
        size = 1 if one_by_one else max(len(queries), 1)
        return (queries[start : start + size] for start in range(0, len(queries), size))

    def _ask(self, queries: list[str], top_k: int) -> list[list[Passage]]:
        results = self._engine.search_batch(queries, top_k)
        if len(results) != len(queries):
            raise SearchError(f"search_batch returned {len(results)} results for {len(queries)} queries")
        return [as_passages(result, top_k) for result in results]

    def _key(self, query: str, top_k: int) -> bytes:
        asked = json.dumps([CACHE_VERSION, self._identity, query, top_k])
        return hashlib.blake2b(asked.encode(), digest_size=16).digest()
