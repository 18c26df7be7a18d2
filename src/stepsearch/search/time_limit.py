"""Waiting for a call that may never return."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


class OverdueError(Exception):
    """A call took longer than it was given."""


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """Return what `function` returns, or raise what it raises, if it does so within `seconds`.

    A call that takes longer is left alone in its thread, which does not keep the program from ending; what it returns
    later is dropped.

    Raises:
        OverdueError: the time is over, or there was none left to begin with.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    if seconds > 0:
        thread = threading.Thread(target=run, name="search", daemon=True)
        thread.start()
        thread.join(seconds)
    if not future.done():
        raise OverdueError(f"no answer within {max(seconds, 0):.3g} seconds")
    return future.result()
