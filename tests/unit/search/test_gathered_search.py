import asyncio
import threading

from stepsearch.search import GuardedSearch, SearchEngine
from stepsearch.search.gathered_search import GatheredSearch


class Held(SearchEngine):
    """Answers a query with itself, and the first batch only when it may."""

    def __init__(self):
        self.batches = []
        self.may_answer = threading.Event()

    def search(self, query, top_k=3):
        raise NotImplementedError

    def search_batch(self, queries, top_k=3):
        self.batches.append((list(queries), top_k))
        self.may_answer.wait(10)
        return [[query] for query in queries]


class Broken(GuardedSearch):
    def search_batch(self, queries, top_k=3):
        raise MemoryError("no memory")


def test_queries_that_come_while_the_search_is_busy_go_together():
    engine = Held()

    async def ask():
        gathered = GatheredSearch(GuardedSearch(engine), top_k=2)
        first = asyncio.create_task(gathered.search("a"))
        while not engine.batches:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(gathered.search(query)) for query in ("b", "c")]
        await asyncio.sleep(0)
        engine.may_answer.set()
        return await asyncio.gather(first, *others)

    outcomes = asyncio.run(ask())

    assert [outcome.passages[0].text for outcome in outcomes] == ["a", "b", "c"]
    assert engine.batches == [(["a"], 2), (["b", "c"], 2)]


def test_an_episode_that_is_cancelled_takes_nobody_with_it():
    engine = Held()

    async def ask():
        gathered = GatheredSearch(GuardedSearch(engine), top_k=1)
        given_up, kept = (asyncio.create_task(gathered.search(query)) for query in ("a", "b"))
        await asyncio.sleep(0.01)
        given_up.cancel()
        engine.may_answer.set()
        return await kept

    assert asyncio.run(ask()).passages[0].text == "b"


def test_what_is_no_fault_of_the_engine_reaches_every_episode_and_the_next_batch_is_asked():
    async def ask():
        gathered = GatheredSearch(Broken(Held()), top_k=1)
        first = await asyncio.gather(gathered.search("a"), gathered.search("b"), return_exceptions=True)
        return [*first, *await asyncio.gather(gathered.search("c"), return_exceptions=True)]

    assert [str(error) for error in asyncio.run(ask())] == ["no memory"] * 3


def test_a_later_event_loop_can_ask_too():
    engine = Held()
    engine.may_answer.set()
    gathered = GatheredSearch(GuardedSearch(engine), top_k=1)
    assert [asyncio.run(gathered.search(query)).passages[0].text for query in "ab"] == ["a", "b"]
