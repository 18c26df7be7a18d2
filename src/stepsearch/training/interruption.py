"""Ctrl-C and SIGTERM end a run after a whole step."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class Interruption:
    """Whether somebody has asked the run to end."""

    requested: bool = False


@contextmanager
def noting_interruption() -> Generator[Interruption]:
    """Note the first signal instead of dying of it; a second one acts as it always does.

    Outside the main thread signals cannot be caught, and nothing is changed.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        interruption.requested = True
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield interruption
    finally:
        restore()
