"""What a long command shows while it works: a bar with the stage and the time left, or plain lines in a log."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stepsearch.progress import Advance

_PLAIN_LINE_SECONDS = 10.0
_LOG_WIDTH = 120

Report = Callable[[float, str], None]
"""Told which share of a job is done by now, and a few words on how it stands."""


class StageDisplay(Protocol):
    """Shows which stage of some work is running, and how far it is."""

    def stage(self, name: str) -> AbstractContextManager[Advance]:
        """Name the running stage, and hand over what its work calls."""
        ...

    def skip(self, name: str) -> None:
        """Count a stage that need not run."""
        ...


def open_console() -> Console:
    """Return the console on standard output; what is piped or logged gets lines of a fixed width."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_LOG_WIDTH)


def say(console: Console, text: str, style: str = "") -> None:
    """Print text as it is: no markup is read in it, and a terminal breaks its lines, so that paths can be copied."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def bar_on_terminal(console: Console, speed_seconds: float = 30.0) -> Progress:
    """Return bars with the time passed and the time left, which goes by the speed over the last `speed_seconds`."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=speed_seconds,
    )


def _left(share: float, seconds: float) -> str:
    """Return how long the rest will take if it goes on as it did; nothing while that cannot be told."""
    return f", {seconds * (1 - share) / share:.0f} s left" if 0 < share < 1 else ""


class StageProgress:
    """One bar over several stages of unequal length.

    Args:
        console: where to show; plain lines are printed unless it is a terminal.
        shares: every stage's name, in order, with its rough share of the time.
    """

    def __init__(self, console: Console, shares: Mapping[str, float]) -> None:
        self._console = console
        self._shares = {name: share / sum(shares.values()) for name, share in shares.items()}
        self._done = 0.0
        self._bar = bar_on_terminal(console)
        self._task = self._bar.add_task("", total=1.0)

    @contextmanager
    def running(self) -> Generator["StageProgress"]:
        """Show the bar while the block runs."""
        with self._bar:
            yield self

    @contextmanager
    def stage(self, name: str, total: float = 1.0) -> Generator[Advance]:
        """Name the running stage and hand over what its work calls with how much of `total` it has just done."""
        position = list(self._shares).index(name) + 1
        label = f"[{position}/{len(self._shares)}] {name}" if len(self._shares) > 1 else name
        started = last_line = time.perf_counter()
        done = 0.0
        self._show(label, 0.0)
        self._print(label)

        def advance(amount: float, note: str = "") -> None:
            nonlocal done, last_line
            done += amount
            self._show(f"{label}, {note}" if note else label, self._shares[name] * min(done / total, 1.0))
            if time.perf_counter() - last_line >= _PLAIN_LINE_SECONDS:
                last_line = time.perf_counter()
                share, seconds = min(done / total, 1.0), last_line - started
                line = f"{label}: {share:.0%} after {seconds:.0f} s{_left(share, seconds)}"
                self._print(f"{line}, {note}" if note else line)

        yield advance
        self._done += self._shares[name]
        self._show(label, 0.0)

    def skip(self, name: str) -> None:
        """Count a stage that need not run."""
        self._done += self._shares[name]

    def _show(self, label: str, within: float) -> None:
        self._bar.update(self._task, description=label, completed=self._done + within)

    def _print(self, line: str) -> None:
        if not self._console.is_terminal:
            say(self._console, line)


class JobProgress:
    """Passes the stages of a job on as shares of the whole job.

    Args:
        shares: every stage's rough share of the time, in order.
        report: is told.
    """

    def __init__(self, shares: Mapping[str, float], report: Report) -> None:
        self._shares = {name: share / sum(shares.values()) for name, share in shares.items()}
        self._report = report
        self._done = 0.0

    @contextmanager
    def stage(self, name: str) -> Generator[Advance]:
        """Name the running stage, and hand over what its work calls with the share of it that is done."""
        within = 0.0
        self._report(self._done, name)

        def advance(amount: float, note: str = "") -> None:
            nonlocal within
            within = min(within + amount, 1.0)
            self._report(self._done + self._shares[name] * within, f"{name}, {note}" if note else name)

        yield advance
        self.skip(name)

    def skip(self, name: str) -> None:
        """Count a stage that is over."""
        self._done += self._shares[name]
