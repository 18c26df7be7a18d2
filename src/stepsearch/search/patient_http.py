"""Requests over pooled connections that are tried again for as long as it makes sense, and no longer.

What is tried again, after a pause that doubles and is never the same: no connection, no whole answer in time, HTTP 408,
425, 429 and 5xx, and what the reader of an answer says is temporary. A server's Retry-After is waited for; one that is
longer than a try may take is not, and nothing is sent until it is over. After too many failures in a row a circuit
breaker leaves the server alone for a while.
"""

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stepsearch.config import SearchSettings
from stepsearch.errors import SearchError, SearchUnavailableError
from stepsearch.retry_after import retry_after_seconds
from stepsearch.search.circuit_breaker import CircuitBreaker
from stepsearch.search.rate_limit import RateLimit
from stepsearch.search.server_message import printable_line

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

CONNECTIONS = 8
CONNECT_SECONDS = 10.0
LONGEST_ANSWER = 64 * 2**20

# Answers that have nothing to do with what was asked, only with when.
_BUSY = frozenset({408, 425, 429, 502, 503, 504})
# Answers that no other query would get better.
_REFUSED = frozenset({401, 403, 404, 405})


class TryLaterError(Exception):
    """A request failed, and may succeed when it is made again.

    Args:
        reason: what happened.
        retry_after: seconds that the server asked to wait.
        query_at_fault: whether another query could have succeeded.
    """

    def __init__(self, reason: str, retry_after: float | None = None, query_at_fault: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.query_at_fault = query_at_fault


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is sent; `body` as JSON."""

    method: str
    url: str
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Any = None


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait."""
        return retry_after_seconds(self.headers)

    def json(self) -> Any:
        """Return the body's JSON value.

        Raises:
            TryLaterError: it is none, as when a proxy answers in the server's place.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            start = self.body[:60].decode("utf-8", "replace")
            raise TryLaterError(f"the answer is not JSON: {start!r}", query_at_fault=True) from None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try.

    Attributes:
        timeout_seconds: for one try; also the longest Retry-After that is waited for.
        retries: further tries.
        backoff_seconds: pause before the first of them, which then doubles.
        circuit_failures: failed requests in a row, tries included, that open the circuit.
        circuit_pause_seconds: how long it stays open.
    """

    timeout_seconds: float = 30.0
    retries: int = 2
    backoff_seconds: float = 0.5
    circuit_failures: int = 3
    circuit_pause_seconds: float = 10.0

    @classmethod
    def of(cls, settings: SearchSettings) -> "Patience":
        """Return the patience that settings ask for."""
        return cls(
            settings.timeout_seconds,
            settings.retries,
            settings.backoff_seconds,
            settings.circuit_failures,
            settings.circuit_pause_seconds,
        )


class PatientClient:
    """Sends requests to one server. Safe to use from several threads.

    Args:
        server: its address, for messages.
        patience: how long to try.
        headers: sent with every request.
        rate_limit: how often a try may be made.
        sleep: waits so many seconds.

    Raises:
        SearchError: the environment names a proxy that cannot be used.
    """

    def __init__(
        self,
        server: str,
        patience: Patience,
        headers: Mapping[str, str] | None = None,
        rate_limit: RateLimit | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        import httpx  # Slow to import, and most runs search without it.

        self._server = server
        self._patience = patience
        self._rate_limit = rate_limit
        self._sleep = sleep
        self._circuit = CircuitBreaker(server, patience.circuit_failures, patience.circuit_pause_seconds)
        # It logs every request, which would drown the training log.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        seconds = patience.timeout_seconds
        try:
            self._client = httpx.Client(
                headers=dict(headers or {}),
                timeout=httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds)),
                limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            # All else is given: a proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names badly.
            raise SearchError(f"{server} cannot be asked through the proxy of the environment: {error}") from None

    def ask(self, request: HttpRequest, read: Callable[[HttpReply], Value]) -> Value:
        """Return what `read` makes of the server's answer.

        Args:
            request: sent until it succeeds or the tries are spent.
            read: gets answers with a status of success; may raise TryLaterError, or SearchError for what is final.

        Raises:
            SearchUnavailableError: the server gives no answer, whatever is asked.
            SearchError: it has no answer to this request.
        """
        for attempt in range(self._patience.retries + 1):
            self._circuit.admit()
            try:
                value = read(self._send(request))
            except TryLaterError as error:
                if self._is_over(attempt, error):
                    raise self._given_up(attempt, error) from None
                self._sleep(self._pause(attempt, error.retry_after))
            except SearchError:
                self._circuit.succeeded()
                raise
            else:
                self._circuit.succeeded()
                return value
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _is_over(self, attempt: int, error: TryLaterError) -> bool:
        last = attempt == self._patience.retries
        logger.info("%s: try %d of %d failed: %s", self._server, attempt + 1, self._patience.retries + 1, error)
        return last or (error.retry_after or 0) > self._patience.timeout_seconds

    def _given_up(self, attempt: int, error: TryLaterError) -> SearchError:
        self._circuit.failed()
        if error.retry_after is not None:
            self._circuit.open_for(error.retry_after)
        kind = SearchError if error.query_at_fault else SearchUnavailableError
        tries = "1 try" if attempt == 0 else f"{attempt + 1} tries"
        return kind(f"{self._server} failed after {tries}: {error}")

    def _pause(self, attempt: int, retry_after: float | None) -> float:
        # Clients that failed together shall not come back together.
        return (retry_after or 0) + self._patience.backoff_seconds * 2**attempt * random.uniform(0.5, 1)

    def _send(self, request: HttpRequest) -> HttpReply:
        import httpx

        if self._rate_limit is not None:
            self._rate_limit.wait()
        try:
            reply = self._exchange(request)
        except httpx.TimeoutException as error:
            raise TryLaterError(f"no answer within {self._patience.timeout_seconds:g} s ({_name(error)})") from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise SearchUnavailableError(f"{self._server} is no address that can be asked: {error}") from None
        except httpx.HTTPError as error:
            raise TryLaterError(str(error) or _name(error)) from None
        _check_status(self._server, reply)
        return reply

    def _exchange(self, request: HttpRequest) -> HttpReply:
        """Return the answer, read while there is time: httpx limits only the wait for each piece of it."""
        deadline = time.monotonic() + self._patience.timeout_seconds
        body = bytearray()
        # Escaped to ASCII, for a query may hold half a surrogate pair, which UTF-8 cannot.
        content = None if request.body is None else json.dumps(request.body).encode()
        headers = {} if content is None else {"content-type": "application/json"}
        with self._client.stream(
            request.method, request.url, params=dict(request.parameters) or None, content=content, headers=headers
        ) as response:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > LONGEST_ANSWER:
                    raise SearchError(f"{self._server} answers with more than {LONGEST_ANSWER >> 20} MiB")
                if time.monotonic() > deadline:
                    raise TryLaterError(f"no whole answer within {self._patience.timeout_seconds:g} s")
            return HttpReply(response.status_code, response.headers, bytes(body))


def _check_status(server: str, reply: HttpReply) -> None:
    status = reply.status
    said = printable_line(reply.body[:1000].decode("utf-8", "replace"))
    problem = f"HTTP {status}" + (f" ({said})" if said else "")
    if status in _BUSY:
        raise TryLaterError(problem, reply.retry_after)
    if status >= 500:
        raise TryLaterError(problem, reply.retry_after, query_at_fault=True)
    if status in _REFUSED or 300 <= status < 400:
        where = printable_line(reply.headers.get("location", ""))
        raise SearchUnavailableError(f"{server} refuses: {problem}" + (f", and points to {where}" if where else ""))
    if status >= 400:
        raise SearchError(f"{server} refuses the request: {problem}")


def _name(error: Exception) -> str:
    return type(error).__name__
