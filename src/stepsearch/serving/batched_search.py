"""Queries of concurrent requests, asked together."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from stepsearch.config import SearchSettings
from stepsearch.search.guarded_search import FAILED, GuardedSearch, SearchOutcome
from stepsearch.search.search_engine import SearchEngine
from stepsearch.serving.refusal import OverloadedError
from stepsearch.serving.server_metrics import ServerMetrics
from stepsearch.serving.server_settings import ServerSettings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Caller:
    """One call of `search`: how many distinct queries it asked, what was found so far, and when it is all there.

    Its future is its own, so that a caller who is cancelled cancels nobody else.
    """

    distinct: int
    all_found: asyncio.Future[None]
    found: dict[str, SearchOutcome] = field(default_factory=dict)

    def take(self, query: str, outcome: SearchOutcome) -> None:
        self.found[query] = outcome
        if len(self.found) == self.distinct and not self.all_found.done():
            self.all_found.set_result(None)


class BatchedSearch:
    """Collects queries for a few milliseconds, asks the engine for all of them at once, and hands out the results.

    A query that is asked while the same one waits or is being answered joins it. Queries of different `top_k` never
    share a call: an engine may rank differently when asked for more. To be used from one event loop; the engine is
    asked in a thread, by one call at a time.

    Args:
        search: answers batches, and turns an engine's failure into outcomes marked failed.
        max_batch: queries per call.
        batch_seconds: how long the first query of a batch waits for others. While the engine is busy they wait anyway.
        max_waiting: distinct queries accepted and not yet answered.
        metrics: counts.
    """

    def __init__(
        self, search: GuardedSearch, max_batch: int, batch_seconds: float, max_waiting: int, metrics: ServerMetrics
    ) -> None:
        self._search = search
        self._max_batch = max_batch
        self._batch_seconds = batch_seconds
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._callers: dict[tuple[int, str], list[_Caller]] = {}
        self._waiting: dict[int, list[str]] = {}
        self._first_arrival = 0.0
        self._arrived, self._full = asyncio.Event(), asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._work: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        self._work = asyncio.create_task(self._answer_batches())

    async def close(self) -> None:
        """Stop, and release the engine. What still waits is answered as failed."""
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work
        for (_, query), callers in self._callers.items():
            for caller in callers:
                caller.take(query, FAILED)
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._search.close()

    async def search(self, queries: Sequence[str], top_k: int) -> list[SearchOutcome]:
        """Return the outcome of each query, in the order of `queries`.

        Raises:
            OverloadedError: too many queries wait; none of these was accepted.
        """
        if not queries:
            return []
        caller = self._join(queries, top_k)
        await caller.all_found
        return [caller.found[query] for query in queries]

    def _join(self, queries: Sequence[str], top_k: int) -> _Caller:
        distinct = dict.fromkeys(queries)
        unknown = [query for query in distinct if (top_k, query) not in self._callers]
        if len(self._callers) + len(unknown) > self._max_waiting:
            raise OverloadedError(f"{len(self._callers)} queries wait already")
        caller = _Caller(len(distinct), asyncio.get_running_loop().create_future())
        for query in distinct:
            self._callers.setdefault((top_k, query), []).append(caller)
        self._metrics.add("queries", len(queries))
        self._metrics.add("shared_queries", len(queries) - len(unknown))
        self._metrics.set("waiting_queries", len(self._callers))
        if unknown:
            self._enqueue(unknown, top_k)
        return caller

    def _enqueue(self, queries: list[str], top_k: int) -> None:
        if not self._waiting:
            self._first_arrival = asyncio.get_running_loop().time()
        waiting = self._waiting.setdefault(top_k, [])
        waiting += queries
        self._arrived.set()
        if len(waiting) >= self._max_batch:
            self._full.set()

    async def _answer_batches(self) -> None:
        while True:
            await self._arrived.wait()
            await self._let_others_join()
            top_k, queries = self._take_batch()
            self._settle(top_k, queries, await self._ask(queries, top_k))

    async def _let_others_join(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._first_arrival + self._batch_seconds):
                await self._full.wait()

    def _take_batch(self) -> tuple[int, list[str]]:
        """Return the queries of one `top_k`, those that came first; what is left goes behind the other ones."""
        top_k = next(iter(self._waiting))
        queries = self._waiting.pop(top_k)
        if len(queries) > self._max_batch:
            self._waiting[top_k] = queries[self._max_batch :]
        if not self._waiting:
            self._arrived.clear()
        if all(len(others) < self._max_batch for others in self._waiting.values()):
            self._full.clear()
        return top_k, queries[: self._max_batch]

    async def _ask(self, queries: list[str], top_k: int) -> list[SearchOutcome]:
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            outcomes = await loop.run_in_executor(self._thread, self._search.search_batch, queries, top_k)
        except Exception:
            # The queries behind these must not wait for ever.
            logger.exception("a batch of %d queries failed", len(queries))
            outcomes = [FAILED] * len(queries)
        self._metrics.add("engine_batches")
        self._metrics.add("engine_queries", len(queries))
        self._metrics.add("engine_failures", sum(outcome.failed for outcome in outcomes))
        self._metrics.add("engine_seconds", time.perf_counter() - started)
        return outcomes

    def _settle(self, top_k: int, queries: list[str], outcomes: list[SearchOutcome]) -> None:
        for query, outcome in zip(queries, outcomes, strict=True):
            for caller in self._callers.pop((top_k, query)):
                caller.take(query, outcome)
        self._metrics.set("waiting_queries", len(self._callers))


def batched_search(
    engine: SearchEngine, search: SearchSettings, settings: ServerSettings, metrics: ServerMetrics
) -> BatchedSearch:
    """Return an engine behind its time limit and retries, asked in batches."""
    # No cache: it would be bounded by results and not by bytes, and an engine may bring a better one.
    guarded = GuardedSearch(engine, search.timeout_seconds, search.retries, search.backoff_seconds, cache_size=0)
    return BatchedSearch(guarded, settings.max_batch, settings.batch_milliseconds / 1000, settings.max_waiting, metrics)
