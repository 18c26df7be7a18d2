"""Asking a server no more often than it likes."""

import threading
import time
from collections.abc import Callable


class RateLimit:
    """Spaces requests evenly. Safe to use from several threads, which then queue.

    Args:
        per_second: how many requests may start in a second.
        clock: seconds that only grow.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next request may start."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if turn > now:
            self._sleep(turn - now)
