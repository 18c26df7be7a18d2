"""Queries of concurrent episodes, asked together."""

import asyncio
from collections.abc import Sequence

from stepsearch.search.guarded_search import GuardedSearch, SearchOutcome


class GatheredSearch:
    """Asks a search for the episodes of one event loop: queries that come while it is busy go in the next batch.

    Args:
        search: answers batches, in a thread; never raises for an engine's fault.
        top_k: documents per query.
    """

    def __init__(self, search: GuardedSearch, top_k: int) -> None:
        self._search = search
        self._top_k = top_k
        self._waiting: list[tuple[str, asyncio.Future[SearchOutcome]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def search(self, query: str) -> SearchOutcome:
        """Return what the query found."""
        found: asyncio.Future[SearchOutcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, found))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await found

    async def _ask(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            queries = [query for query, _ in batch]
            try:
                outcomes = await asyncio.to_thread(self._search.search_batch, queries, self._top_k)
            except Exception as error:
                _fail([found for _, found in batch], error)
                continue
            for (_, found), outcome in zip(batch, outcomes, strict=True):
                if not found.done():  # an episode that was cancelled
                    found.set_result(outcome)


def _fail(futures: Sequence[asyncio.Future[SearchOutcome]], error: Exception) -> None:
    for found in futures:
        if not found.done():
            found.set_exception(error)
