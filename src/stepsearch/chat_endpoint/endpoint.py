"""A client of any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stepsearch.chat_endpoint.messages import ChatFailure, ChatReply, ChatRequest, most_tokens, request_key
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
from stepsearch.errors import EndpointError

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)

OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4o"
# An endpoint that leaves so many requests in a row without an answer is down, and will leave the rest as well.
_UNANSWERED_IN_A_ROW = 10
_LONGEST_WAIT_SECONDS = 600.0
_ADAPTABLE = ("max_tokens", "temperature", "response_format", "seed")


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
        self._client = _open_client(settings, self.base_url)
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
            self._usage = _added(self._usage, result, retries)
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
            try:
                return _read_completion(
                    self._client.chat.completions.create(**_arguments(request, self.model, self._unsupported))
                )
            except ValueError as error:
                raise UnreadableReplyError(f"the reply is no whole JSON: {error}") from None
            except Exception as error:
                refused = refused_parameter(error, _ADAPTABLE)
                if refused is None or refused in self._unsupported:
                    raise
                logger.warning("%s does not support %s: going on without it", self.base_url, refused)
                self._unsupported |= {refused}


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


def _added(usage: ChatUsage, result: ChatReply | ChatFailure, retries: int) -> ChatUsage:
    usage = replace(usage, retries=usage.retries + retries)
    if isinstance(result, ChatFailure):
        if result.over_budget:
            return replace(usage, over_budget=usage.over_budget + 1)
        return replace(usage, failures=usage.failures + 1)
    if result.cached:
        return replace(
            usage,
            cached=usage.cached + 1,
            cached_prompt_tokens=usage.cached_prompt_tokens + result.prompt_tokens,
            cached_completion_tokens=usage.cached_completion_tokens + result.completion_tokens,
        )
    return replace(
        usage,
        replies=usage.replies + 1,
        prompt_tokens=usage.prompt_tokens + result.prompt_tokens,
        completion_tokens=usage.completion_tokens + result.completion_tokens,
    )


def _open_client(settings: EndpointSettings, base_url: str) -> openai.OpenAI:
    # Imported here: an optional part, and a second of start-up that only its users wait for.
    try:
        import openai
    except ImportError:
        raise EndpointError('asking an endpoint needs the openai client: pip install "stepsearch[openai]"') from None
    api_key = settings.api_key or os.environ.get("OPENAI_API_KEY")
    if not api_key and base_url == OPENAI_URL:
        raise EndpointError(
            f"no key for {OPENAI_URL}: set OPENAI_API_KEY, or name another endpoint with OPENAI_BASE_URL"
        )
    if not base_url.startswith(("http://", "https://")):
        raise EndpointError(f"the endpoint {base_url} is no address: it must start with http:// or https://")
    return openai.OpenAI(api_key=api_key or "none", base_url=base_url, timeout=settings.timeout_seconds, max_retries=0)


def _arguments(request: ChatRequest, model: str, unsupported: frozenset[str]) -> dict[str, Any]:
    """Return what the `openai` client is called with, without what the endpoint does not support."""
    arguments: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.stop:
        arguments["stop"] = list(request.stop)
    if request.seed is not None:
        arguments["seed"] = request.seed
    if request.schema is not None:
        schema = {"name": "reply", "strict": True, "schema": dict(request.schema)}
        arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
    if "max_tokens" in unsupported:
        # What newer models of OpenAI's call it.
        arguments["max_completion_tokens"] = request.max_tokens
    return {name: value for name, value in arguments.items() if name not in unsupported}


def _read_completion(completion: Any) -> ChatReply:
    """Return the reply in what the client returned.

    Raises:
        UnreadableReplyError: it is no chat completion.
    """
    try:
        choice = completion.choices[0]
        usage = completion.usage
        return ChatReply(
            text=choice.message.content or "",
            prompt_tokens=0 if usage is None else usage.prompt_tokens,
            completion_tokens=0 if usage is None else usage.completion_tokens,
            finish_reason=choice.finish_reason or "",
        )
    except (AttributeError, IndexError, TypeError):
        raise UnreadableReplyError(f"the reply is no chat completion: {str(completion)[:100]!r}") from None
