"""Processor and wall time by part, noted at the borders of a program that does not know of it."""

import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from functools import wraps
from statistics import median
from typing import Any


class Ledger:
    """Seconds by part since it was last cleared."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = defaultdict(float)
        self.wall: dict[str, float] = defaultdict(float)

    def clear(self) -> None:
        """Start anew."""
        self.cpu.clear()
        self.wall.clear()

    @contextmanager
    def noting(self, part: str, *, own_thread: bool = False) -> Generator[None]:
        """Add what happens inside to a part: all processor time of the process, or that of this thread alone."""
        clock = time.thread_time if own_thread else time.process_time
        cpu, wall = clock(), time.perf_counter()
        try:
            yield
        finally:
            self.cpu[part] += clock() - cpu
            self.wall[part] += time.perf_counter() - wall

    def watch(self, part: str, owner: Any, method: str, *, own_thread: bool = False) -> None:
        """Note every call of that method of that one object from now on."""
        original = getattr(owner, method)

        @wraps(original)
        def noted(*arguments: Any, **named: Any) -> Any:
            with self.noting(part, own_thread=own_thread):
                return original(*arguments, **named)

        setattr(owner, method, noted)


def spread(values: list[float], form: str = ".2f") -> str:
    """Return min / median / max."""
    return " / ".join(f"{value:{form}}" for value in (min(values), median(values), max(values)))
