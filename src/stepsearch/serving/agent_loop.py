"""The episodes of many clients, played together by one thread."""

import asyncio
import contextlib
import itertools
import logging
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from stepsearch.errors import DataError, ModelError
from stepsearch.rollout import EpisodeEvent, Flight, RolloutRunner
from stepsearch.serving.batched_search import OverloadedError
from stepsearch.types import Question

logger = logging.getLogger(__name__)

Order = Callable[[Flight], None]


@dataclass(frozen=True, slots=True)
class _Client:
    """Waits, in its own event loop, for what happens to its episode."""

    events: asyncio.Queue[EpisodeEvent | Exception] = field(default_factory=asyncio.Queue[EpisodeEvent | Exception])
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def tell(self, event: EpisodeEvent | Exception) -> None:
        # A loop that has ended has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class AgentLoop:
    """Answers questions as they come; all that are open share the engine's steps and the search's batches.

    Args:
        runner: makes and plays the episodes; nobody else uses it meanwhile.
        max_open: questions accepted and not yet answered.
    """

    def __init__(self, runner: RolloutRunner, max_open: int) -> None:
        self._runner = runner
        self._max_open = max_open
        self._indices = itertools.count()
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._clients: dict[int, _Client] = {}
        self._thread = threading.Thread(target=self._play, name="agent", daemon=True)
        self.open = 0
        self.failure: Exception | None = None

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more; who still waits is told so."""
        self._orders.put(None)
        self._thread.join()

    async def ask(
        self, question: Question, seed: int, temperature: float | None = None
    ) -> AsyncGenerator[EpisodeEvent]:
        """Yield what happens to a question's episode, the last event being that it has finished.

        Who stops listening ends the episode.

        Args:
            question: what is asked.
            seed: decides the sampling noise, whatever else is asked meanwhile.
            temperature: default: the runner's.

        Raises:
            OverloadedError: too many questions are open.
            DataError: the question does not fit the context.
            ModelError: the loop has ended.
        """
        if self.failure is not None:
            raise self.failure
        if self.open >= self._max_open:
            raise OverloadedError(f"{self._max_open} questions are open")
        index, client = next(self._indices), _Client()
        self.open += 1
        try:
            self._orders.put(partial(self._begin, index, client, question, seed, temperature))
            event = None
            while event is None or event.kind != "finished":
                event = await client.events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.open -= 1
            self._orders.put(partial(self._drop, index))

    def _play(self) -> None:
        """Follow orders and play, until told to stop or something breaks."""
        try:
            with self._runner.open(self._tell) as flight:
                for order in self._followed(flight):
                    order(flight)
            self.failure = ModelError("the server is stopping")
        except Exception as error:
            logger.exception("the agent broke")
            self.failure = ModelError(f"the agent broke ({error}); the server's log says how")
        for client in self._clients.values():
            client.tell(self.failure)

    def _followed(self, flight: Flight) -> Iterator[Order]:
        """Yield orders as they come, and play between them; wait for one where there is nothing to play."""
        while True:
            try:
                order = self._orders.get(block=not len(flight))
            except queue.Empty:
                flight.advance()
                continue
            if order is None:
                return
            yield order

    def _begin(
        self, index: int, client: _Client, question: Question, seed: int, temperature: float | None, flight: Flight
    ) -> None:
        try:
            (episode,) = self._runner.episodes([question])
        except DataError as error:
            client.tell(error)
            return
        self._clients[index] = client
        flight.begin(index, episode, seed, temperature)

    def _drop(self, index: int, flight: Flight) -> None:
        self._clients.pop(index, None)
        flight.drop(index)

    def _tell(self, event: EpisodeEvent) -> None:
        self._clients[event.index].tell(event)
