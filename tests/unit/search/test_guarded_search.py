import json
import logging
import threading
import time
from collections.abc import Sequence

import pytest

from stepsearch.errors import SearchUnavailableError
from stepsearch.search import GuardedSearch, MockSearchEngine, SearchEngine, SearchOutcome
from stepsearch.search.guarded_search import SearchStatistics, joint_statistics
from stepsearch.types import Passage


class Scripted(SearchEngine):
    """Fails, hangs or answers "about <query>", as it is told to; notes every batch it was asked."""

    def __init__(self, failures: int = 0, hangs: int = 0, poison: str = "") -> None:
        self.failures, self.hangs, self.poison = failures, hangs, poison
        self.batches: list[list[str]] = []
        self.released = threading.Event()

    def search(self, query: str, top_k: int = 3) -> list[str]:
        if query == self.poison:
            raise ValueError(f"cannot ask for {query}")
        return [f"about {query}"] * min(top_k, 1)

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        self.batches.append(list(queries))
        if self.hangs:
            self.hangs -= 1
            self.released.wait(20)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the engine is down")
        return super().search_batch(queries, top_k)


def found(query: str) -> SearchOutcome:
    return SearchOutcome((Passage.from_text(f"about {query}"),))


FAILED = SearchOutcome((), failed=True)


def test_outcomes_come_in_the_order_of_queries_and_each_query_is_asked_once() -> None:
    engine = Scripted()
    search = GuardedSearch(engine)
    assert search.search_batch(["a", "b", "a"], 3) == [found("a"), found("b"), found("a")]
    assert search.search_batch(["c", "b"], 3) == [found("c"), found("b")]
    assert search.search_batch(["a"], 2) == [found("a")]
    assert engine.batches == [["a", "b"], ["c"], ["a"]]
    assert search.search_batch([], 3) == []


def test_an_engine_that_is_unavailable_is_asked_once_for_a_batch() -> None:
    class Down(Scripted):
        def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
            self.batches.append(list(queries))
            raise SearchUnavailableError("the server is down")

    engine = Down()
    assert GuardedSearch(engine, retries=5, backoff_seconds=9).search_batch(["a", "b"]) == [FAILED, FAILED]
    assert engine.batches == [["a", "b"]]


def test_an_engine_that_guards_itself_is_asked_once_and_waited_for() -> None:
    class Careful(Scripted):
        guards_itself = True

        def search(self, query: str, top_k: int = 3) -> list[str]:
            time.sleep(0.05)
            return super().search(query, top_k)

    engine = Careful(poison="x")
    search = GuardedSearch(engine, timeout_seconds=0.01, retries=5, backoff_seconds=9)
    assert search.search_batch(["a", "x", "b"]) == [found("a"), FAILED, found("b")]
    assert engine.batches == [["a", "x", "b"], ["a"], ["x"], ["b"]]


def test_queries_after_one_that_finds_the_engine_unavailable_are_not_asked() -> None:
    class Dying(Scripted):
        def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
            if queries == ["x"]:
                raise SearchUnavailableError("the server died")
            return super().search_batch(queries, top_k)

    engine = Dying(poison="x")
    assert GuardedSearch(engine, retries=0).search_batch(["a", "x", "b"]) == [found("a"), FAILED, FAILED]
    assert engine.batches == [["a", "x", "b"], ["a"]]


def test_statistics_count_and_start_anew() -> None:
    search = GuardedSearch(Scripted(poison="x"), retries=0)
    search.search_batch(["a", "a", "x"])
    search.search_batch(["a", "x", "x"])
    statistics = search.take_statistics()
    assert (statistics.queries, statistics.cache_hits, statistics.failures) == (6, 3, 3)
    assert statistics.seconds > 0
    assert search.take_statistics().queries == 0


def test_searches_at_the_same_time_are_counted_together() -> None:
    parts = [SearchStatistics(4, 1, 0, 2.0), SearchStatistics(3, 3, 1, 0.5)]
    assert joint_statistics(parts) == SearchStatistics(7, 4, 1, 2.0)


def test_an_engine_that_raises_is_tried_again_after_a_growing_pause() -> None:
    engine = Scripted(failures=2)
    started = time.perf_counter()
    outcomes = GuardedSearch(engine, retries=2, backoff_seconds=0.02).search_batch(["a"])
    assert time.perf_counter() - started >= 0.02 + 0.04
    assert outcomes == [found("a")]
    assert len(engine.batches) == 3


def test_an_engine_that_stays_down_fails_and_is_asked_again_next_time(caplog: pytest.LogCaptureFixture) -> None:
    engine = Scripted(failures=3)
    search = GuardedSearch(engine, retries=2, backoff_seconds=0)
    with caplog.at_level(logging.WARNING):
        assert search.search_batch(["a"]) == [FAILED]
    assert "search try 3 of 3 failed: ConnectionError: the engine is down" in caplog.text
    assert search.search_batch(["a"]) == [found("a")]
    assert search.take_statistics().failures == 1


def test_a_query_that_breaks_the_engine_fails_alone() -> None:
    engine = Scripted(poison="x")
    search = GuardedSearch(engine, retries=1, backoff_seconds=0)
    assert search.search_batch(["a", "x", "b"]) == [found("a"), FAILED, found("b")]
    assert engine.batches == [["a", "x", "b"]] * 2 + [["a"], ["x"], ["b"]]


def test_an_engine_that_hangs_is_left_behind_and_the_next_batch_works() -> None:
    engine = Scripted(hangs=2)
    search = GuardedSearch(engine, timeout_seconds=0.05, retries=1, backoff_seconds=0)
    started = time.perf_counter()
    assert search.search_batch(["a", "b"]) == [FAILED, FAILED]
    assert time.perf_counter() - started < 2
    assert search.search_batch(["a", "b"]) == [found("a"), found("b")]
    engine.released.set()


def test_asking_one_by_one_takes_no_longer_than_one_try() -> None:
    class Slow(Scripted):
        def search(self, query: str, top_k: int = 3) -> list[str]:
            time.sleep(0.06)
            return super().search(query, top_k)

        def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
            if len(queries) > 1:
                raise ValueError("one at a time")
            return super().search_batch(queries, top_k)

    engine = Slow()
    search = GuardedSearch(engine, timeout_seconds=0.15, retries=0)
    queries = [str(i) for i in range(20)]
    started = time.perf_counter()
    outcomes = search.search_batch(queries)
    assert time.perf_counter() - started < 1
    assert outcomes[0] == found("0")
    assert outcomes[-1] == FAILED
    assert len(engine.batches) <= 4


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda queries: [], "search_batch returned 0 results for 1 queries"),
        (lambda queries: [["a"], ["b"]], "search_batch returned 2 results for 1 queries"),
        (lambda queries: [[3]], "one of its results is of type int"),
        (lambda queries: ["text"], "not a str"),
        (lambda queries: [None], "not a NoneType"),
        (lambda queries: None, "TypeError"),
    ],
)
def test_an_answer_of_the_wrong_shape_is_a_failure_with_a_reason(answer, reason, caplog) -> None:
    class Wrong(Scripted):
        def search_batch(self, queries: Sequence[str], top_k: int = 3):
            return answer(queries)

    with caplog.at_level(logging.WARNING):
        assert GuardedSearch(Wrong(), retries=0).search_batch(["a"]) == [FAILED]
    assert reason in caplog.text


def test_more_than_top_k_is_cut() -> None:
    class Generous(Scripted):
        def search_batch(self, queries: Sequence[str], top_k: int = 3):
            return [["a", "b", "c"] for _ in queries]

    (outcome,) = GuardedSearch(Generous()).search_batch(["q"], 2)
    assert [passage.text for passage in outcome.passages] == ["a", "b"]


def test_halves_of_surrogate_pairs_which_no_tokenizer_takes_are_replaced() -> None:
    class Damaged(Scripted):
        def search_batch(self, queries: Sequence[str], top_k: int = 3):
            return [["a \ud83d"], [Passage("\ude00", "b \ud83d", "\ud83d", 1.0)]]

    first, second = GuardedSearch(Damaged()).search_batch(["q", "r"])
    assert first.passages == (Passage.from_text("a ?"),)
    assert second.passages == (Passage("?", "b ?", "?", 1.0),)


def test_an_interrupt_is_not_swallowed() -> None:
    class Interrupted(Scripted):
        def search(self, query: str, top_k: int = 3) -> list[str]:
            raise KeyboardInterrupt

    search = GuardedSearch(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        search.search_batch(["a"])


def test_the_cache_is_bounded_and_forgets_what_was_used_least_lately() -> None:
    engine = Scripted()
    search = GuardedSearch(engine, cache_size=2)
    for query in ["a", "b", "a", "c", "a", "b"]:
        search.search_batch([query])
    assert engine.batches == [["a"], ["b"], ["c"], ["b"]]


def test_a_cache_that_was_kept_can_be_put_back() -> None:
    search = GuardedSearch(Scripted(poison="x"), retries=0, cache_size=2)
    search.search_batch(["a", "x"])
    search.search_batch(["b"])
    kept = json.loads(json.dumps(search.cached_results()))

    engine = Scripted()
    resumed = GuardedSearch(engine, cache_size=2)
    resumed.search_batch(["z"])
    resumed.restore_cache(kept)
    assert resumed.search_batch(["a"]) == [found("a")]
    resumed.search_batch(["c"])
    resumed.search_batch(["a", "b"])
    # Of the two that were kept, "a" was used last, so that "c" took the place of "b"; "z" was replaced.
    assert engine.batches == [["z"], ["c"], ["b"]]


def test_an_empty_result_is_no_failure_and_is_kept() -> None:
    search = GuardedSearch(MockSearchEngine({}))
    assert search.search_batch(["a"]) == [SearchOutcome(())]
    search.search_batch(["a"])
    assert search.take_statistics().cache_hits == 1


def test_several_threads_may_ask() -> None:
    engine = Scripted()
    search = GuardedSearch(engine)
    outcomes: list[list[SearchOutcome]] = []
    threads = [threading.Thread(target=lambda: outcomes.append(search.search_batch(["a", "b"]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [[found("a"), found("b")]] * 8
    assert engine.batches == [["a", "b"]]


def test_closing_closes_the_engine() -> None:
    class Closable(Scripted):
        closed = False

        def close(self) -> None:
            self.closed = True

    engine = Closable()
    GuardedSearch(engine).close()
    assert engine.closed
