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

from stepsearch.errors import DataError, ModelError, one_line
from stepsearch.rollout import EpisodeEvent, Flight, RolloutRunner
from stepsearch.serving.refusal import OverloadedError
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
        # Held where one comes and where all are told the end, so that nobody comes between and waits for ever.
        self._door = threading.Lock()
        self._clients: dict[int, _Client] = {}
        self._thread = threading.Thread(target=self._play, name="agent", daemon=True)
        self.failure: str | None = None

    @property
    def open(self) -> int:
        """How many questions are accepted and not yet answered."""
        return len(self._clients)

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
        index, client = next(self._indices), _Client()
        with self._door:
            if self.failure is not None:
                raise ModelError(self.failure)
            if self.open >= self._max_open:
                raise OverloadedError(f"{self._max_open} questions are open")
            self._clients[index] = client
        try:
            self._orders.put(partial(self._begin, index, question, seed, temperature))
            event = None
            while event is None or event.kind != "finished":
                event = await client.events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            with self._door:
                del self._clients[index]
            self._orders.put(partial(Flight.drop, index=index))

    def _play(self) -> None:
        """Follow orders and play, until told to stop or something breaks."""
        try:
            with self._runner.open(lambda event: self._tell(event.index, event)) as flight:
                for order in self._followed(flight):
                    order(flight)
        except Exception as error:
            logger.exception("the agent broke")
            self._end(f"the agent broke ({one_line(error)}); the server's log says how")
        else:
            self._end("the server is stopping")

    def _end(self, why: str) -> None:
        """Tell all who wait, begun with or not, and all who come, why there is no answer."""
        with self._door:
            self.failure = why
            waiting = list(self._clients.values())
        for client in waiting:
            client.tell(ModelError(why))

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

    def _begin(self, index: int, question: Question, seed: int, temperature: float | None, flight: Flight) -> None:
        try:
            (episode,) = self._runner.episodes([question])
        except DataError as error:
            self._tell(index, error)
        else:
            flight.begin(index, episode, seed, temperature)

    def _tell(self, index: int, event: EpisodeEvent | Exception) -> None:
        client = self._clients.get(index)
        if client is not None:
            client.tell(event)
