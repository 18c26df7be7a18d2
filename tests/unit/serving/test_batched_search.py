import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.serving import BatchedSearch, OverloadedError
from stepsearch.serving.server_metrics import ServerMetrics

LONG = 60.0


def run(
    engine: Any,
    folder: Path,
    ask: Callable[[BatchedSearch], Awaitable[Any]],
    max_batch: int = 256,
    batch_seconds: float = 0.0,
    max_waiting: int = 1000,
) -> Any:
    async def running() -> Any:
        guarded = GuardedSearch(engine, timeout_seconds=5, retries=0, cache_size=0)
        batched = BatchedSearch(guarded, max_batch, batch_seconds, max_waiting, ServerMetrics(folder))
        batched.start()
        try:
            return await ask(batched)
        finally:
            engine.gate.set()
            await batched.close()

    return asyncio.run(running())


def titles(outcomes: list[Any]) -> list[str]:
    return [outcome.passages[0].title for outcome in outcomes]


def test_concurrent_queries_are_asked_in_one_call(engine: Any, tmp_path: Path) -> None:
    queries = [f"q{index}" for index in range(32)]

    async def ask(batched: BatchedSearch) -> list[str]:
        found = await asyncio.gather(*(batched.search([query], 2) for query in queries))
        return [title for outcomes in found for title in titles(outcomes)]

    # So long a deadline that only a full batch ends the wait.
    assert run(engine, tmp_path, ask, max_batch=32, batch_seconds=LONG) == queries
    assert engine.calls == [(queries, 2)]


def test_the_deadline_ends_the_wait_for_others(engine: Any, tmp_path: Path) -> None:
    async def ask(batched: BatchedSearch) -> float:
        started = asyncio.get_running_loop().time()
        await batched.search(["alone"], 1)
        return asyncio.get_running_loop().time() - started

    assert 0.05 <= run(engine, tmp_path, ask, batch_seconds=0.05) < 4


def test_what_arrives_while_the_engine_works_is_its_next_batch(engine: Any, tmp_path: Path, until: Any) -> None:
    async def ask(batched: BatchedSearch) -> None:
        engine.gate.clear()
        first = asyncio.create_task(batched.search(["first"], 1))
        await until(lambda: len(engine.calls) == 1)
        others = [asyncio.create_task(batched.search([f"q{index}"], 1)) for index in range(5)]
        await asyncio.sleep(0.02)
        engine.gate.set()
        await asyncio.gather(first, *others)

    run(engine, tmp_path, ask)
    assert [len(queries) for queries, _ in engine.calls] == [1, 5]


def test_identical_queries_are_computed_once(engine: Any, tmp_path: Path, until: Any) -> None:
    async def ask(batched: BatchedSearch) -> list[list[str]]:
        engine.gate.clear()
        waiting = [asyncio.create_task(batched.search(["same", "other", "same"], 1)) for _ in range(10)]
        await until(lambda: len(engine.calls) == 1)
        # These join what the engine is working on already.
        waiting += [asyncio.create_task(batched.search(["same"], 1)) for _ in range(10)]
        await asyncio.sleep(0.01)
        engine.gate.set()
        return [titles(outcomes) for outcomes in await asyncio.gather(*waiting)]

    assert run(engine, tmp_path, ask) == [["same", "other", "same"]] * 10 + [["same"]] * 10
    assert engine.calls == [(["same", "other"], 1)]


def test_a_query_is_computed_again_once_it_was_answered(engine: Any, tmp_path: Path) -> None:
    async def ask(batched: BatchedSearch) -> None:
        await batched.search(["q"], 1)
        await batched.search(["q"], 1)

    run(engine, tmp_path, ask)
    assert engine.calls == [(["q"], 1)] * 2


def test_many_queries_are_asked_in_full_batches(engine: Any, tmp_path: Path) -> None:
    queries = [f"q{index}" for index in range(10)]

    async def ask(batched: BatchedSearch) -> list[str]:
        return titles(await batched.search(queries, 1))

    assert run(engine, tmp_path, ask, max_batch=4) == queries
    assert [asked for asked, _ in engine.calls] == [queries[:4], queries[4:8], queries[8:]]


def test_different_numbers_of_documents_never_share_a_call(engine: Any, tmp_path: Path) -> None:
    async def ask(batched: BatchedSearch) -> list[int]:
        found = await asyncio.gather(*(batched.search(["a", "b"], top_k) for top_k in (1, 5, 1)))
        return [len(outcome.passages) for outcomes in found for outcome in outcomes]

    assert run(engine, tmp_path, ask, batch_seconds=0.02) == [1, 1, 5, 5, 1, 1]
    assert sorted(engine.calls) == [(["a", "b"], 1), (["a", "b"], 5)]


def test_a_full_queue_refuses_and_recovers(engine: Any, tmp_path: Path, until: Any) -> None:
    async def ask(batched: BatchedSearch) -> list[str]:
        engine.gate.clear()
        accepted = asyncio.create_task(batched.search(["a", "b"], 1))
        await until(lambda: len(engine.calls) == 1)
        with pytest.raises(OverloadedError, match="2 queries wait"):
            await batched.search(["c"], 1)
        # What joins a query that waits makes nothing longer.
        joined = asyncio.create_task(batched.search(["b"], 1))
        await asyncio.sleep(0)
        engine.gate.set()
        found = titles([*await accepted, *await joined])
        return found + titles(await batched.search(["c", "d"], 1))

    assert run(engine, tmp_path, ask, max_waiting=2) == ["a", "b", "b", "c", "d"]


def test_a_caller_that_gives_up_disturbs_no_other(engine: Any, tmp_path: Path, until: Any) -> None:
    async def ask(batched: BatchedSearch) -> list[str]:
        engine.gate.clear()
        leaving, staying = (asyncio.create_task(batched.search(["same"], 1)) for _ in range(2))
        await until(lambda: len(engine.calls) == 1)
        leaving.cancel()
        await asyncio.sleep(0)
        engine.gate.set()
        return titles(await staying)

    assert run(engine, tmp_path, ask) == ["same"]


def test_a_query_that_breaks_the_engine_fails_alone(engine: Any, tmp_path: Path) -> None:
    async def ask(batched: BatchedSearch) -> list[bool]:
        found = await asyncio.gather(*(batched.search([query], 1) for query in ("good", "break", "fine")))
        return [outcome.failed for (outcome,) in found]

    assert run(engine, tmp_path, ask, batch_seconds=0.02) == [False, True, False]


def test_nothing_asked_finds_nothing(engine: Any, tmp_path: Path) -> None:
    async def ask(batched: BatchedSearch) -> list[Any]:
        return await batched.search([], 3)

    assert run(engine, tmp_path, ask) == []
    assert engine.calls == []
