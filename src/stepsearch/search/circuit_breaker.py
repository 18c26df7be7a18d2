"""Leaving a server alone that does not answer.

closed      requests go through
open        after so many failures in a row: none goes through until the pause is over
half open   then one goes through; if it succeeds the circuit is closed, else the pause begins anew
"""

import threading
import time
from collections.abc import Callable

from stepsearch.errors import SearchUnavailableError


class CircuitBreaker:
    """Counts failures in a row, and refuses requests while the circuit is open. Safe to use from several threads.

    Args:
        name: whose circuit it is, for the message.
        failures: how many in a row open it.
        pause_seconds: how long it then stays open.
        clock: seconds that only grow.
    """

    def __init__(
        self, name: str, failures: int, pause_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._limit = failures
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._lock = threading.Lock()

    def admit(self) -> None:
        """Let a request through.

        Raises:
            SearchUnavailableError: the circuit is open.
        """
        with self._lock:
            if self._open_until is None:
                return
            left = self._open_until - self._clock()
            if left > 0:
                raise SearchUnavailableError(f"{self._name} failed before, and is left alone for another {left:.1f} s")
            # Half open: this one is the probe, and others wait for what comes of it.
            self._open_until = self._clock() + self._pause_seconds

    def succeeded(self) -> None:
        """Note that the server answered."""
        with self._lock:
            self._failures = 0
            self._open_until = None

    def failed(self) -> None:
        """Note that the server did not answer."""
        with self._lock:
            self._failures += 1
            if self._failures >= self._limit:
                self._open_until = self._clock() + self._pause_seconds

    def open_for(self, seconds: float) -> None:
        """Refuse requests for at least so long, as the server asked for."""
        with self._lock:
            until = self._clock() + seconds
            self._open_until = until if self._open_until is None else max(self._open_until, until)
