"""Search that a rollout can rely on: whatever the engine does, every query gets an outcome."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stepsearch.config import SearchSettings
from stepsearch.errors import SearchError, SearchUnavailableError
from stepsearch.search.search_engine import SearchEngine, as_passages
from stepsearch.search.time_limit import OverdueError, within
from stepsearch.types import Passage

logger = logging.getLogger(__name__)

CACHED_RESULTS = 16_384


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """What a query found; `failed` when the engine gave no answer, which is not the same as finding nothing."""

    passages: tuple[Passage, ...]
    failed: bool = False


@dataclass(frozen=True, slots=True)
class SearchStatistics:
    """What was asked: queries, those answered without asking the engine, those that failed, and seconds spent."""

    queries: int = 0
    cache_hits: int = 0
    failures: int = 0
    seconds: float = 0.0


def joint_statistics(parts: Sequence[SearchStatistics]) -> SearchStatistics:
    """Return what several searches, at the same time, were asked together; the seconds are those of the longest."""
    return SearchStatistics(
        queries=sum(part.queries for part in parts),
        cache_hits=sum(part.cache_hits for part in parts),
        failures=sum(part.failures for part in parts),
        seconds=max(part.seconds for part in parts),
    )


FAILED = SearchOutcome((), failed=True)


class GuardedSearch:
    """Asks an engine, with a time limit, retries and a cache of the results met last.

    A batch that raises or takes too long is tried again after a pause that doubles. If it still raises, each of its
    queries is asked alone, so that one that breaks the engine does not fail its neighbours. An engine that hangs is
    left hanging in a thread of its own; the next batch is asked in another. Only the engine's own exceptions count as
    failures. Safe to call from several threads: the engine is asked by one at a time.

    An engine that `guards_itself` is asked once, and without a time limit. One that raises SearchUnavailableError is
    not asked again for that batch.

    Args:
        engine: answers the queries.
        timeout_seconds: how long one try may take.
        retries: further tries.
        backoff_seconds: pause before the first of them.
        cache_size: how many results are kept; failures never are.
    """

    def __init__(
        self,
        engine: SearchEngine,
        timeout_seconds: float = 30.0,
        retries: int = 2,
        backoff_seconds: float = 0.5,
        cache_size: int = CACHED_RESULTS,
    ) -> None:
        self._engine = engine
        self._timeout_seconds = None if engine.guards_itself else timeout_seconds
        self._retries = 0 if engine.guards_itself else retries
        self._backoff_seconds = backoff_seconds
        self._cache_size = cache_size
        self._cache: OrderedDict[tuple[str, int], SearchOutcome] = OrderedDict()
        self._statistics = SearchStatistics()
        self._lock = threading.Lock()

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[SearchOutcome]:
        """Return the outcome of each query, in the order of `queries`; identical ones are asked once."""
        with self._lock:
            # Not before: waiting for another thread's batch is no work of the search.
            started = time.perf_counter()
            outcomes = {query: self._cached(query, top_k) for query in queries}
            unknown = [query for query, outcome in outcomes.items() if outcome is None]
            answers = dict(zip(unknown, self._ask(unknown, top_k), strict=True)) if unknown else {}
            for query, outcome in answers.items():
                self._keep(query, top_k, outcome)
            found = [outcomes[query] or answers[query] for query in queries]
            self._count(len(queries), len(unknown), sum(outcome.failed for outcome in found), started)
        return found

    def take_statistics(self) -> SearchStatistics:
        """Return what was asked since the last call, and start counting anew."""
        with self._lock:
            statistics, self._statistics = self._statistics, SearchStatistics()
        return statistics

    def cached_results(self) -> list[tuple[str, int, list[dict[str, Any]]]]:
        """Return the cache as plain values, oldest first: query, top_k, and the passages' fields."""
        with self._lock:
            return [(*key, [asdict(passage) for passage in found.passages]) for key, found in self._cache.items()]

    def restore_cache(self, results: Sequence[tuple[str, int, Sequence[Mapping[str, Any]]]]) -> None:
        """Take what `cached_results` returned for the cache, so that a resumed run asks what it would have asked."""
        restored = [((query, top_k), tuple(Passage(**fields) for fields in found)) for query, top_k, found in results]
        with self._lock:
            self._cache = OrderedDict((key, SearchOutcome(passages)) for key, passages in restored)

    def close(self) -> None:
        """Release what the engine holds."""
        self._engine.close()

    def _cached(self, query: str, top_k: int) -> SearchOutcome | None:
        outcome = self._cache.get((query, top_k))
        if outcome is not None:
            self._cache.move_to_end((query, top_k))
        return outcome

    def _keep(self, query: str, top_k: int, outcome: SearchOutcome) -> None:
        if outcome.failed:
            return
        self._cache[query, top_k] = outcome
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    def _count(self, queries: int, asked: int, failures: int, started: float) -> None:
        before = self._statistics
        self._statistics = SearchStatistics(
            queries=before.queries + queries,
            cache_hits=before.cache_hits + queries - asked,
            failures=before.failures + failures,
            seconds=before.seconds + time.perf_counter() - started,
        )

    def _ask(self, queries: list[str], top_k: int) -> list[SearchOutcome]:
        """Ask the engine until it answers or the tries are spent."""
        overdue = False
        for attempt in range(self._retries + 1):
            if attempt:
                time.sleep(self._backoff_seconds * 2 ** (attempt - 1))
            try:
                return self._ask_once(queries, top_k, self._timeout_seconds)
            except SearchUnavailableError as error:
                logger.warning("search for %d queries failed: %s", len(queries), error)
                return [FAILED] * len(queries)
            except Exception as error:
                overdue = isinstance(error, OverdueError)
                logger.warning("search try %d of %d failed: %s", attempt + 1, self._retries + 1, _reason(error))
        if overdue or len(queries) == 1:
            return [FAILED] * len(queries)
        return self._ask_one_by_one(queries, top_k)

    def _ask_one_by_one(self, queries: list[str], top_k: int) -> list[SearchOutcome]:
        """Ask each query alone, all of them within the time of one try."""
        limit = self._timeout_seconds
        deadline = None if limit is None else time.monotonic() + limit
        outcomes: list[SearchOutcome] = []
        for query in queries:
            try:
                left = None if deadline is None else deadline - time.monotonic()
                outcomes += self._ask_once([query], top_k, left)
            except Exception as error:
                logger.warning("search for '%s' failed: %s", query, _reason(error))
                outcomes.append(FAILED)
                if isinstance(error, SearchUnavailableError):
                    break
        return outcomes + [FAILED] * (len(queries) - len(outcomes))

    def _ask_once(self, queries: list[str], top_k: int, seconds: float | None) -> list[SearchOutcome]:
        def ask() -> list[list[Passage]]:
            return self._engine.search_batch(queries, top_k)

        results = ask() if seconds is None else within(seconds, ask)
        if len(results) != len(queries):
            raise SearchError(f"search_batch returned {len(results)} results for {len(queries)} queries")
        return [SearchOutcome(tuple(as_passages(result, top_k))) for result in results]


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def guard(engine: SearchEngine, settings: SearchSettings) -> GuardedSearch:
    """Return an engine with the settings' time limit and retries around it."""
    return GuardedSearch(engine, settings.timeout_seconds, settings.retries, settings.backoff_seconds)
