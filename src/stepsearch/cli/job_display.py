"""What `stepsearch compare` shows: one bar for all jobs with the time left, one for each that runs; lines in a log."""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import TaskID

from stepsearch.cli.progress import bar_on_terminal, say

_PLAIN_LINE_SECONDS = 30.0
# Steps are long: a speed over the last seconds says nothing.
_SPEED_SECONDS = 600.0


class JobDisplay:
    """Shows jobs.

    Args:
        console: where to show; plain lines are printed unless it is a terminal.
        weights: the rough share of the time of every job that is to run, by label.
        finished: how many jobs were finished before.
    """

    def __init__(self, console: Console, weights: Mapping[str, float], finished: int) -> None:
        self._console = console
        self._weights = weights
        self._shares = dict.fromkeys(weights, 0.0)
        self._finished = finished
        self._count = finished + len(weights)
        self._started = self._last_line = time.perf_counter()
        self._tasks: dict[str, TaskID] = {}
        self._bar = bar_on_terminal(console, _SPEED_SECONDS)
        self._all = self._bar.add_task("", total=sum(weights.values()) or 1.0)

    @contextmanager
    def running(self) -> Generator["JobDisplay"]:
        """Show the bars while the block runs."""
        self._update()
        with self._bar:
            yield self

    def begin(self, label: str) -> None:
        """Show a job that starts."""
        self._tasks[label] = self._bar.add_task(label, total=1.0)
        self._print(label)

    def report(self, label: str, share: float, note: str) -> None:
        """Show how far a job is."""
        self._shares[label] = share
        self._bar.update(self._tasks[label], completed=share, description=f"{label}: {note}")
        self._update()
        if time.perf_counter() - self._last_line >= _PLAIN_LINE_SECONDS:
            self._last_line = time.perf_counter()
            self._print(f"{label}: {note} ({self._words()})")

    def end(self, label: str) -> None:
        """Take a finished job away."""
        self._shares[label] = 1.0
        self._finished += 1
        self._bar.remove_task(self._tasks.pop(label))
        self._update()
        self._print(f"{label}: finished ({self._words()})")

    def _update(self) -> None:
        done = sum(self._weights[label] * share for label, share in self._shares.items())
        self._bar.update(self._all, completed=done, description=f"{self._finished} of {self._count} parts")

    def _words(self) -> str:
        done = sum(self._weights[label] * share for label, share in self._shares.items())
        elapsed = time.perf_counter() - self._started
        left = f", about {elapsed * (sum(self._weights.values()) / done - 1):.0f} s left" if done else ""
        return f"{self._finished} of {self._count} parts, {elapsed:.0f} s{left}"

    def _print(self, line: str) -> None:
        if not self._console.is_terminal:
            say(self._console, line)
