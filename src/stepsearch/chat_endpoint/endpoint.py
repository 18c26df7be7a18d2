"""A client of any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from stepsearch.chat_endpoint.messages import (
    ChatFailure,
    ChatReply,
    ChatRequest,
    most_tokens,
    request_key,
)
from stepsearch.chat_endpoint.reply_cache import ReplyCache
from stepsearch.chat_endpoint.spending import Budget, ChatUsage
from stepsearch.chat_endpoint.trouble import (
    Reaction,
    UnreadableReplyError,
    explain,
    pause_seconds,
    reaction_to,
    refused_parameter,
)
from stepsearch.chat_endpoint.wire import DISPENSABLE, OPENAI_URL, arguments_of, open_client, read_completion
from stepsearch.errors import EndpointError

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "gpt-4o"
# An endpoint that leaves so many requests in a row without an answer is down, and will leave the rest as well.
_UNANSWERED_IN_A_ROW = 10
_LONGEST_WAIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Which model, where, and how it is asked.

    Attributes:
        model: as the endpoint calls it.
        base_url: with its `/v1`; None: `OPENAI_BASE_URL`, else OpenAI's own.
        api_key: None: `OPENAI_API_KEY`. Only OpenAI's own endpoint insists on one.
        concurrency: requests under way at the same time.
        timeout_seconds: how long the endpoint may be silent before a try has failed.
        retries: further tries of a request.
        backoff_seconds: pause before the first of them; doubles each time, unless the endpoint says how long.
    """

    model: str = DEFAULT_MODEL
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    concurrency: int = 8
    timeout_seconds: float = 60.0
    retries: int = 6
    backoff_seconds: float = 1.0


def resolved_base_url(settings: EndpointSettings) -> str:
    """Return where requests go."""
    return (settings.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")


class ChatEndpoint:
    """Answers chat requests, several at a time, each paid for once.

    Args:
        settings: which model, and how it is asked.
        cache: replies that were paid for; by default those of this process.
        budget: how much may be spent by this object; what the cache has costs nothing.

    Raises:
        EndpointError: the `openai` client is not installed, or there is no key for OpenAI's own endpoint.
    """

    def __init__(
        self, settings: EndpointSettings, cache: ReplyCache | None = None, budget: Budget | None = None
    ) -> None:
        self.model = settings.model
        self.base_url = resolved_base_url(settings)
        self.budget = budget or Budget()
        self._settings = settings
        self._cache = ReplyCache() if cache is None else cache
        self._client = open_client(self.base_url, settings.api_key, settings.timeout_seconds)
        self._usage = ChatUsage()
        self._lock = threading.Lock()
        self._not_before = 0.0
        self._unsupported: frozenset[str] = frozenset()
        self._unanswered_in_a_row = 0

    @property
    def usage(self) -> ChatUsage:
        """What was asked and spent so far."""
        return self._usage

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def complete(self, request: ChatRequest) -> ChatReply | ChatFailure:
        """Return the reply to one request; see `complete_many`."""
        return next(iter(self.complete_many([request])))[1]

    def complete_many(self, requests: Iterable[ChatRequest]) -> Generator[tuple[int, ChatReply | ChatFailure]]:
        """Yield the outcome of every request with its place in `requests`, as soon as it is there.

        Requests are drawn as they are sent. Where the next one might exceed the budget, even at its longest reply,
        those under way are waited for; if it still might, it is not sent. When the caller leaves early (a closed
        generator, Ctrl-C), replies under way are waited for and kept: they are paid.

        Raises:
            EndpointError: the endpoint refuses the key or the model, or does not answer any more.
            DataError: the cache cannot be written.
        """
        leaving = threading.Event()
        pool = ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="chat")
        under_way: dict[Future[_Outcome], _Sent] = {}
        try:
            for index, request in enumerate(requests):
                key = request_key(self.base_url, self.model, request)
                if (reply := self._cache.get(key)) is not None:
                    yield index, self._count(reply)
                    continue
                twin = next((sent for sent in under_way.values() if sent.key == key), None)
                if twin is not None:
                    twin.indices.append(index)
                    continue
                while under_way and not self._has_room(request, under_way.values()):
                    yield from self._collect(under_way)
                if self._is_covered(request, under_way.values()):
                    sent = _Sent(key, [index], most_tokens(request))
                    under_way[pool.submit(self._answer, request, key, leaving)] = sent
                else:
                    yield index, self._count(ChatFailure(f"the budget of {self.budget} is spent", over_budget=True))
            while under_way:
                yield from self._collect(under_way)
        finally:
            leaving.set()
            if under_way:
                logger.warning("waiting for %d replies under way (Ctrl-C again drops them)", len(under_way))
            pool.shutdown(wait=True, cancel_futures=True)

    def _has_room(self, request: ChatRequest, under_way: Iterable[_Sent]) -> bool:
        sent = list(under_way)
        return len(sent) < self._settings.concurrency and self._is_covered(request, sent)

    def _is_covered(self, request: ChatRequest, under_way: Iterable[_Sent]) -> bool:
        bounds = [most_tokens(request), *(sent.most_tokens for sent in under_way)]
        return self.budget.covers(
            self._usage.prompt_tokens + sum(prompt for prompt, _ in bounds),
            self._usage.completion_tokens + sum(completion for _, completion in bounds),
        )

    def _collect(self, under_way: dict[Future[_Outcome], _Sent]) -> list[tuple[int, ChatReply | ChatFailure]]:
        """Return the outcomes of the requests that are finished, waiting for at least one."""
        finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
        collected: list[tuple[int, ChatReply | ChatFailure]] = []
        for future in finished:
            sent = under_way.pop(future)
            outcome = future.result()
            first, *twins = sent.indices
            collected.append((first, self._count(outcome.result, outcome.retries)))
            repeated = replace(outcome.result, cached=True) if isinstance(outcome.result, ChatReply) else outcome.result
            collected += [(index, self._count(repeated)) for index in twins]
            self._stop_if_down(outcome)
        return collected

    def _count(self, result: ChatReply | ChatFailure, retries: int = 0) -> ChatReply | ChatFailure:
        with self._lock:
            self._usage = self._usage.plus(result, retries)
        return result

    def _stop_if_down(self, outcome: _Outcome) -> None:
        self._unanswered_in_a_row = self._unanswered_in_a_row + 1 if outcome.unanswered else 0
        if isinstance(outcome.result, ChatFailure) and self._unanswered_in_a_row >= _UNANSWERED_IN_A_ROW:
            raise EndpointError(
                f"{self.base_url} did not answer {self._unanswered_in_a_row} requests in a row "
                f"({outcome.result.reason}): replies so far are kept, run it again to go on"
            )

    def _answer(self, request: ChatRequest, key: str, leaving: threading.Event) -> _Outcome:
        """Ask until there is a reply, which is kept, or the tries are spent. Runs in a thread of the pool."""
        import openai

        for attempt in range(self._settings.retries + 1):
            self._wait_for_turn(leaving)
            if leaving.is_set():
                return _Outcome(ChatFailure("interrupted"), attempt)
            try:
                reply = self._ask(request)
            except (openai.OpenAIError, UnreadableReplyError) as error:
                failed = self._react(error, attempt, leaving)
                if failed is not None:
                    return failed
            else:
                self._cache.put(key, reply)
                return _Outcome(reply, attempt)
        raise AssertionError("the last try returns")

    def _react(self, error: Exception, attempt: int, leaving: threading.Event) -> _Outcome | None:
        """Wait until it is time for the next try, or return that there will be none.

        Raises:
            EndpointError: no other request would be answered either.
        """
        reaction = reaction_to(error)
        if reaction is Reaction.STOP:
            raise EndpointError(f"{self.base_url} refuses model {self.model}: {explain(error)}")
        if reaction is Reaction.GIVE_UP:
            return _Outcome(ChatFailure(explain(error)), attempt)
        pause = pause_seconds(attempt, self._settings.backoff_seconds, error)
        if attempt == self._settings.retries or pause > _LONGEST_WAIT_SECONDS:
            return _Outcome(ChatFailure(explain(error)), attempt, unanswered=True)
        logger.info("try %d failed, the next in %.1f s: %s", attempt + 1, pause, explain(error))
        self._hold_back(error, pause)
        leaving.wait(pause)
        return None

    def _hold_back(self, error: Exception, pause: float) -> None:
        """Let no request be sent before a rate limit is over: others would only meet it too."""
        if getattr(error, "status_code", None) == 429:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + pause)

    def _wait_for_turn(self, leaving: threading.Event) -> None:
        while (pause := self._not_before - time.monotonic()) > 0 and not leaving.wait(pause):
            pass

    def _ask(self, request: ChatRequest) -> ChatReply:
        """Send a request once; again only where the endpoint does not know one of its parameters."""
        while True:
            without = self._unsupported
            try:
                arguments = arguments_of(request, self.model, without)
                return read_completion(self._client.chat.completions.create(**arguments), request)
            except ValueError as error:
                raise UnreadableReplyError(f"the reply is no whole JSON: {error}") from None
            except Exception as error:
                refused = refused_parameter(error, DISPENSABLE)
                if refused is None or refused in without:
                    raise
                self._go_without(refused)

    def _go_without(self, parameter: str) -> None:
        with self._lock:
            if parameter not in self._unsupported:
                logger.warning("%s does not support %s: going on without it", self.base_url, parameter)
                self._unsupported |= {parameter}


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request under way: the places that wait for it, and the most it can cost."""

    key: str
    indices: list[int]
    most_tokens: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a request; `unanswered` when its tries were spent waiting for an endpoint that works."""

    result: ChatReply | ChatFailure
    retries: int
    unanswered: bool = False
